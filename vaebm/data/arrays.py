"""Images in one array of an .npz.

A user's file holds `images` (N, H, W, C), (N, C, H, W) or (N, H, W) uint8, C = 1 or 3, as `vaebm sample` writes them,
and may hold `labels` (N,) of whole numbers, names
or dates, which are numbered in their order. A tenth is held out: the rows whose numbers have the smallest SHA-256. From
1,000 images on, the next twentieth is for validation.
"""

import hashlib
import math
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vaebm.data.collection import BLOCK_BYTES, MIN_IMAGES, Block, Collection, parts_by_name
from vaebm.data.files.image import Size, sides
from vaebm.data.files.npz import StoredArray, stored_arrays
from vaebm.errors import InputError

GREY, COLOUR = 1, 3
LABELS = "iubUM"  # kinds of dtypes: whole numbers, truth values, text, dates


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageArray(Collection):
    """Images in an .npz."""

    images: StoredArray  # the array
    white: int = 255  # its value of white
    labels: Tensor | None = None  # (N,) int64
    factors: Tensor | None = None  # (N, K) int64
    used: Tensor | None = None  # (N,) bool, which images there are; None for all

    @property
    def path(self) -> Path:
        return self.images.path

    @property
    def count(self) -> int:
        return self.images.shape[0] if self.used is None else int(self.used.sum())

    @property
    def shape(self) -> tuple[int, int, int]:
        _, *rest = self.images.shape
        if len(rest) == 2:
            return GREY, rest[0], rest[1]
        return (rest[0], rest[1], rest[2]) if rest[2] not in (GREY, COLOUR) else (rest[2], rest[0], rest[1])

    def fingerprint(self) -> str:
        return f"{self.name} {self.path.resolve()} {self.path.stat().st_mtime_ns}"

    def blocks(self, skip: int = 0, workers: int = 1) -> Generator[Block]:
        """Always read by this process from the beginning: what is compressed cannot be entered in the middle."""
        yield from islice(self._blocks(), skip, None)

    def known(self, part: str, skipped: Mapping[str, str]) -> dict[str, Tensor]:
        known = {"labels": self.labels, "factors": self.factors}
        return {what: values[self._rows[part]] for what, values in known.items() if values is not None}

    def _blocks(self) -> Iterator[Block]:
        channels_last = self.images.shape[-1] in (GREY, COLOUR) and len(self.images.shape) == 4
        start = 0
        for rows in self.images.rows(max(1, BLOCK_BYTES // math.prod(self.shape))):
            ordered = rows.transpose(0, 3, 1, 2) if channels_last else rows.reshape(len(rows), *self.shape)
            if self.white < 255 and rows.max() > self.white:
                raise InputError(f"{self.path} holds values above {self.white}: replace it by the published file")
            for part, chosen in self._rows.items():
                images = np.ascontiguousarray(ordered[chosen[start : start + len(rows)].numpy()])
                yield Block(part, images * np.uint8(255 // self.white), self.shape[0] == GREY, len(images))
            start += len(rows)

    @cached_property
    def _rows(self) -> dict[str, Tensor]:
        """Which images are in which split, (N,) bool."""
        first: dict[bytes, str] = {}
        names: list[str | None] = []  # of the first of its copies, so that these stay together; None where not used
        count = 0
        for rows in self.images.rows(max(1, BLOCK_BYTES // math.prod(self.shape))):
            for row in rows:
                if self.used is not None and not self.used[len(names)]:
                    names.append(None)
                    continue
                digest = hashlib.blake2b(row.tobytes(), digest_size=16).digest()
                names.append(first.setdefault(digest, f"{count:08d}"))
                count += 1
        parts = parts_by_name(list(first.values()))
        if not all(parts.values()):
            raise InputError(f"{self.path} holds the same few images again and again: give {MIN_IMAGES} that differ")
        return {part: torch.tensor([name in chosen for name in names]) for part, chosen in parts.items()}


def open_arrays(path: Path, size: Size | None = None) -> ImageArray:
    """The images in a user's .npz, which has to be of this size where that is given.

    Raises:
        InputError: it holds no such images, or labels that do not match.
    """
    arrays = stored_arrays(path)
    plain = {name: array for name, array in arrays.items() if not array.dtype.hasobject}
    images = arrays.get("images") or (next(iter(plain.values())) if len(plain) == 1 else None)
    if images is None or images.dtype != np.uint8 or not _are_images(images.shape):
        listed = ", ".join(f"{name} {a.shape} {a.dtype}" for name, a in arrays.items()) or "no arrays"
        raise InputError(
            f"{path} holds {listed}: give `images` of shape (N, height, width, channels) in uint8, with 1 or 3 channels"
        )
    if images.shape[0] < MIN_IMAGES:
        raise InputError(f"{path} holds {images.shape[0]} images: give at least {MIN_IMAGES}")
    named = ImageArray(name=path.stem, subject=str(path), images=images)
    if size is not None and named.shape[1:] != sides(size):
        raise InputError(
            f"{path} holds images of {named.shape[2]} x {named.shape[1]} pixels, and arrays stay as they are: leave the"
            f" size {size} away, or resize them"
        )
    if "labels" not in arrays:
        return named
    stored = arrays["labels"]
    if stored.shape != images.shape[:1] or stored.dtype.kind not in LABELS:
        raise InputError(
            f"{path}: labels {stored.shape} {stored.dtype} do not match {images.shape[0]} images: give one number or"
            " name an image, or leave them away"
        )
    values, labels = np.unique(stored.all(), return_inverse=True)  # ids and dates are numbered in their order
    classes = tuple(str(value) for value in values)
    return replace(named, labels=torch.from_numpy(labels.astype(np.int64)), class_names=classes)


def _are_images(shape: tuple[int, ...]) -> bool:
    if len(shape) == 4:
        return GREY in (shape[1], shape[3]) or COLOUR in (shape[1], shape[3])
    return len(shape) == 3

"""Images that are published or kept as one array in an .npz: read into memory at once, or chunk by chunk into shards.

A user's file holds `images` (N, H, W, C), (N, C, H, W) or (N, H, W) uint8, C = 1 or 3, as `vaebm sample` writes them,
and may hold `labels` (N,) of whole numbers. A tenth is held out: the rows whose numbers have the smallest SHA-256.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaebm.data.found import found_in_files
from vaebm.data.npz import StoredArray, stored_arrays
from vaebm.data.splits import DataSet, ImageSettings
from vaebm.data.survey import MIN_IMAGES, held_out
from vaebm.errors import InputError

MAX_IN_MEMORY = 2**31
"""Bytes of pixels beyond which a set has to be prepared."""

GREY, COLOUR = 1, 3


@dataclass(frozen=True, eq=False)
class ArraySet:
    """Images in an .npz, before they are read.

    Args:
        name: of the set.
        what: the subject of the sentence on it.
        images: the array.
        white: its value of white.
        labels: (N,) int64.
        class_names: what the labels stand for.
        factors: (N, K) int64.
        factor_names: what the factors stand for.
    """

    name: str
    what: str
    images: StoredArray
    white: int = 255
    labels: Tensor | None = None
    class_names: tuple[str, ...] | None = None
    factors: Tensor | None = None
    factor_names: tuple[str, ...] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        _, *rest = self.images.shape
        if len(rest) == 2:
            return GREY, rest[0], rest[1]
        return (rest[0], rest[1], rest[2]) if rest[2] not in (GREY, COLOUR) else (rest[2], rest[0], rest[1])

    def chunks(self, at_once: int) -> Iterator[NDArray[np.uint8]]:
        """All images in order, at most `at_once` at a time: (n, C, H, W), white 255."""
        last = self.images.shape[-1] in (GREY, COLOUR) and len(self.images.shape) == 4
        for rows in self.images.rows(at_once):
            ordered = rows.transpose(0, 3, 1, 2) if last else rows.reshape(len(rows), *self.shape)
            if self.white < 255 and rows.size and rows.max() > self.white:
                raise InputError(
                    f"{self.images.path} holds values above {self.white}: replace it by the published file"
                )
            yield ordered * np.uint8(255 // self.white)

    def test_rows(self) -> Tensor:
        """(N,) bool: which images are held out."""
        names = [f"{row:08d}" for row in range(self.images.shape[0])]
        chosen = held_out(names)
        return torch.tensor([name in chosen for name in names])

    def load(self, settings: ImageSettings) -> DataSet:
        """All of it in memory.

        Raises:
            InputError: it is too large for that, or damaged.
        """
        count, path = self.images.shape[0], self.images.path
        size = count * int(np.prod(self.shape))
        if size > MAX_IN_MEMORY:
            raise InputError(
                f"{path} holds {count:,} images, which would take {size / 1e9:.0f} GB of memory: make shards of them"
                f" once with `vaebm data prepare {path}`, then use the folder that it names"
            )
        (pixels,) = self.chunks(count)
        images, test = torch.from_numpy(np.ascontiguousarray(pixels)), self.test_rows()
        parts = {
            part: settings.split(
                images[rows],
                None if self.labels is None else self.labels[rows],
                None if self.factors is None else self.factors[rows],
            )
            for part, rows in (("train", ~test), ("test", test))
        }
        return DataSet(
            name=self.name,
            shape=self.shape,
            train=parts["train"],
            test=parts["test"],
            class_names=self.class_names,
            found=found_in_files(self.what, parts, self.class_names),
            factor_names=self.factor_names,
        )


def open_arrays(path: Path) -> ArraySet:
    """The set in a user's .npz.

    Raises:
        InputError: it holds no such images, or labels that do not match.
    """
    arrays = stored_arrays(path)
    images = arrays.get("images") or (next(iter(arrays.values())) if len(arrays) == 1 else None)
    held = ", ".join(f"{name} {a.shape} {a.dtype}" for name, a in arrays.items()) or "no arrays"
    if images is None or images.dtype != np.uint8 or not _are_images(images.shape):
        raise InputError(
            f"{path} holds {held}: give `images` of shape (N, height, width, channels) in uint8, with 1 or 3 channels"
        )
    if images.shape[0] < MIN_IMAGES:
        raise InputError(f"{path} holds {images.shape[0]} images: give at least {MIN_IMAGES}")
    labels, classes = None, None
    if "labels" in arrays:
        stored = arrays["labels"]
        if stored.shape != images.shape[:1] or stored.dtype.kind not in "iu":
            raise InputError(
                f"{path}: labels {stored.shape} {stored.dtype} do not match {images.shape[0]} images: give one whole"
                " number an image, or leave them away"
            )
        labels = torch.from_numpy(stored.all().astype(np.int64))
        if int(labels.min()) < 0:
            raise InputError(f"{path} has negative labels: number the classes from 0")
        classes = tuple(str(number) for number in range(int(labels.max()) + 1))
    return ArraySet(path.stem, str(path), images, labels=labels, class_names=classes)


def _are_images(shape: tuple[int, ...]) -> bool:
    if len(shape) == 4:
        return GREY in (shape[1], shape[3]) or COLOUR in (shape[1], shape[3])
    return len(shape) == 3

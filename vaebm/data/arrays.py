"""Images in one array of an .npz: read into memory at once, or chunk by chunk to be prepared.

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

from vaebm.data.describe import describe_set
from vaebm.data.files.npz import StoredArray, stored_arrays
from vaebm.data.manifest import MIN_IMAGES, fits_in_memory, held_out
from vaebm.data.settings import ImageSettings
from vaebm.data.splits import DataSet
from vaebm.errors import InputError
from vaebm.progress import Progress

GREY, COLOUR = 1, 3


@dataclass(frozen=True, eq=False)
class ImageArray:
    """Images in an .npz, before they are read.

    Args:
        name: of the set.
        subject: what the images are, for the sentence that describes them.
        images: the array.
        white: its value of white.
        labels: (N,) int64.
        class_names: what the labels stand for.
        factors: (N, K) int64.
        factor_names: what the factors stand for.
    """

    name: str
    subject: str
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

    def fingerprint(self) -> str:
        """What tells these images from others."""
        return f"{self.name} {self.images.path.resolve()} {self.images.path.stat().st_mtime_ns}"

    def chunks(self, at_once: int) -> Iterator[NDArray[np.uint8]]:
        """All images in order, at most `at_once` at a time: (n, C, H, W), white 255."""
        channels_last = self.images.shape[-1] in (GREY, COLOUR) and len(self.images.shape) == 4
        for rows in self.images.rows(at_once):
            ordered = rows.transpose(0, 3, 1, 2) if channels_last else rows.reshape(len(rows), *self.shape)
            if self.white < 255 and rows.size and rows.max() > self.white:
                raise InputError(
                    f"{self.images.path} holds values above {self.white}: replace it by the published file"
                )
            yield ordered * np.uint8(255 // self.white)

    def rows(self) -> dict[str, Tensor]:
        """Which images are in which split, (N,) bool."""
        names = [f"{row:08d}" for row in range(self.images.shape[0])]
        chosen = held_out(names)
        test = torch.tensor([name in chosen for name in names])
        return {"train": ~test, "test": test}

    def kept(self) -> dict[str, Tensor]:
        """What is known of each image, by its name: `labels` (N,) and `factors` (N, K), where there are any."""
        known = {"labels": self.labels, "factors": self.factors}
        return {name: values for name, values in known.items() if values is not None}

    def load(self, settings: ImageSettings, progress: Progress) -> DataSet:
        """All of it in memory.

        Raises:
            InputError: it is too large for that, or damaged.
        """
        count = self.images.shape[0]
        fits_in_memory(self.images.path, count, self.shape)
        (pixels,) = self.chunks(count)
        images = torch.from_numpy(np.ascontiguousarray(pixels))
        splits = {
            part: settings.split(images[rows], **{name: values[rows] for name, values in self.kept().items()})
            for part, rows in self.rows().items()
        }
        description = describe_set(self.subject, splits, self.class_names)
        return DataSet(self.name, splits, description, self.class_names, self.factor_names)


def open_arrays(path: Path) -> ImageArray:
    """The images in a user's .npz.

    Raises:
        InputError: it holds no such images, or labels that do not match.
    """
    arrays = stored_arrays(path)
    images = arrays.get("images") or (next(iter(arrays.values())) if len(arrays) == 1 else None)
    if images is None or images.dtype != np.uint8 or not _are_images(images.shape):
        listed = ", ".join(f"{name} {a.shape} {a.dtype}" for name, a in arrays.items()) or "no arrays"
        raise InputError(
            f"{path} holds {listed}: give `images` of shape (N, height, width, channels) in uint8, with 1 or 3 channels"
        )
    if images.shape[0] < MIN_IMAGES:
        raise InputError(f"{path} holds {images.shape[0]} images: give at least {MIN_IMAGES}")
    if "labels" not in arrays:
        return ImageArray(path.stem, str(path), images)
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
    return ImageArray(path.stem, str(path), images, labels=labels, class_names=classes)


def _are_images(shape: tuple[int, ...]) -> bool:
    if len(shape) == 4:
        return GREY in (shape[1], shape[3]) or COLOUR in (shape[1], shape[3])
    return len(shape) == 3

"""Manifest: which image files become which images of which split, listed before any of them is decoded.

A manifest is read into memory at once (`Manifest.load`) or prepared on disk (`data/prepare.py`); both give the same
images. They are grey where every file of the set is grey, else RGB.

A fixed share is held out by name: the files whose names have the smallest SHA-256, so that neither the machine, nor the
order on disk, nor a seed moves it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaebm.data.describe import describe_files, describe_set, describe_skipped
from vaebm.data.files.archives import ImageSource, UnreadableImage
from vaebm.data.files.image import Filter, Header, read_picture
from vaebm.data.settings import ImageSettings
from vaebm.data.splits import DataSet, Split
from vaebm.errors import InputError
from vaebm.progress import Progress
from vaebm.wording import counted

HELD_OUT_SHARE = 0.1
MIN_IMAGES = 20
MAX_IN_MEMORY = 2**31
"""Bytes of pixels beyond which a set has to be prepared."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """Images (n, 3, H, W) uint8 of the readable files, how many had transparent pixels, and why others were skipped."""

    images: NDArray[np.uint8]
    transparent: int
    skipped: Mapping[str, str]

    @property
    def is_grey(self) -> bool:
        """Whether all channels of every image are equal."""
        return all(bool((image == image[:1]).all()) for image in self.images)


@dataclass(frozen=True)
class Manifest:
    """Image files by split.

    Args:
        name: of the set.
        subject: what the images are, for the sentence that describes them.
        source: where the files lie.
        size: height and width that the images get.
        parts: names of files by split, in order; "train" and "test" at least.
        crop: side of the central square that is cut out first; None for the largest rectangle of that shape.
        resample: how images are resized.
        labels: class by name of file.
        class_names: what the labels stand for.
        headers: of the files, where these are a user's own and were surveyed.
        skipped: files that are no images, with the reason.
    """

    name: str
    subject: str
    source: ImageSource
    size: tuple[int, int]
    parts: Mapping[str, Sequence[str]]
    crop: int | None = None
    resample: Filter = "bicubic"
    labels: Mapping[str, int] | None = None
    class_names: tuple[str, ...] | None = None
    headers: Mapping[str, Header] | None = None
    skipped: Mapping[str, str] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """Hash of everything that decides the images: a stopped preparation only goes on under the same one."""
        what = [self.name, str(self.source.path.resolve()), self.size, self.crop, self.resample]
        files = {part: list(names) for part, names in self.parts.items()}
        labels = None if self.labels is None else dict(self.labels)
        return hashlib.sha256(json.dumps([what, files, labels], sort_keys=True).encode()).hexdigest()

    def decode(self, names: Sequence[str], advance: Callable[[], object] = lambda: None) -> Decoded:
        """Decodes files in order, leaving out those that cannot be read; calls `advance` after each."""
        images = np.empty((len(names), 3, *self.size), np.uint8)
        count, transparent, skipped = 0, 0, {}
        for name in names:
            try:
                picture = read_picture(partial(self.source.open, name), self.size, self.crop, self.resample)
            except UnreadableImage as reason:
                skipped[name] = str(reason)
            else:
                images[count] = picture.pixels.transpose(2, 0, 1)
                transparent += picture.transparent
                count += 1
            advance()
        return Decoded(images[:count], transparent, skipped)

    def labels_of(self, part: str, skipped: Mapping[str, str]) -> Tensor | None:
        """Labels (n,) int64 of a split without the skipped files; None where there are none."""
        if self.labels is None:
            return None
        return torch.tensor([self.labels[name] for name in self.parts[part] if name not in skipped], dtype=torch.int64)

    def describe(self, splits: Mapping[str, Split], transparent: int, skipped: Mapping[str, str]) -> str:
        """The sentence on its images, once they are read."""
        if self.headers is None:
            return describe_set(self.subject, splits, self.class_names, describe_skipped(skipped))
        headers = [header for name, header in self.headers.items() if name not in skipped]
        return describe_files(self.source.path, headers, splits, self.class_names, transparent, skipped)

    def load(self, settings: ImageSettings, progress: Progress) -> DataSet:
        """All images in memory.

        Raises:
            InputError: there are too many for that, or too few can be read.
        """
        total = sum(len(names) for names in self.parts.values())
        fits_in_memory(self.source.path, total, (3, *self.size))
        with progress.task("read images", total, "images") as task:
            decoded = {part: self.decode(names, task.advance) for part, names in self.parts.items()}
        skipped = {**self.skipped, **{name: why for one in decoded.values() for name, why in one.skipped.items()}}
        enough(self.source.path, sum(len(one.images) for one in decoded.values()), skipped)
        channels = 1 if all(one.is_grey for one in decoded.values()) else 3
        splits = {
            part: settings.split(
                torch.from_numpy(np.ascontiguousarray(one.images[:, :channels])), self.labels_of(part, skipped)
            )
            for part, one in decoded.items()
        }
        transparent = sum(one.transparent for one in decoded.values())
        return DataSet(self.name, splits, self.describe(splits, transparent, skipped), self.class_names)


def held_out(names: Sequence[str], share: float = HELD_OUT_SHARE) -> set[str]:
    """The names that are held out."""
    ranked = sorted(names, key=lambda name: hashlib.sha256(os.fsencode(name)).digest())
    return set(ranked[: round(share * len(names))])


def train_and_test(names: Sequence[str], test: set[str]) -> dict[str, list[str]]:
    """Names by split, in order."""
    return {"train": [n for n in names if n not in test], "test": [n for n in names if n in test]}


def enough(root: Path, count: int, skipped: Mapping[str, str]) -> None:
    """Refuses what is too little to train on.

    Raises:
        InputError: there are fewer than MIN_IMAGES readable images.
    """
    if count >= MIN_IMAGES:
        return
    what = f"holds {counted(count, 'readable image')}" if count or skipped else "is empty"
    aside = f" ({describe_skipped(skipped)})" if skipped else ""
    raise InputError(f"{root} {what}{aside}: give a folder with at least {MIN_IMAGES} images")


def fits_in_memory(path: Path, images: int, shape: Sequence[int]) -> None:
    """Refuses to read into memory what is meant to be prepared.

    Raises:
        InputError: the pixels take more than MAX_IN_MEMORY bytes.
    """
    size = images * int(np.prod(shape))
    if size > MAX_IN_MEMORY:
        raise InputError(
            f"{path} holds {images:,} images, which would take {size / 1e9:.0f} GB of memory: run"
            f" `vaebm data prepare {path}` once, then use the folder that it names"
        )

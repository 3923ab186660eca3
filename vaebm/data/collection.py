"""Collections: images that are not read yet, as files (`data/manifest.py`) or as one array (`data/arrays.py`).

A collection gives its images block by block in a fixed order. They are read into memory at once (`Collection.load`) or
prepared on disk (`data/prepare.py`); both give the same data set. It is grey where every image is grey, else RGB.

A fraction is held out by name: those whose names have the smallest SHA-256, so that neither the machine, nor the order
on disk, nor a seed moves it. The next ones by hash are for validation, where there are enough of them.
"""

import hashlib
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaebm.data.describe import describe, describe_skipped
from vaebm.data.files.image import Header
from vaebm.data.settings import ImageSettings
from vaebm.data.splits import DataSet, Split
from vaebm.errors import InputError
from vaebm.progress import Progress
from vaebm.wording import counted

HELD_OUT_FRACTION = 0.1
VALIDATION_FRACTION, VALIDATION_FRACTION_OF_FEW = 0.05, 0.1
MIN_FOR_VALIDATION = 100
"""Of fewer images than these, every one is needed for training."""
FEW = 1000
"""Images below which a larger part is for validation, as a twentieth would be too noisy."""
MIN_IMAGES = 20
MAX_IN_MEMORY = 2**31
"""Bytes of pixels beyond which a set has to be prepared."""
BLOCK_BYTES = 2**22


@dataclass(frozen=True, eq=False)
class Block:
    """Neighbouring images of a split."""

    part: str  # the split
    images: NDArray[np.uint8]  # (n, C, H, W) uint8, contiguous
    is_grey: bool  # whether all channels of every image are equal
    files: int  # how many files or rows it was made from
    transparent: int = 0  # how many of the images had transparent pixels
    skipped: Mapping[str, str] = field(default_factory=dict)  # why files gave no image, by name


@dataclass(frozen=True, kw_only=True, eq=False)
class Collection(ABC):
    """Images that are not read yet."""

    name: str  # of the set
    subject: str  # what the images are, for the sentence that describes them
    class_names: tuple[str, ...] | None = None  # what the labels stand for
    factor_names: tuple[str, ...] | None = None  # what the factors stand for
    # of the files by name, where these are a user's own and were surveyed
    headers: Mapping[str, Header] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)  # files that are no images, with the reason

    @property
    @abstractmethod
    def path(self) -> Path:
        """Where the images lie."""

    @property
    @abstractmethod
    def count(self) -> int:
        """How many images there are, if all can be read."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images in a block."""

    @abstractmethod
    def fingerprint(self) -> str:
        """What decides the images: a stopped preparation only goes on under the same fingerprint."""

    @abstractmethod
    def blocks(self, skip: int = 0, workers: int = 1) -> Generator[Block]:
        """All images in a fixed order, without the first `skip` blocks, read by so many processes."""

    @abstractmethod
    def known(self, part: str, skipped: Mapping[str, str]) -> dict[str, Tensor]:
        """`labels` (n,) and `factors` (n, K) int64 of the images of a split, where there are any."""

    def describe(self, splits: Mapping[str, Split], transparent: int, skipped: Mapping[str, str]) -> str:
        """The sentence on the images, once they are read."""
        headers = [header for name, header in self.headers.items() if name not in skipped]
        return describe(self.subject, splits, self.class_names, {**self.skipped, **skipped}, headers, transparent)

    def load(self, settings: ImageSettings, progress: Progress) -> DataSet:
        """All images in memory. InputError: there are too many for that, or too few can be read."""
        if (size := self.count * math.prod(self.shape)) > MAX_IN_MEMORY:
            raise InputError(
                f"{self.path} holds {self.count:,} images, which would take {size / 1e9:.0f} GB of memory: run"
                f" `vaebm data prepare {self.path}` once, then use the folder that it names"
            )
        blocks = []
        with progress.task("read images", self.count, "images") as task:
            for block in self.blocks():
                blocks.append(block)
                task.advance(block.files)
        skipped = all_skipped(block.skipped for block in blocks)
        enough(self.path, sum(len(block.images) for block in blocks), {**self.skipped, **skipped})
        channels = 1 if all(block.is_grey for block in blocks) else self.shape[0]
        splits = {}
        for part in dict.fromkeys(block.part for block in blocks):
            images = np.concatenate([block.images[:, :channels] for block in blocks if block.part == part])
            splits[part] = settings.split(torch.from_numpy(images), **self.known(part, skipped))
        description = self.describe(splits, sum(block.transparent for block in blocks), skipped)
        return DataSet(self.name, splits, description, self.class_names, self.factor_names)


def all_skipped(of_blocks: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """The skipped files of all blocks."""
    return {name: reason for skipped in of_blocks for name, reason in skipped.items()}


def held_out(names: Sequence[str], fraction: float = HELD_OUT_FRACTION) -> set[str]:
    """The names that are held out."""
    ranked = sorted(names, key=lambda name: hashlib.sha256(os.fsencode(name)).digest())
    return set(ranked[: round(fraction * len(names))])


def parts_by_name(names: Sequence[str]) -> dict[str, set[str]]:
    """The names by split: a tenth is held out, and the next ones by hash are for validation.

    These are a twentieth of 1,000 or more names, a tenth of 100 or more, and none of fewer.
    """
    test = held_out(names)
    if len(names) < MIN_FOR_VALIDATION:
        return {"train": set(names) - test, "test": test}
    fraction = VALIDATION_FRACTION if len(names) >= FEW else VALIDATION_FRACTION_OF_FEW
    validation = held_out(names, HELD_OUT_FRACTION + fraction) - test
    return {"train": set(names) - test - validation, "test": test, "validation": validation}


def enough(path: Path, count: int, skipped: Mapping[str, str]) -> None:
    """Refuses what is too little to train on. InputError: there are fewer than MIN_IMAGES readable images."""
    if count >= MIN_IMAGES:
        return
    what = f"holds {counted(count, 'readable image')}" if count or skipped else "is empty"
    aside = f" ({describe_skipped(skipped)})" if skipped else ""
    raise InputError(f"{path} {what}{aside}: give a folder with at least {MIN_IMAGES} images")

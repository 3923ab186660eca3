"""MNIST and Fashion-MNIST: 70,000 grey images of 28 x 28 pixels in ten classes, in the IDX format.

    train         the first 55,000 of the training files (all 60,000 with `validation: 0`)
    validation    the last 5,000 of the training files
    test          the 10,000 of the test files

`size: 32` puts two black pixels on every side, for nets that halve their images often.

References: LeCun, Bottou, Bengio, Haffner, Gradient-based learning applied to document recognition, 1998; Xiao, Rasul,
Vollgraf, Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms, 2017.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from vaebm.data import addresses
from vaebm.data.download import Published
from vaebm.data.found import found_in_files
from vaebm.data.idx import read_idx
from vaebm.data.splits import DataSet, Split
from vaebm.data.stored import StoredSettings
from vaebm.errors import InputError
from vaebm.progress import Progress

SIDE = 28
VALIDATION = 5_000
Pairs = dict[str, tuple[Tensor, Tensor]]  # by split: images (N, 1, H, W) uint8 and labels (N,) int64


class IDXSettings(StoredSettings):
    """What sets in MNIST's format have in common."""

    size: Literal[28, 32] = 28
    validation: int = Field(VALIDATION, ge=0, lt=60_000, description="the last training images, held from training")

    what: ClassVar[str]
    files: ClassVar[Mapping[str, Published]]
    classes: ClassVar[tuple[str, ...]]

    @property
    def shape(self) -> tuple[int, int, int]:
        return 1, self.size, self.size

    @property
    def class_names(self) -> tuple[str, ...] | None:
        return self.classes

    def load(self, progress: Progress | None = None) -> DataSet:
        """The data set; shape (1, size, size), ten classes."""
        parts: dict[str, Split] = {
            name: self.split(images, labels) for name, (images, labels) in self.read(progress).items()
        }
        return DataSet(
            name=self.kind,
            shape=(1, self.size, self.size),
            train=parts["train"],
            test=parts["test"],
            validation=parts.get("validation"),
            class_names=self.classes,
            found=found_in_files(self.what, parts, self.classes),
        )

    def read(self, progress: Progress | None = None) -> Pairs:
        """Images (N, 1, size, size) uint8 and labels of the splits, 8 bits whatever the recipe says.

        Raises:
            InputError: a file is missing, damaged, or does not match the others.
        """
        train, test = self._pair("train", progress), self._pair("t10k", progress)
        rows = len(train[0]) - self.validation
        if rows < 1:
            raise InputError(
                f"data.validation={self.validation} leaves nothing of {len(train[0]):,} images to train on: lower it"
            )
        parts = {"train": (train[0][:rows], train[1][:rows]), "test": test}
        return parts | ({"validation": (train[0][rows:], train[1][rows:])} if self.validation else {})

    def _pair(self, part: str, progress: Progress | None) -> tuple[Tensor, Tensor]:
        paths = [
            self.obtain(self.files[f"{part}-{what}"], self.kind, progress) for what in ("images-idx3", "labels-idx1")
        ]
        images, labels = (
            torch.from_numpy(read_idx(path, ndim).copy()) for path, ndim in zip(paths, (3, 1), strict=True)
        )
        if len(labels) != len(images):
            raise InputError(
                f"{paths[1]} has {len(labels):,} labels for {len(images):,} images: replace it by the published file"
            )
        if images.shape[1:] != (SIDE, SIDE) or int(labels.max()) >= len(self.classes):
            raise InputError(f"{paths[0]} and its labels are not {self.what}: replace them by the published files")
        border = (self.size - SIDE) // 2
        return functional.pad(images, (border,) * 4)[:, None], labels.long()


class MNISTSettings(IDXSettings):
    """Handwritten digits."""

    kind: Literal["mnist"] = "mnist"
    what: ClassVar[str] = "MNIST's handwritten digits"
    files: ClassVar[Mapping[str, Published]] = addresses.MNIST
    classes: ClassVar[tuple[str, ...]] = tuple("0123456789")


class FashionMNISTSettings(IDXSettings):
    """Articles of clothing."""

    kind: Literal["fashion_mnist"] = "fashion_mnist"
    what: ClassVar[str] = "Fashion-MNIST's articles of clothing"
    files: ClassVar[Mapping[str, Published]] = addresses.FASHION_MNIST
    classes: ClassVar[tuple[str, ...]] = (
        "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
    )  # fmt: skip

"""SVHN: house numbers from street photographs, cropped to digits of 32 x 32 pixels in colour (the "format 2" files).

    train         the first 68,257 of the training images (all 73,257 with `validation: 0`)
    validation    the last 5,000 of the training images
    test          the 26,032 of the test file

The files are MATLAB 5 arrays, X (32, 32, 3, N) and y (N, 1), where 10 stands for the digit 0; a MATLAB 5 file holds
numbers and nothing that could run. Reference: Netzer et al., Reading digits in natural images with unsupervised feature
learning, 2011.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from vaebm.data import addresses
from vaebm.data.download import Published
from vaebm.data.found import found_in_files
from vaebm.data.splits import DataSet
from vaebm.data.stored import StoredSettings
from vaebm.errors import InputError
from vaebm.progress import Progress

VALIDATION = 5_000
SHAPE = (32, 32, 3)


class SVHNSettings(StoredSettings):
    """Street View House Numbers."""

    kind: Literal["svhn"] = "svhn"
    validation: int = Field(VALIDATION, ge=0, lt=73_257, description="the last training images, held from training")

    files: ClassVar[dict[str, Published]] = addresses.SVHN

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, 32, 32

    @property
    def class_names(self) -> tuple[str, ...] | None:
        return tuple("0123456789")

    def load(self, progress: Progress | None = None) -> DataSet:
        """The data set; shape (3, 32, 32), ten classes.

        Raises:
            InputError: a file is missing or damaged, or cannot be downloaded.
        """
        (images, labels), test = (
            _read(self.obtain(self.files[part], self.kind, progress)) for part in ("train", "test")
        )
        rows = len(images) - self.validation
        if rows < 1:
            raise InputError(
                f"data.validation={self.validation} leaves nothing of {len(images):,} images to train on: lower it"
            )
        parts = {"train": self.split(images[:rows], labels[:rows]), "test": self.split(*test)}
        if self.validation:
            parts["validation"] = self.split(images[rows:], labels[rows:])
        return DataSet(
            name=self.kind,
            shape=(3, 32, 32),
            train=parts["train"],
            test=parts["test"],
            validation=parts.get("validation"),
            class_names=self.class_names,
            found=found_in_files("house numbers (SVHN)", parts, self.class_names),
        )


def _read(path: Path) -> tuple[Tensor, Tensor]:
    from scipy.io import loadmat

    try:
        held = loadmat(path, variable_names=["X", "y"])
        images, labels = held["X"], held["y"].reshape(-1)
    except Exception as error:  # noqa: BLE001 - a damaged file raises what its bytes happen to lead to
        raise InputError(
            f"{path} is truncated or no MATLAB 5 file with X and y ({type(error).__name__}): delete it to have it"
            " downloaded again"
        ) from None
    if images.shape[:3] != SHAPE or images.dtype != np.uint8 or images.ndim != 4:
        raise InputError(f"{path} holds no colour images of 32 x 32 pixels: replace it by the published file")
    if len(labels) != images.shape[3]:
        raise InputError(
            f"{path} has {len(labels):,} labels for {images.shape[3]:,} images: replace it by the published file"
        )
    pixels = np.ascontiguousarray(images.transpose(3, 2, 0, 1))
    return torch.from_numpy(pixels), torch.from_numpy(labels.astype(np.int64) % 10)

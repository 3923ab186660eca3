"""CIFAR-10 and CIFAR-100: 60,000 colour images of 32 x 32 pixels in ten, or in a hundred, classes.

    train         the first 45,000 of the training images, in the files' order (all 50,000 with `validation: 0`)
    validation    the last 5,000 of the training images
    test          the 10,000 of the test file

Read from whichever form lies there first (`data/cifar_batches.py`), as an archive or unpacked. What has to be
downloaded is the binary version. Reference: Krizhevsky, Learning multiple layers of features from tiny images, 2009.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from vaebm.data import addresses
from vaebm.data.cifar_batches import (
    SIDE,
    Batch,
    Form,
    binary_batch,
    find_form,
    python_batch,
    read_batches,
    repacked_batch,
)
from vaebm.data.download import Published
from vaebm.data.found import found_in_files
from vaebm.data.splits import DataSet, Split
from vaebm.data.stored import StoredSettings
from vaebm.errors import InputError
from vaebm.progress import Progress

VALIDATION = 5_000
HUNDRED_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
willow_tree wolf woman worm
"""


class CIFARSettings(StoredSettings):
    """What the two have in common."""

    validation: int = Field(VALIDATION, ge=0, lt=50_000, description="the last training images, held from training")

    what: ClassVar[str]
    published: ClassVar[Published]
    forms: ClassVar[Sequence[Form]]
    train_files: ClassVar[Sequence[str]]
    test_file: ClassVar[str]
    classes: ClassVar[tuple[str, ...]]

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, SIDE, SIDE

    @property
    def class_names(self) -> tuple[str, ...] | None:
        return self.classes

    def load(self, progress: Progress | None = None) -> DataSet:
        """The data set; shape (3, 32, 32).

        Raises:
            InputError: a file is missing or damaged, or the set cannot be downloaded.
        """
        names = [*self.train_files, self.test_file]
        found = find_form(self.forms, self.folders(self.kind), names)
        form, place = found or (self.forms[0], self.obtain(self.published, self.kind, progress))
        batches = read_batches(form, place, names)
        self._check(batches, place)
        pixels, labels = (np.concatenate([batches[name][i] for name in self.train_files]) for i in (0, 1))
        rows = len(pixels) - self.validation
        if rows < 1:
            raise InputError(
                f"data.validation={self.validation} leaves nothing of {len(pixels):,} images to train on: lower it"
            )
        parts = {"train": self._split(pixels[:rows], labels[:rows]), "test": self._split(*batches[self.test_file])}
        if self.validation:
            parts["validation"] = self._split(pixels[rows:], labels[rows:])
        return DataSet(
            name=self.kind,
            shape=(3, SIDE, SIDE),
            train=parts["train"],
            test=parts["test"],
            validation=parts.get("validation"),
            class_names=self.classes,
            found=found_in_files(self.what, parts, self.classes),
        )

    def _check(self, batches: dict[str, Batch], place: Path) -> None:
        for name, (_, labels) in batches.items():
            if labels.size == 0 or labels.max() >= len(self.classes):
                raise InputError(
                    f"{place}: {name} has labels beyond the {len(self.classes)} classes: replace it by the published"
                    " file"
                )

    def _split(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> Split:
        images = torch.from_numpy(pixels.reshape(-1, 3, SIDE, SIDE).copy())
        return self.split(images, torch.from_numpy(labels))


class CIFAR10Settings(CIFARSettings):
    """Ten classes of 6,000 images each."""

    kind: Literal["cifar10"] = "cifar10"

    what: ClassVar[str] = "CIFAR-10"
    published: ClassVar[Published] = addresses.CIFAR10
    forms: ClassVar[Sequence[Form]] = (
        Form("cifar-10-batches-bin", ".bin", binary_batch(1), addresses.CIFAR10, addresses.CIFAR10_BINARY_FILES),
        Form(
            "cifar-10-batches-py", "", python_batch("labels"), addresses.CIFAR10_PYTHON, addresses.CIFAR10_PYTHON_FILES
        ),
        Form("", ".zip", repacked_batch, None, {}),
    )
    train_files: ClassVar[Sequence[str]] = tuple(f"data_batch_{number}" for number in range(1, 6))
    test_file: ClassVar[str] = "test_batch"
    classes: ClassVar[tuple[str, ...]] = (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    )  # fmt: skip


class CIFAR100Settings(CIFARSettings):
    """A hundred classes of 600 images each, by their fine labels."""

    kind: Literal["cifar100"] = "cifar100"

    what: ClassVar[str] = "CIFAR-100"
    published: ClassVar[Published] = addresses.CIFAR100
    forms: ClassVar[Sequence[Form]] = (
        Form("cifar-100-binary", ".bin", binary_batch(2), addresses.CIFAR100, addresses.CIFAR100_BINARY_FILES),
        Form(
            "cifar-100-python",
            "",
            python_batch("fine_labels"),
            addresses.CIFAR100_PYTHON,
            addresses.CIFAR100_PYTHON_FILES,
        ),
    )
    train_files: ClassVar[Sequence[str]] = ("train",)
    test_file: ClassVar[str] = "test"
    classes: ClassVar[tuple[str, ...]] = tuple(HUNDRED_CLASSES.split())

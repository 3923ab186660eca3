"""Published sets: where their files lie, and what those that are read whole have in common.

    ROOT/NAME/FILE         the files as they are published; a set's files may also lie in ROOT itself
    ROOT/NAME/prepared/    where `vaebm data prepare NAME` puts a large set

ROOT is `root` in the recipe, else the folder that VAEBM_DATA names, else the user's cache. What is not there is
downloaded there, where it can be.
"""

import os
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from vaebm.data.describe import describe
from vaebm.data.files.download import Published, obtain
from vaebm.data.settings import EIGHT_BITS, ImageSettings
from vaebm.data.splits import DataSet, Split
from vaebm.errors import InputError
from vaebm.files import cache_folder
from vaebm.progress import Progress, silent

VARIABLE = "VAEBM_DATA"
REPLACE = "replace it by the published file"
Labelled = tuple[Tensor, Tensor]
"""Images (N, C, H, W) uint8 and labels (N,) int64."""


class PublishedSettings(ImageSettings):
    """What recipes may say of a published set of images.

    Attributes:
        class_names: of its classes, known without its files; None where it has none.
    """

    kind: str
    root: str | None = Field(None, description="Folder of data sets; null stands for $VAEBM_DATA, else ~/.cache/vaebm.")

    class_names: ClassVar[tuple[str, ...] | None] = None

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of its images, known without its files."""

    def stand_in(self, images: int = 256) -> DataSet:
        """Noise in place of the images, half as many of it held out, for whatever needs only their shape."""
        generator = torch.Generator().manual_seed(0)

        def noise(count: int) -> Split:
            values = torch.randint(2**EIGHT_BITS, (count, *self.shape), dtype=torch.uint8, generator=generator)
            return self.split(values, torch.arange(count) % len(self.class_names) if self.class_names else None)

        description = f"{images} images of noise in place of {self.kind}, whose files are not needed here."
        return DataSet(self.kind, {"train": noise(images), "test": noise(images // 2)}, description, self.class_names)

    def folders(self) -> tuple[Path, Path]:
        """Where the files may lie; the last is where they are put."""
        root = self.root or os.environ.get(VARIABLE)
        place = Path(root).expanduser() if root else cache_folder()
        return place, place / self.kind

    def obtain(self, file: Published, progress: Progress | None) -> Path:
        """A file of the set, whole and checked.

        Raises:
            InputError: the file is damaged, or neither there nor to be had.
        """
        return obtain(file, self.folders(), progress or silent())


class LabelledSettings(PublishedSettings):
    """What published sets have in common that are read whole and have a label for each image.

    Attributes:
        subject: what the images are, for the sentence that describes them.
    """

    validation: int = Field(
        5_000, ge=0, description="Number of the last training images that are held back for choices between models."
    )

    subject: ClassVar[str]
    class_names: ClassVar[tuple[str, ...]]

    def load(self, progress: Progress | None = None) -> DataSet:
        """The data set.

        Raises:
            InputError: a file is missing or damaged, or cannot be downloaded.
        """
        splits = {name: self.split(*labelled) for name, labelled in self.parts(progress).items()}
        return DataSet(self.kind, splits, describe(self.subject, splits, self.class_names), self.class_names)

    def parts(self, progress: Progress | None) -> dict[str, Labelled]:
        """Images and labels by split, 8 bits whatever the recipe says.

        Raises:
            InputError: as `load` does.
        """
        (images, labels), test = self.read(progress)
        rows = len(images) - self.validation
        if rows < 1:
            raise InputError(
                f"data.validation={self.validation} leaves nothing of {len(images):,} images to train on: lower it"
            )
        parts = {"train": (images[:rows], labels[:rows]), "test": test}
        return parts | ({"validation": (images[rows:], labels[rows:])} if self.validation else {})

    @abstractmethod
    def read(self, progress: Progress | None) -> tuple[Labelled, Labelled]:
        """All training and all test images."""

    def labelled(self, images: NDArray[np.uint8], labels: NDArray[np.integer], path: Path) -> Labelled:
        """Images and labels as tensors, once they belong together.

        Raises:
            InputError: they do not; `path` is to blame.
        """
        if len(labels) != len(images):
            raise InputError(f"{path} has {len(labels):,} labels for {len(images):,} images: {REPLACE}")
        if not len(labels) or labels.max() >= len(self.class_names):
            raise InputError(f"{path} has labels beyond the {len(self.class_names)} classes: {REPLACE}")
        return torch.tensor(images), torch.tensor(labels.astype(np.int64))

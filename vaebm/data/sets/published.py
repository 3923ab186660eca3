"""Published sets: where their files lie, and what those have in common that are read whole, or prepared.

    ROOT/NAME/FILE         the files as they are published; a set's files may also lie in ROOT itself
    ROOT/NAME/prepared/    where `vaebm data prepare NAME --from FOLDER` puts a large set, once; it is read from there

ROOT is `root` in the recipe, else the folder that VAEBM_DATA names, else the user's cache. What is not there is
downloaded there, where it can be.
"""

import os
import tomllib
from abc import abstractmethod
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import Tensor

from vaebm.data.collection import Collection
from vaebm.data.describe import describe
from vaebm.data.files.archives import FolderSource, ImageSource, open_source
from vaebm.data.files.download import Published, check, obtain
from vaebm.data.manifest import Manifest
from vaebm.data.prepared import is_prepared, prepared_set
from vaebm.data.settings import EIGHT_BITS, ImageSettings
from vaebm.data.splits import DataSet, Split
from vaebm.errors import InputError
from vaebm.files import cache_folder, user_path
from vaebm.progress import Progress, silent

VARIABLE = "VAEBM_DATA"
REPLACE = "replace it by the published file"
PREPARED = "prepared"
PUBLISHED = tomllib.loads(Path(__file__).with_name("published.toml").read_text(encoding="utf-8"))
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm"}

Labelled = tuple[Tensor, Tensor]
"""Images (N, C, H, W) uint8 and labels (N,) int64."""


def published_files(kind: str) -> dict[str, Published]:
    """The files of a set by name, as `published.toml` lists them."""
    about = PUBLISHED[kind]
    folders, further, page = about.get("folders", ()), about.get("addresses", {}), about["page"]
    return {
        name: Published(name, digest or None, (*(f"{at}/{name}" for at in folders), *further.get(name, ())), page)
        for name, digest in about["files"].items()
    }


class PublishedSettings(ImageSettings):
    """What recipes may say of a published set of images."""

    kind: str
    root: str | None = Field(None, description="Folder of data sets; null stands for $VAEBM_DATA, else ~/.cache/vaebm.")

    @field_validator("root")
    @classmethod
    def _absolute(cls, root: str | None) -> str | None:
        return None if root is None else str(user_path(root).absolute())

    # of its classes, known without its files; None where it has none
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
        place = user_path(root) if root else cache_folder()
        return place, place / self.kind

    def obtain(self, file: Published, progress: Progress | None) -> Path:
        """A file of the set, whole and checked. InputError: the file is damaged, or neither there nor to be had."""
        return obtain(file, self.folders(), progress or silent())


class LabelledSettings(PublishedSettings):
    """What published sets have in common that are read whole and have a label for each image."""

    validation: int = Field(
        5_000, ge=0, description="Number of the last training images that are held back for choices between models."
    )

    subject: ClassVar[str]  # what the images are, for the sentence that describes them
    class_names: ClassVar[tuple[str, ...]]

    def load(self, progress: Progress | None = None) -> DataSet:
        splits = {name: self.split(*labelled) for name, labelled in self.parts(progress).items()}
        return DataSet(self.kind, splits, describe(self.subject, splits, self.class_names), self.class_names)

    def parts(self, progress: Progress | None) -> dict[str, Labelled]:
        """Images and labels by split, 8 bits whatever the recipe says."""
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
        """Images and labels as tensors, once they belong together. InputError: they do not; `path` is to blame."""
        if len(labels) != len(images):
            raise InputError(f"{path} has {len(labels):,} labels for {len(images):,} images: {REPLACE}")
        if not len(labels) or labels.max() >= len(self.class_names):
            raise InputError(f"{path} has labels beyond the {len(self.class_names)} classes: {REPLACE}")
        return torch.tensor(images), torch.tensor(labels.astype(np.int64))


class LargeSettings(PublishedSettings):
    """What recipes may say of a published set that can be prepared."""

    @property
    def prepared(self) -> Path:
        """ROOT/NAME/prepared, or `root` itself where that is a prepared folder."""
        root, own = self.folders()
        return root if is_prepared(root) else own / PREPARED

    @abstractmethod
    def collection(self, source: Path | None, progress: Progress) -> Collection:
        """Its images, from its files in `source`, or where recipes look for them, downloaded if need be.

        InputError: a file is missing or damaged. OSError: the disk is full.
        """


class PicturesSettings(LargeSettings):
    """What recipes may say of a published set of image files, which has to be prepared."""

    @property
    def needed(self) -> tuple[Published, ...]:
        """Its files, first the one that holds the images."""
        return tuple(published_files(self.kind).values())

    def load(self, progress: Progress | None = None) -> DataSet:
        """The data set, read from disk as it is needed."""
        if not is_prepared(self.prepared):
            files = " and ".join(file.name for file in self.needed)
            raise InputError(
                f"{self.kind} is not prepared in {self.prepared}: get {files} from {self.needed[0].page}, then run"
                f" `vaebm data prepare {self.kind} --from FOLDER` once"
            )
        data = prepared_set(self.prepared, self)
        if data.name != self.kind:
            raise InputError(f"{self.prepared} holds {data.name}, not {self.kind}: set data.root to another folder")
        return data

    def collection(self, source: Path | None, progress: Progress) -> Manifest:
        place = source or self.folders()[1]
        for file in self.missing(place) if source is None else ():
            if file.addresses:
                self.obtain(file, progress)
        return self.manifest(place, progress)

    def missing(self, place: Path) -> list[Published]:
        """What of `needed` a folder lacks; the images are not lacking where they lie there unpacked."""
        further = self.needed[int(holds_pictures(place)) :]
        return [file for file in further if not any(place.rglob(file.name))]

    @abstractmethod
    def manifest(self, place: Path, progress: Progress) -> Manifest:
        """Its files at a place as images. InputError: a file is missing or damaged."""


def holds_pictures(place: Path) -> bool:
    """Whether image files lie in a folder or below."""
    return place.is_dir() and any(map(_is_picture, FolderSource(place).names()))


def pictures_in(place: Path, archive: Published) -> tuple[ImageSource, list[str]]:
    """The images of a published set, sorted by name: in its archive, an archive at `place`, or a folder of them.

    Raises:
        InputError: there are none, or the archive is damaged.
    """
    if not place.exists():
        raise InputError(
            f"{place} does not exist: get {archive.name} from {archive.page}, and name its folder by --from"
        )
    if (place / archive.name).is_file():
        check(place / archive.name, archive)
        place = place / archive.name
    source = open_source(place)
    names = list(filter(_is_picture, source.names()))
    if not names:
        raise InputError(f"{source.path} holds no images: get {archive.name} from {archive.page}")
    return source, names


def _is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES

"""Where published data sets lie: `root` in the recipe, else the folder that VAEBM_DATA names, else the user's cache.

    ROOT/NAME/FILE    the files as they are published; a set's files may also lie in ROOT itself
    ROOT/NAME/prepared/    its shards, where `vaebm data prepare NAME` made them

What is not there is downloaded there, where it can be.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from pathlib import Path

import torch
from pydantic import Field

from vaebm.data.download import Published, obtain
from vaebm.data.splits import EIGHT_BITS, DataSet, ImageSettings, Split
from vaebm.progress import Progress

VARIABLE = "VAEBM_DATA"


def data_root(root: str | None = None) -> Path:
    """The folder of data sets."""
    if root is not None:
        return Path(root).expanduser()
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE]).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "vaebm"


class StoredSettings(ImageSettings):
    """What recipes may say of a published set of images."""

    kind: str
    root: str | None = Field(None, description="folder of data sets; null: $VAEBM_DATA, else ~/.cache/vaebm")

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of its images, known without them."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Of its classes, known without them; None where it has none."""
        return None

    def stand_in(self, images: int = 256) -> DataSet:
        """Noise in place of the images, half as many of it held out: for whatever needs no more than their shape."""
        generator = torch.Generator().manual_seed(0)
        classes = self.class_names

        def noise(count: int) -> Split:
            values = torch.randint(2**EIGHT_BITS, (count, *self.shape), dtype=torch.uint8, generator=generator)
            return self.split(values, None if classes is None else torch.arange(count) % len(classes))

        return DataSet(
            name=self.kind,
            shape=self.shape,
            train=noise(images),
            test=noise(images // 2),
            class_names=classes,
            found=f"{images} images of noise in place of {self.kind}, whose files are not needed here.",
        )

    def folders(self, name: str) -> tuple[Path, Path]:
        """Where the files of a set may lie; the last is where they are put."""
        root = data_root(self.root)
        return root, root / name

    def obtain(self, file: Published, name: str, progress: Progress | None = None) -> Path:
        """A file of the set `name`, whole and checked.

        Raises:
            InputError: it is damaged, or neither there nor to be had.
        """
        return obtain(file, self.folders(name), progress)

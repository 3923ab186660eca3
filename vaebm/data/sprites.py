"""dSprites: every square, ellipse and heart of six scales, 40 orientations, 32 x 32 positions: 737,280 binary images.

The factors that an image was rendered from stay with it, as class numbers: shape, scale, orientation, x, y (a first
column of colours, which is always the same, is dropped). `file` names another file of the same layout, such as a part
of the set. A tenth is held out: the rows whose numbers have the smallest SHA-256.

Reference: Matthey, Higgins, Hassabis, Lerchner, dSprites: disentanglement testing sprites dataset, 2017.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch

from vaebm.data import addresses
from vaebm.data.arrays import ArraySet
from vaebm.data.download import Published
from vaebm.data.npz import stored_arrays
from vaebm.data.prepared import PREPARED, prepared_set
from vaebm.data.shards import is_prepared
from vaebm.data.splits import DataSet
from vaebm.data.stored import StoredSettings
from vaebm.errors import InputError
from vaebm.progress import Progress

FACTORS = ("shape", "scale", "orientation", "x", "y")
SHAPES = ("square", "ellipse", "heart")


class SpritesSettings(StoredSettings):
    """dSprites of 64 x 64 pixels, black and white."""

    kind: Literal["dsprites"] = "dsprites"
    file: str = addresses.DSPRITES.name

    published: ClassVar[Published] = addresses.DSPRITES

    @property
    def shape(self) -> tuple[int, int, int]:
        return 1, 64, 64

    @property
    def class_names(self) -> tuple[str, ...] | None:
        return SHAPES

    @property
    def prepared(self) -> Path:
        """Where its shards are, once prepared."""
        root, own = self.folders(self.kind)
        return root if is_prepared(root) else own / PREPARED

    def load(self, progress: Progress | None = None) -> DataSet:
        """The data set; shape (1, 64, 64). From its shards where it is prepared, as the whole of it has to be.

        Raises:
            InputError: a file is missing or damaged, or cannot be downloaded.
        """
        if is_prepared(self.prepared) and self.file == self.published.name:
            return prepared_set(self.prepared, self)
        return self.arrays(None, progress).load(self)

    def arrays(self, folder: Path | None = None, progress: Progress | None = None) -> ArraySet:
        """The file, before its images are read; from `folder` if that is given.

        Raises:
            InputError: it is missing, damaged, or of another layout.
        """
        path = self._path(folder, progress)
        held = stored_arrays(path)
        if not {"imgs", "latents_classes"} <= set(held):
            raise InputError(f"{path} has no `imgs` and `latents_classes`: replace it by the published file")
        images, factors = held["imgs"], held["latents_classes"]
        if images.dtype != np.uint8 or len(images.shape) != 3 or factors.shape[:1] != images.shape[:1]:
            raise InputError(
                f"{path}: imgs {images.shape} {images.dtype} and latents_classes {factors.shape} do not match: replace"
                " it by the published file"
            )
        columns = torch.from_numpy(factors.all().astype(np.int64))[:, -len(FACTORS) :]
        return ArraySet("dsprites", "dSprites", images, 1, columns[:, 0], SHAPES, columns, FACTORS)

    def _path(self, folder: Path | None, progress: Progress | None) -> Path:
        folders = self.folders(self.kind) if folder is None else (folder,)
        found = next((place / self.file for place in folders if (place / self.file).is_file()), None)
        if found is not None:
            return found
        if folder is None and self.file == self.published.name:
            return self.obtain(self.published, self.kind, progress)
        raise InputError(f"{folders[-1] / self.file} is missing: get {self.file} from {self.published.page}")

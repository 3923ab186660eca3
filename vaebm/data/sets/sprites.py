"""dSprites: every square, ellipse and heart of six scales, 40 orientations, 32 x 32 positions: 737,280 binary images.

The factors that an image was rendered from stay with it, as class numbers: shape, scale, orientation, x, y (a first
column of colours, which is always the same, is dropped). `file` names another file of the same layout, such as a part
of the set. A tenth is held out: the rows whose numbers have the smallest SHA-256.

Reference: Matthey, Higgins, Hassabis, Lerchner, [dSprites: disentanglement testing sprites
dataset](https://github.com/google-deepmind/dsprites-dataset), 2017.
"""

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from vaebm.data.arrays import ImageArray
from vaebm.data.files.download import Published
from vaebm.data.files.npz import stored_arrays
from vaebm.data.prepared import is_prepared, prepared_set
from vaebm.data.sets.published import REPLACE, LargeSettings, published_files
from vaebm.data.splits import DataSet
from vaebm.errors import InputError
from vaebm.progress import Progress, silent

FACTORS = ("shape", "scale", "orientation", "x", "y")
FILE = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"


class SpritesSettings(LargeSettings):
    """dSprites of 64 x 64 pixels, black and white."""

    kind: Literal["dsprites"] = "dsprites"
    file: str = Field(FILE, description="Name of the file; another than the published one may hold a part of the set.")

    shape: ClassVar[tuple[int, int, int]] = (1, 64, 64)
    class_names: ClassVar[tuple[str, ...]] = ("square", "ellipse", "heart")
    published: ClassVar[Published] = published_files("dsprites")[FILE]

    def load(self, progress: Progress | None = None) -> DataSet:
        """The data set; shape (1, 64, 64). Read from disk where it is prepared, as the whole of it has to be."""
        if is_prepared(self.prepared) and self.file == FILE:
            return prepared_set(self.prepared, self)
        progress = progress or silent()
        return self.collection(None, progress).load(self, progress)

    def collection(self, source: Path | None, progress: Progress) -> ImageArray:
        path = self._path(source, progress)
        arrays = stored_arrays(path)
        if not {"imgs", "latents_classes"} <= set(arrays):
            raise InputError(f"{path} has no `imgs` and `latents_classes`: {REPLACE}")
        images, factors = arrays["imgs"], arrays["latents_classes"]
        if images.dtype != np.uint8 or len(images.shape) != 3 or factors.shape[:1] != images.shape[:1]:
            raise InputError(
                f"{path}: imgs {images.shape} {images.dtype} and latents_classes {factors.shape} do not match:"
                f" {REPLACE}"
            )
        columns = torch.from_numpy(factors.all().astype(np.int64))[:, -len(FACTORS) :]
        return ImageArray(
            name=self.kind,
            subject="dSprites",
            images=images,
            white=1,
            labels=columns[:, 0],
            factors=columns,
            class_names=self.class_names,
            factor_names=FACTORS,
        )

    def _path(self, source: Path | None, progress: Progress) -> Path:
        folders = self.folders() if source is None else (source,)
        for folder in folders:
            if (folder / self.file).is_file():
                return folder / self.file
        if source is None and self.file == FILE:
            return self.obtain(self.published, progress)
        raise InputError(f"{folders[-1] / self.file} is missing: get {self.file} from {self.published.page}")

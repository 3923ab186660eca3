"""dSprites: every square, ellipse and heart of six scales, 40 orientations, 32 x 32 positions: 737,280 binary images.

The factors that an image was rendered from stay with it, as class numbers: shape, scale, orientation, x, y (a first
column of colours, which is always the same, is dropped). `file` names another file of the same layout, such as a part
of the set. A tenth is held out: the rows whose numbers have the smallest SHA-256.

    grid: true    every fourth orientation and every second position of each axis alone: 46,080 images, read whole
    size: 32      means of 2 x 2 pixels

Reference: Matthey, Higgins, Hassabis, Lerchner, [dSprites: disentanglement testing sprites
dataset](https://github.com/google-deepmind/dsprites-dataset), 2017.
"""

from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from vaebm.data.arrays import ImageArray
from vaebm.data.describe import describe
from vaebm.data.files.download import Published
from vaebm.data.files.npz import stored_arrays
from vaebm.data.prepared import is_prepared, prepared_set
from vaebm.data.sets.published import REPLACE, LargeSettings, published_files
from vaebm.data.splits import DataSet, LazyImages
from vaebm.errors import InputError
from vaebm.progress import Progress, silent

FACTORS = ("shape", "scale", "orientation", "x", "y")
FILE = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
GRID_FILE = "dsprites_downsampled.npz"  # which holds the grid alone
STRIDES = torch.tensor([1, 1, 4, 2, 2])  # of the grid, by factor
SIDE = 64


class DSpritesSettings(LargeSettings):
    """dSprites, black and white."""

    kind: Literal["dsprites"] = "dsprites"
    file: str = Field(FILE, description="Name of the file; another than the published one may hold a part of the set.")
    size: Literal[32, 64] = Field(64, description="Height and width; 32 takes means of 2 x 2 pixels.")
    grid: bool = Field(False, description="Whether only 46,080 images on a coarser grid of factors are read.")

    class_names: ClassVar[tuple[str, ...]] = ("square", "ellipse", "heart")
    published: ClassVar[Published] = published_files("dsprites")[FILE]

    @property
    def shape(self) -> tuple[int, int, int]:
        return (1, self.size, self.size)

    def load(self, progress: Progress | None = None) -> DataSet:
        """The data set. Read from disk where it is prepared, as the whole of it has to be."""
        if is_prepared(self.prepared) and self.file == FILE and not self.grid:
            if self.size != SIDE:
                raise InputError("data.size=32 is for a part of dSprites that is read whole: set data.grid=true")
            return prepared_set(self.prepared, self)
        progress = progress or silent()
        data = self.collection(None, progress).load(self, progress)
        if self.size == SIDE:
            return data
        splits = {part: replace(split, values=_halved(split.values)) for part, split in data.splits.items()}
        return replace(data, splits=splits, description=describe(data.name, splits, self.class_names))

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
        used = None
        if self.grid and path.name != GRID_FILE:
            used, columns = (columns % STRIDES == 0).all(1), columns // STRIDES
        return ImageArray(
            name=self.kind,
            subject="dSprites",
            images=images,
            white=1,
            labels=columns[:, 0],
            factors=columns,
            used=used,
            class_names=self.class_names,
            factor_names=FACTORS,
        )

    def _path(self, source: Path | None, progress: Progress) -> Path:
        folders = self.folders() if source is None else (source,)
        names = [GRID_FILE, self.file] if self.grid else [self.file]
        for path in (folder / name for name in names for folder in folders):
            if path.is_file():
                return path
        if source is None and self.file == FILE:
            return self.obtain(self.published, progress)
        raise InputError(f"{folders[-1] / self.file} is missing: get {self.file} from {self.published.page}")


def _halved(images: Tensor | LazyImages) -> Tensor:
    """Images (N, C, 2H, 2W) uint8 as means of 2 x 2 pixels, rounded."""
    assert isinstance(images, Tensor)
    sums = torch.stack([images[..., i::2, j::2].short() for i in (0, 1) for j in (0, 1)]).sum(0)
    return ((sums + 2) // 4).to(torch.uint8)

r"""Sprites: every shape of the set, in every size, at every place, in every shade: drawn here, so no file is needed.

    shape    |u|^p + |v|^p <= r^p:  a square (p = infinity), a disc (p = 2), a diamond (p = 1)
    scale    six radii r from 0.1 to 0.225 of the side
    x, y     twelve centres each, from 0.25 to 0.75 of the side
    shade    three greys, up to white

7,776 images, each with its factors as class numbers in this order; the shape is the label. A pixel's value is the
fraction of it that the sprite covers, from 4 x 4 points. 2,000 images are held out and 500 are for validation, chosen
by a fixed seed.

They are a small companion of dSprites (data/sets/dsprites.py), with exact factors and no symmetry that hides one.
"""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from vaebm.data.describe import describe
from vaebm.data.settings import ImageSettings
from vaebm.data.splits import DataSet
from vaebm.progress import Progress

FACTORS = ("shape", "scale", "x", "y", "shade")
SIZES = (3, 6, 12, 12, 3)
POWERS = torch.tensor([math.inf, 2.0, 1.0])
POINTS = 4  # of a pixel, along each side
TEST, VALIDATION = 2_000, 500


class SpritesSettings(ImageSettings):
    """Sprites drawn by this library, grey."""

    kind: Literal["sprites"] = "sprites"
    size: int = Field(32, ge=8, le=64, description="Height and width in pixels.")

    class_names: ClassVar[tuple[str, ...]] = ("square", "disc", "diamond")

    def load(self, progress: Progress | None = None) -> DataSet:
        """The data set; shape (1, size, size)."""
        factors = torch.cartesian_prod(*map(torch.arange, SIZES))
        order = torch.randperm(len(factors), generator=torch.Generator().manual_seed(0))
        rows = dict(zip(("test", "validation", "train"), order.tensor_split((TEST, TEST + VALIDATION)), strict=True))
        splits = {
            part: self.split(draw(factors[chosen], self.size), factors[chosen, 0], factors[chosen])
            for part, chosen in ((part, rows[part].sort().values) for part in ("train", "test", "validation"))
        }
        description = describe("sprites", splits, self.class_names)
        return DataSet(self.kind, splits, description, self.class_names, FACTORS)


def draw(factors: Tensor, size: int) -> Tensor:
    """Images (N, 1, size, size) uint8 of factors (N, 5) int64."""
    shape, scale, *place, shade = factors.T
    points = (torch.arange(size * POINTS) + 0.5) / (size * POINTS)
    offsets = [(points - (0.25 + 0.5 * at[:, None] / (SIZES[2] - 1))).abs() for at in place]  # along x, along y
    radius = 0.1 + 0.025 * scale
    images = torch.empty(len(factors), 1, size, size, dtype=torch.uint8)
    for kind, power in enumerate(POWERS):
        for chosen in (shape == kind).nonzero().squeeze(1).split(256):
            u, v = offsets[0][chosen, None, :], offsets[1][chosen, :, None]
            distance = torch.maximum(u, v) if power.isinf() else (u**power + v**power) ** (1 / power)
            inside = (distance <= radius[chosen, None, None]).float()
            covered = torch.nn.functional.avg_pool2d(inside[:, None], POINTS)
            white = (85 * (shade[chosen] + 1))[:, None, None, None]
            images[chosen] = (covered * white).round().to(torch.uint8)
    return images

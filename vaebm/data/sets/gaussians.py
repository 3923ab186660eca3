"""The 25 Gaussians: points in the plane from a grid of equal modes, of which everything is known.

    x = c_k + std eps,   k uniform on side^2 modes `spacing` apart and centred at 0,   eps ~ N(0, I)

The draws depend on these settings alone, never on the seed of a run, so all runs see the same training, validation and
held-out points. Labels are the index k of the mode that a point came from; `truth` is the density itself. It is the toy
of the [VAEBM paper](https://arxiv.org/abs/2010.00654) (Xiao et al., 2021, section 5.1).
"""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from vaebm.data.settings import DataSettings
from vaebm.data.splits import DataSet, Split
from vaebm.distributions.gaussian import HALF_LOG_TWO_PI
from vaebm.progress import Progress

SEEDS = {"train": 1, "test": 2, "validation": 3}


class GaussianGrid:
    """The density: side x side equal modes (side^2, 2), `spacing` apart and of standard deviation `scale`."""

    def __init__(self, side: int, spacing: float, scale: float) -> None:
        axis = spacing * (torch.arange(side) - (side - 1) / 2)
        self.modes, self.scale = torch.cartesian_prod(axis, axis), scale

    def log_prob(self, x: Tensor) -> Tensor:
        distance = (x[:, None] - self.modes.to(x)).square().sum(dim=2)
        constant = 2 * HALF_LOG_TWO_PI + 2 * math.log(self.scale) + math.log(len(self.modes))
        return torch.logsumexp(-distance / (2 * self.scale**2), dim=1) - constant


class GaussiansSettings(DataSettings):
    """A grid of side x side Gaussians in the plane."""

    kind: Literal["gaussians"] = "gaussians"
    side: int = Field(5, ge=1, description="Number of modes along each side of the grid.")
    spacing: float = Field(1.0, gt=0, description="Distance between neighbouring modes.")
    std: float = Field(0.05, gt=0, description="Standard deviation of every mode.")
    train_size: int = Field(100_000, ge=2, description="Number of training points.")
    test_size: int = Field(10_000, ge=2, description="Number of held-out points.")
    validation: int = Field(10_000, ge=0, description="Number of validation points.")

    def load(self, progress: Progress | None = None) -> DataSet:
        """Draws the points; shape (2,)."""
        truth = GaussianGrid(self.side, self.spacing, self.std)
        sizes = {"train": self.train_size, "test": self.test_size}
        if self.validation:
            sizes["validation"] = self.validation
        splits = {name: _draw(truth, n, SEEDS[name]) for name, n in sizes.items()}
        validation = f"{self.validation:,} validation " if self.validation else ""
        points = splits["train"].all()
        description = (
            f"{self.train_size:,} training, {validation}and {self.test_size:,} held-out points in the plane, drawn "
            f"from {self.side**2} Gaussians of standard deviation {self.std:g} on a grid of spacing {self.spacing:g}; "
            f"coordinates {points.min().item():.2f} to {points.max().item():.2f}; nothing was skipped."
        )
        classes = tuple(f"({x:g}, {y:g})" for x, y in truth.modes.tolist())
        return DataSet(f"gaussians{self.side**2}", splits, description, classes, truth=truth)


def _draw(truth: GaussianGrid, n: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    mode = torch.randint(len(truth.modes), (n,), generator=generator)
    return Split(truth.modes[mode] + truth.scale * torch.randn(n, 2, generator=generator), mode)

"""Points of the plane drawn from a density of which everything is known.

The draws depend on the settings of the set alone, never on the seed of a run, so all runs see the same training and
held-out points. Labels say which mode or cell a point came from; `truth` is the density itself
(`distributions/analytic.py`).

    gaussians      a grid of equal modes: the toy of the VAEBM paper (Xiao et al., 2021, section 5.1,
                   https://arxiv.org/abs/2010.00654)
    eight_modes    equal modes on a circle
    checkerboard   uniform on every second square: its edges are what a smooth model cannot follow

The last two, in these sizes, are those of BoltzNCE (Aggarwal et al., NeurIPS 2025, https://arxiv.org/abs/2507.00846),
as its public notebook draws them.
"""

from abc import abstractmethod
from typing import Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor

from vaebm.data.settings import DataSettings
from vaebm.data.splits import DataSet, Split, Truth
from vaebm.distributions.analytic import Checkerboard, GaussianCircle, GaussianGrid, GaussianModes
from vaebm.progress import Progress

SEEDS = {"train": 1, "test": 2}


class LabelledTruth(Truth, Protocol):
    """A density whose draws have labels."""

    def labelled(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(n, 2) draws and their labels (n,) int64."""


class PlaneSettings(DataSettings):
    """Points in the plane."""

    train_size: int = Field(100_000, ge=2, description="Number of training points.")
    test_size: int = Field(10_000, ge=2, description="Number of held-out points.")

    @abstractmethod
    def truth(self) -> LabelledTruth:
        """The density that points are drawn from."""

    @abstractmethod
    def named(self) -> tuple[str, str, tuple[str, ...]]:
        """How the set is called, what its points are drawn from, and what the labels stand for."""

    def load(self, progress: Progress | None = None) -> DataSet:
        """Draws the points; shape (2,)."""
        truth, (name, source, classes) = self.truth(), self.named()
        sizes = {"train": self.train_size, "test": self.test_size}
        splits = {
            part: Split(*truth.labelled(n, torch.Generator().manual_seed(SEEDS[part]))) for part, n in sizes.items()
        }
        points = splits["train"].all()
        description = (
            f"{self.train_size:,} training and {self.test_size:,} held-out points in the plane, drawn from {source};"
            f" coordinates {points.min().item():.2f} to {points.max().item():.2f}; nothing was skipped."
        )
        return DataSet(name, splits, description, classes, truth=truth)


class GaussiansSettings(PlaneSettings):
    """A grid of side x side Gaussians in the plane."""

    kind: Literal["gaussians"] = "gaussians"
    side: int = Field(5, ge=1, description="Number of modes along each side of the grid.")
    spacing: float = Field(1.0, gt=0, description="Distance between neighbouring modes.")
    std: float = Field(0.05, gt=0, description="Standard deviation of every mode.")

    def truth(self) -> GaussianModes:
        return GaussianGrid(self.side, self.spacing, self.std)

    def named(self) -> tuple[str, str, tuple[str, ...]]:
        source = f"{self.side**2} Gaussians of standard deviation {self.std:g} on a grid of spacing {self.spacing:g}"
        return f"gaussians{self.side**2}", source, _places(self.truth().modes)


class EightModesSettings(PlaneSettings):
    """Eight Gaussians on a circle in the plane."""

    kind: Literal["eight_modes"] = "eight_modes"
    radius: float = Field(1.0, gt=0, description="Radius of the circle that the modes lie on.")
    std: float = Field(0.1, gt=0, description="Standard deviation of every mode.")

    def truth(self) -> GaussianModes:
        return GaussianCircle(8, self.radius, self.std)

    def named(self) -> tuple[str, str, tuple[str, ...]]:
        source = f"8 Gaussians of standard deviation {self.std:g} on a circle of radius {self.radius:g}"
        return "eight_modes", source, _places(self.truth().modes)


class CheckerboardSettings(PlaneSettings):
    """Points spread evenly over every second square of a board in the plane."""

    kind: Literal["checkerboard"] = "checkerboard"
    reach: float = Field(1.0, gt=0, description="Largest coordinate of the board, which is centred at 0.")
    cell: float = Field(0.4, gt=0, description="Side of a square; those at the border may be cut.")

    def truth(self) -> Checkerboard:
        return Checkerboard(self.reach, self.cell)

    def named(self) -> tuple[str, str, tuple[str, ...]]:
        truth = self.truth()
        source = f"the {len(truth.low)} cells of a checkerboard with squares of {self.cell:g}"
        return "checkerboard", source, _places((truth.low + truth.high) / 2)


def _places(points: Tensor) -> tuple[str, ...]:
    return tuple(f"({x:g}, {y:g})" for x, y in points.round(decimals=3).add(0.0).tolist())

"""Points of the plane drawn from a density of which everything is known.

The draws depend on the settings of the set alone, never on the seed of a run, so all runs see the same training,
validation and held-out points. Labels say which mode or cell a point came from; `truth` is the density itself.

    gaussians      a grid of equal modes: the toy of the VAEBM paper (Xiao et al., 2021, section 5.1,
                   https://arxiv.org/abs/2010.00654)
    eight_modes    equal modes on a circle
    checkerboard   uniform on every second square: its edges are what a smooth model cannot follow

The last two, in these sizes, are those of BoltzNCE (Aggarwal et al., NeurIPS 2025, https://arxiv.org/abs/2507.00846),
as its public notebook draws them.
"""

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from vaebm.data.settings import DataSettings
from vaebm.data.splits import DataSet, Split
from vaebm.distributions.gaussian import HALF_LOG_TWO_PI
from vaebm.progress import Progress

SEEDS = {"train": 1, "test": 2, "validation": 3}


class PlaneDensity(ABC):
    """A density in the plane whose draws have labels."""

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """(n, 2) to (n,), in nats."""

    @abstractmethod
    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(n, 2) independent draws and their labels (n,) int64."""


class GaussianModes(PlaneDensity):
    """Equal round Gaussians about `modes` (K, 2), of standard deviation `scale`; labels are indices of modes."""

    def __init__(self, modes: Tensor, scale: float) -> None:
        self.modes, self.scale = modes, scale

    def log_prob(self, x: Tensor) -> Tensor:
        distance = (x[:, None] - self.modes.to(x)).square().sum(dim=2)
        constant = 2 * HALF_LOG_TWO_PI + 2 * math.log(self.scale) + math.log(len(self.modes))
        return torch.logsumexp(-distance / (2 * self.scale**2), dim=1) - constant

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        mode = torch.randint(len(self.modes), (n,), generator=generator)
        return self.modes[mode] + self.scale * torch.randn(n, 2, generator=generator), mode


class GaussianGrid(GaussianModes):
    """Modes on a grid of side x side, `spacing` apart and centred at 0."""

    def __init__(self, side: int, spacing: float, scale: float) -> None:
        axis = spacing * (torch.arange(side) - (side - 1) / 2)
        super().__init__(torch.cartesian_prod(axis, axis), scale)


class Checkerboard(PlaneDensity):
    """Uniform on every second cell of a square board about 0; labels are indices of cells.

    The cells lie between the lines `cell` apart through 0; those at the border end at `reach`, so they may be narrower.
    A cell belongs to the board where the sum of its indices is even.

    Attributes:
        low, high: (K, 2), corners of the cells that belong to it.
    """

    def __init__(self, reach: float, cell: float) -> None:
        last = math.ceil(reach / cell - 1e-9)
        pairs = torch.cartesian_prod(torch.arange(-last, last), torch.arange(-last, last))
        pairs = pairs[pairs.sum(1) % 2 == 0]
        self.low, self.high = (cell * pairs).clamp(-reach, reach), (cell * (pairs + 1)).clamp(-reach, reach)
        self._areas = (self.high - self.low).double().prod(1)

    def log_prob(self, x: Tensor) -> Tensor:
        low, high = self.low.to(x), self.high.to(x)
        on = ((x[:, None] >= low) & (x[:, None] <= high)).all(2).any(1)
        return torch.zeros_like(x[:, 0]).masked_fill(~on, -math.inf) - math.log(float(self._areas.sum()))

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        cell = torch.multinomial(self._areas, n, replacement=True, generator=generator)
        low, high = self.low[cell], self.high[cell]
        # Rounding may not leave the cell.
        return torch.minimum(low + (high - low) * torch.rand(n, 2, generator=generator), high), cell


class PlaneSettings(DataSettings):
    """Points in the plane."""

    train_size: int = Field(100_000, ge=2, description="Number of training points.")
    test_size: int = Field(10_000, ge=2, description="Number of held-out points.")
    validation: int = Field(10_000, ge=0, description="Number of validation points.")

    @abstractmethod
    def truth(self) -> PlaneDensity:
        """The density that points are drawn from."""

    @abstractmethod
    def named(self) -> tuple[str, str, tuple[str, ...]]:
        """How the set is called, what its points are drawn from, and what the labels stand for."""

    def load(self, progress: Progress | None = None) -> DataSet:
        """Draws the points; shape (2,)."""
        truth, (name, source, classes) = self.truth(), self.named()
        sizes = {"train": self.train_size, "test": self.test_size}
        if self.validation:
            sizes["validation"] = self.validation
        splits = {part: Split(*truth.draw(n, torch.Generator().manual_seed(SEEDS[part]))) for part, n in sizes.items()}
        validation = f"{self.validation:,} validation " if self.validation else ""
        points = splits["train"].all()
        description = (
            f"{self.train_size:,} training, {validation}and {self.test_size:,} held-out points in the plane, drawn "
            f"from {source}; coordinates {points.min().item():.2f} to {points.max().item():.2f}; nothing was skipped."
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
        angle = math.pi / 4 * torch.arange(8)
        return GaussianModes(self.radius * torch.stack([angle.cos(), angle.sin()], dim=1), self.std)

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

r"""Analytic targets: densities of which everything is known, to prove samplers on.

Each is normalised, with exact `log_prob` and independent draws, and the mean and variance of each coordinate.

    | target                | density                                                                           |
    | --------------------- | --------------------------------------------------------------------------------- |
    | IllConditioned        | N(0, diag(v)), v geometric from 1 / condition to 1                                |
    | GaussianGrid          | equal mixture of side x side Gaussians in the plane, `spacing` apart, std `scale` |
    | Funnel                | x_1 ~ N(0, 3^2), the others given x_1 ~ N(0, exp(x_1))                            |
    | Banana                | x_1 ~ N(0, s^2), x_2 given x_1 ~ N(b (x_1^2 - s^2), 1)                            |
    | DoubleWell            | x_1 ~ exp(-h (x_1^2 / a^2 - 1)^2) / Z, the others ~ N(0, 1)                       |

The funnel's second moments are finite (E exp(x_1) = exp(4.5)) but carried by rare draws: judge it by its first
coordinate. The double well's Z and moments come from the trapezoidal rule, which is spectrally accurate for it, and its
draws from the inverse of a tabulated distribution function; both are right to 1e-6.

Reference: Neal, Slice sampling, Annals of Statistics 31, 2003 (funnel); Haario, Saksman and Tamminen, Adaptive proposal
distribution for random walk Metropolis algorithm, 1999 (banana).
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from vaebm.data.sets.plane import GaussianGrid as PlaneGrid
from vaebm.distributions.gaussian import standard_log_prob


class Analytic(ABC):
    """A density of which everything is known.

    Attributes:
        dim: dimension of a point.
        mean: (dim,).
        variance: (dim,).
    """

    dim: int
    mean: Tensor
    variance: Tensor

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """(n, dim) -> (n,), in nats, normalised."""

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, dim) independent draws, on the generator's device."""

    def _noise(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.randn(n, self.dim, device=generator.device, generator=generator)


class IllConditioned(Analytic):
    """A Gaussian whose variances span a factor of `condition`."""

    def __init__(self, dim: int = 100, condition: float = 1000.0) -> None:
        self.dim = dim
        self.mean = torch.zeros(dim)
        self.variance = torch.logspace(-math.log10(condition), 0.0, dim)

    def log_prob(self, x: Tensor) -> Tensor:
        scale = self.variance.to(x).sqrt()
        return standard_log_prob(x / scale) - scale.log().sum()

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return self.variance.to(generator.device).sqrt() * self._noise(n, generator)


class GaussianGrid(PlaneGrid, Analytic):
    """The 25 Gaussians: well-separated equal modes on a square grid about 0.

    Attributes:
        modes: (side^2, 2), their means.
    """

    def __init__(self, side: int = 5, spacing: float = 1.0, scale: float = 0.05) -> None:
        super().__init__(side, spacing, scale)
        self.dim, self.mean = 2, torch.zeros(2)
        self.variance = (self.modes[:, 0].square().mean() + scale**2).expand(2)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        mode = torch.randint(len(self.modes), (n,), device=generator.device, generator=generator)
        return self.modes.to(generator.device)[mode] + self.scale * self._noise(n, generator)


class Funnel(Analytic):
    """Neal's funnel: the first coordinate is the log-variance of the others."""

    def __init__(self, dim: int = 10) -> None:
        self.dim, self.scale = dim, 3.0
        self.mean = torch.zeros(dim)
        self.variance = torch.full((dim,), math.exp(self.scale**2 / 2))
        self.variance[0] = self.scale**2

    def log_prob(self, x: Tensor) -> Tensor:
        first, others = x[:, :1], x[:, 1:]
        log_scales = (self.dim - 1) / 2 * first[:, 0] + math.log(self.scale)
        return standard_log_prob(torch.cat([first / self.scale, others * torch.exp(-first / 2)], dim=1)) - log_scales

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        noise = self._noise(n, generator)
        first = self.scale * noise[:, :1]
        return torch.cat([first, torch.exp(first / 2) * noise[:, 1:]], dim=1)


class Banana(Analytic):
    """A Gaussian in the plane, bent along a parabola.

    Attributes:
        modes: (1, 2).
    """

    def __init__(self, scale: float = 2.0, bend: float = 0.25) -> None:
        self.dim, self.scale, self.bend = 2, scale, bend
        self.mean = torch.zeros(2)
        self.variance = torch.tensor([scale**2, 1 + 2 * bend**2 * scale**4])
        self.modes = torch.tensor([[0.0, -bend * scale**2]])

    def _centre(self, first: Tensor) -> Tensor:
        return self.bend * (first.square() - self.scale**2)

    def log_prob(self, x: Tensor) -> Tensor:
        first, second = x[:, 0], x[:, 1]
        straight = torch.stack([first / self.scale, second - self._centre(first)], dim=1)
        return standard_log_prob(straight) - math.log(self.scale)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        noise = self._noise(n, generator)
        first = self.scale * noise[:, 0]
        return torch.stack([first, self._centre(first) + noise[:, 1]], dim=1)


class DoubleWell(Analytic):
    """Two equal wells along the first coordinate, `height` nats below the barrier between them.

    Attributes:
        modes: (2, dim).
        log_z: log of the integral of exp(-h (x^2 / a^2 - 1)^2).
    """

    def __init__(self, dim: int = 1, height: float = 4.0, width: float = 1.0) -> None:
        self.dim, self.height, self.width = dim, height, width
        # Beyond this reach the density is below exp(-50) of its largest.
        reach = width * math.sqrt(1 + math.sqrt(50 / height))
        self._grid = torch.linspace(-reach, reach, 20_001, dtype=torch.float64)
        density = torch.exp(-height * (self._grid.square() / width**2 - 1).square())
        z = torch.trapezoid(density, self._grid)
        self.log_z = float(z.log())
        steps = (density[1:] + density[:-1]) / 2
        self._distribution = torch.cat([steps.new_zeros(1), steps.cumsum(0) / steps.sum()])
        self.mean = torch.zeros(dim)
        self.variance = torch.ones(dim)
        self.variance[0] = torch.trapezoid(density * self._grid.square(), self._grid) / z
        self.modes = torch.zeros(2, dim)
        self.modes[:, 0] = torch.tensor([-width, width])

    def log_prob(self, x: Tensor) -> Tensor:
        well = -self.height * (x[:, 0].square() / self.width**2 - 1).square() - self.log_z
        return well + standard_log_prob(x[:, 1:])

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        grid, distribution = self._grid.to(generator.device), self._distribution.to(generator.device)
        uniform = torch.rand(n, dtype=grid.dtype, device=generator.device, generator=generator)
        right = torch.searchsorted(distribution, uniform).clamp(1, len(grid) - 1)
        fraction = (uniform - distribution[right - 1]) / (distribution[right] - distribution[right - 1])
        x = self._noise(n, generator)
        x[:, 0] = grid[right - 1] + fraction * (grid[right] - grid[right - 1])
        return x

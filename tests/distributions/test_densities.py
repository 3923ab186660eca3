"""Analytic targets are what they say: normalised, and their draws have their moments."""

import math

import pytest
import torch
from scipy.special import iv

from tests.densities import Analytic, Banana, DoubleWell, Funnel, GaussianGrid, IllConditioned

TARGETS = [IllConditioned(), GaussianGrid(), Funnel(), Banana(), DoubleWell(3)]


def named(targets: list[Analytic]) -> list[str]:
    return [type(target).__name__ for target in targets]


@pytest.mark.parametrize("target", TARGETS, ids=named(TARGETS))
def test_draws_have_the_stated_moments(target: Analytic) -> None:
    generator = torch.Generator().manual_seed(0)
    x = target.sample(40_000, generator)
    assert x.shape == (40_000, target.dim)
    # The funnel's other coordinates have no fourth moment that a sample of this size could show.
    kept = slice(0, 1) if isinstance(target, Funnel) else slice(None)
    x, mean, variance = x[:, kept].double(), target.mean[kept], target.variance[kept]
    assert ((x.mean(dim=0) - mean).abs() < 4.5 * (variance / len(x)).sqrt()).all()
    square = (x - mean).square()
    assert ((square.mean(dim=0) - variance).abs() < 4.5 * square.std(dim=0) / math.sqrt(len(x))).all()


@pytest.mark.parametrize(
    ("target", "reach"),
    [
        (GaussianGrid(), 2.5),
        (GaussianGrid(side=2, spacing=0.5, scale=0.1), 1.0),
        (Banana(), 25.0),
        (Funnel(2), 60.0),
        (DoubleWell(2), 6.0),
        (IllConditioned(2, 10.0), 6.0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Analytic) else str(value),
)
def test_densities_integrate_to_one(target: Analytic, reach: float) -> None:
    axis = torch.linspace(-reach, reach, 601, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis)
    if isinstance(target, Funnel):  # wide where it is high: integrate over the second coordinate's own scale
        axis = torch.linspace(-15, 15, 601, dtype=torch.float64)
        first, unit = torch.meshgrid(axis, axis, indexing="ij")
        x = torch.stack([first.flatten(), (unit * torch.exp(first / 2)).flatten()], dim=1)
        mass = (target.log_prob(x) + first.flatten() / 2).exp().sum() * (axis[1] - axis[0]) ** 2
    else:
        mass = target.log_prob(x).exp().sum() * (axis[1] - axis[0]) ** 2
    assert float(mass) == pytest.approx(1.0, abs=1e-4)


def test_known_values() -> None:
    grid = GaussianGrid()
    assert grid.modes.shape == (25, 2)
    at_mode = math.log(1 / 25 / (2 * math.pi * 0.05**2))
    assert float(grid.log_prob(grid.modes[:1])) == pytest.approx(at_mode, abs=1e-5)
    covariance = torch.diag(IllConditioned(5, 100.0).variance)
    gaussian = torch.distributions.MultivariateNormal(torch.zeros(5), covariance)
    x = torch.randn(7, 5, generator=torch.Generator().manual_seed(1)) / 5
    assert torch.allclose(IllConditioned(5, 100.0).log_prob(x), gaussian.log_prob(x), atol=1e-4)


@pytest.mark.parametrize("height", [1.0, 4.0])
def test_double_well_constant_is_bessel(height: float) -> None:
    # Z = (pi / 2) a exp(-h / 2) (I_{-1/4}(h / 2) + I_{1/4}(h / 2))
    z = math.pi / 2 * 1.5 * math.exp(-height / 2) * (iv(-0.25, height / 2) + iv(0.25, height / 2))
    assert DoubleWell(1, height, width=1.5).log_z == pytest.approx(math.log(z), abs=1e-7)


@pytest.mark.parametrize("target", [GaussianGrid(), Banana(), DoubleWell(2)], ids=["grid", "banana", "well"])
def test_modes_are_where_the_score_vanishes(target: GaussianGrid | Banana | DoubleWell) -> None:
    x = target.modes.clone().requires_grad_()
    (score,) = torch.autograd.grad(target.log_prob(x).sum(), x)
    assert score.abs().max() < 1e-4

"""Laws of every decoder likelihood: it is normalised, its draws follow its density, and its gradients stay finite."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from vaebm.distributions.gaussian import DiagonalGaussian
from vaebm.distributions.likelihood import (
    BernoulliSettings,
    CensoredSettings,
    GaussianLikelihood,
    GaussianSettings,
    Likelihood,
    LikelihoodHead,
    LikelihoodSettings,
    LogisticMixtureSettings,
)

LEVEL = 1e-4  # of a whole test, shared among its statistics
DRAWS = 20_000


def legendre(low: float, high: float, n: int = 400) -> tuple[Tensor, Tensor]:
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return torch.from_numpy(nodes) * (high - low) / 2 + (high + low) / 2, torch.from_numpy(weights) * (high - low) / 2


def around(gaussian: DiagonalGaussian) -> tuple[float, float]:
    mean, scale = float(gaussian.mean.detach()), float(gaussian.scale.detach())
    return mean - 9 * scale, mean + 9 * scale


def on_the_line(p: Likelihood) -> tuple[Tensor, Tensor]:
    assert isinstance(p, GaussianLikelihood)
    return legendre(*around(p.gaussian))


def between_the_ends(p: Likelihood) -> tuple[Tensor, Tensor]:
    """Where the density is, and the two point masses with weight 1."""
    assert isinstance(p, GaussianLikelihood)
    low, high = around(p.gaussian)
    x, weights = legendre(min(max(low, -1.0), 1.0), max(min(high, 1.0), -1.0))
    return torch.cat([torch.tensor([-1.0, 1.0]), x]), torch.cat([torch.ones(2), weights])


def atoms(levels: int) -> Callable[[Likelihood], tuple[Tensor, Tensor]]:
    return lambda p: (torch.linspace(-1, 1, levels, dtype=torch.float64), torch.ones(levels))


@dataclass
class Case:
    """A likelihood, and how to sum over all of its values: points (k,) and their weights (k,)."""

    likelihood: LikelihoodHead
    support: Callable[[Likelihood], tuple[Tensor, Tensor]]


SETTINGS = {
    "gaussian": (GaussianSettings(), on_the_line),
    "gaussian_pixel": (GaussianSettings(scale="pixel"), on_the_line),
    "censored_global": (CensoredSettings(scale="global"), between_the_ends),
    "censored": (CensoredSettings(), between_the_ends),
    "censored_narrow": (CensoredSettings(scale="global", initial_scale=0.001), between_the_ends),
    "bernoulli": (BernoulliSettings(), atoms(2)),
    "logistic_mixture": (LogisticMixtureSettings(), atoms(256)),
    "logistic_mixture_coarse": (LogisticMixtureSettings(components=2, levels=17), atoms(17)),
    "logistic_two_levels": (LogisticMixtureSettings(components=1, levels=2), atoms(2)),
}
CASES = {name: Case(settings.build(), support) for name, (settings, support) in SETTINGS.items()}
NAMES = list(CASES)
MOVABLE = [name for name in NAMES if CASES[name].likelihood.reparameterised]


def test_every_likelihood_is_tested() -> None:
    union, _ = get_args(LikelihoodSettings)
    assert set(get_args(union)) == {type(settings) for settings, _ in SETTINGS.values()}


def raw_output(name: str, *shape: int, seed: int = 0, size: float = 1.0) -> Tensor:
    """A decoder's raw output for values (B, C, ...)."""
    batch, channels, *space = shape
    outputs = CASES[name].likelihood.outputs_per_value
    return size * torch.randn(batch, outputs * channels, *space, generator=torch.Generator().manual_seed(seed))


def one_value(name: str, seed: int, rows: int = 1) -> Likelihood:
    """A distribution of a single number, in equal rows; other seeds reach further out."""
    return CASES[name].likelihood(raw_output(name, 1, 1, seed=seed, size=1.0 + seed).expand(rows, -1))


def statistics(x: Tensor) -> Tensor:
    """(n,) to (n, k): what the tests compare in expectation."""
    x = x.double()
    return torch.stack([x, x.square(), (x <= -1).double(), (x >= 1).double(), torch.sin(4 * x)], 1)


def masses(name: str, seed: int) -> tuple[Tensor, Tensor]:
    """All values (k,) and their masses (k,)."""
    x, weights = CASES[name].support(one_value(name, seed))
    log_prob = one_value(name, seed, len(x)).log_prob(x[:, None])
    return x, weights.double() * log_prob.detach().double().exp()


def expectations(name: str, seed: int) -> tuple[float, Tensor]:
    """Total mass, and the expected statistics, by summing over all values."""
    x, mass = masses(name, seed)
    return float(mass.sum()), (mass[:, None] * statistics(x)).sum(0)


def assert_mean(values: Tensor, expected: Tensor) -> None:
    """Mean of independent rows (n, k) within its standard error; the slack is the quadrature's and float32's."""
    error = values.std(0) / math.sqrt(len(values))
    quantile = stats.norm.isf(LEVEL / (2 * values.shape[1]))
    assert ((values.mean(0) - expected).abs() <= quantile * error + 2e-5 * (1 + expected.abs())).all()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", NAMES)
def test_its_mass_is_one(name: str, seed: int) -> None:
    mass, _ = expectations(name, seed)
    assert mass == pytest.approx(1.0, abs=2e-5)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NAMES)
def test_draws_follow_the_density(name: str, seed: int) -> None:
    x = one_value(name, seed, DRAWS).sample(torch.Generator().manual_seed(10 + seed)).detach()
    assert x.shape == (DRAWS, 1)
    _, expected = expectations(name, seed)
    assert_mean(statistics(x[:, 0]), expected)


@pytest.mark.parametrize("name", ["logistic_mixture_coarse", "bernoulli", "logistic_two_levels"])
def test_each_level_is_drawn_as_often_as_its_mass_says(name: str) -> None:
    levels, mass = masses(name, 0)
    x = one_value(name, 0, DRAWS).sample(torch.Generator().manual_seed(3))[:, 0]
    counts = ((x.double() + 1) / 2 * (len(levels) - 1)).round().long().bincount(minlength=len(levels))
    kept = DRAWS * mass >= 5
    observed = torch.cat([counts[kept], counts[~kept].sum()[None]]).numpy()
    expected = torch.cat([mass[kept], mass[~kept].sum()[None]]).numpy()
    if expected[-1] * DRAWS < 1e-3:
        assert observed[-1] == 0
        observed, expected = observed[:-1], expected[:-1]
    assert stats.chisquare(observed, observed.sum() * expected / expected.sum()).pvalue > LEVEL


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", MOVABLE)
def test_the_transport_of_noise_has_the_law_of_the_density(name: str, seed: int) -> None:
    """Without Monte-Carlo error: over the standard normal by quadrature, in pieces between the clamp's corners."""
    p = one_value(name, seed)
    assert isinstance(p, GaussianLikelihood)
    mean, scale = float(p.gaussian.mean.detach()), float(p.gaussian.scale.detach())
    corners = sorted({min(max((end - mean) / scale, -9.0), 9.0) for end in (-1.0, 1.0)} | {-9.0, 9.0})
    pieces = [legendre(a, b) for a, b in itertools.pairwise(corners)]
    eps = torch.cat([nodes for nodes, _ in pieces])
    weights = torch.cat([w for _, w in pieces]) * torch.exp(-eps.square() / 2) / math.sqrt(2 * math.pi)
    moved = p.transport(eps[:, None]).detach()[:, 0]
    # Its point masses are judged in test_draws_follow_the_density: at a corner the side is float32's choice.
    kept = [0, 1, 4]
    _, expected = expectations(name, seed)
    torch.testing.assert_close(
        (weights[:, None] * statistics(moved)).sum(0)[kept], expected[kept], rtol=3e-5, atol=3e-5
    )


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_its_values_on_their_own(name: str) -> None:
    likelihood = CASES[name].likelihood
    raw = raw_output(name, 2, 3, 4, 5)
    p = likelihood(raw)
    x = p.sample(torch.Generator().manual_seed(1)).detach()
    assert x.shape == p.center.shape == (2, 3, 4, 5)
    assert p.log_prob(x).shape == (2,)
    total = torch.zeros(2)
    for row in range(4):
        for column in range(5):
            total = total + likelihood(raw[:, :, row, column]).log_prob(x[:, :, row, column])
    torch.testing.assert_close(p.log_prob(x), total, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_the_center_is_in_the_range_of_the_values(name: str) -> None:
    p = CASES[name].likelihood(raw_output(name, 50, 2, size=5.0))
    if isinstance(p, GaussianLikelihood):
        assert torch.equal(p.center, p.transport(torch.zeros(50, 2)))
    if not name.startswith("gaussian"):
        assert (p.center.abs() <= 1).all()
        assert (p.sample(torch.Generator().manual_seed(0)).abs() <= 1).all()


@pytest.mark.parametrize("size", [1.0, 1e3, 1e6])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_finite_at_saturated_values_and_far_beyond_the_ends(name: str, size: float) -> None:
    likelihood = SETTINGS[name][0].build()
    raw = raw_output(name, 20, 4, size=size).requires_grad_()
    inside = torch.nextafter(torch.tensor(1.0), torch.tensor(0.0))
    x = torch.tensor([-1.0, 1.0, 0.2, float(inside)]).expand(20, 4)
    value = likelihood(raw).log_prob(x)
    leaves = [raw, *likelihood.parameters()]
    gradients = torch.autograd.grad(value.sum(), leaves)
    assert value.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert (gradients[0] != 0).any()


@pytest.mark.parametrize("name", MOVABLE)
def test_the_generator_is_differentiable_in_code_and_noise(name: str) -> None:
    raw = raw_output(name, 30, 2).requires_grad_()
    eps = torch.randn(30, 2, generator=torch.Generator().manual_seed(1)).requires_grad_()
    p = CASES[name].likelihood(raw)
    assert isinstance(p, GaussianLikelihood)
    by_raw, by_noise = torch.autograd.grad(p.transport(eps).sum(), (raw, eps))
    x = p.transport(eps).detach()
    free = (x.abs() < 1) if name.startswith("censored") else torch.ones_like(x, dtype=torch.bool)
    torch.testing.assert_close(by_noise, torch.where(free, p.gaussian.scale.detach().expand_as(x), 0.0))
    assert (by_raw[:, :2][free] == 1).all()
    assert (by_raw[:, :2][~free] == 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_ends_at_the_likelihood(name: str) -> None:
    raw = raw_output(name, 5, 2).bfloat16()
    p = CASES[name].likelihood(raw)
    x = p.sample(torch.Generator().manual_seed(0))
    assert p.center.dtype == x.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = CASES[name].likelihood(raw).log_prob(x)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, CASES[name].likelihood(raw.float()).log_prob(x))


@pytest.mark.parametrize("name", NAMES)
def test_draws_come_from_the_generator_alone(name: str) -> None:
    p = CASES[name].likelihood(raw_output(name, 4, 3))
    before = torch.random.get_rng_state()
    first, second = (p.sample(torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(before, torch.random.get_rng_state())

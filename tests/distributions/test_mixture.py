"""The Gaussian mixture against scipy, and its draws against its own moments."""

import math

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Tensor

from vaebm.distributions.mixture import GaussianMixture

LEVEL = 1e-4  # of a whole test, shared among its statistics


def mixture(components: int = 3, dim: int = 2, seed: int = 0) -> GaussianMixture:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(components, dim, dim, generator=generator)
    factors = torch.linalg.cholesky(root @ root.mT + 0.1 * torch.eye(dim))
    weights = torch.randn(components, generator=generator).softmax(0)
    return GaussianMixture(weights.log(), 2 * torch.randn(components, dim, generator=generator), factors)


def assert_mean(values: Tensor, expected: Tensor) -> None:
    """Mean of independent rows (n, k) within its standard error."""
    values = values.double()
    error = values.std(0) / math.sqrt(len(values))
    quantile = stats.norm.isf(LEVEL / (2 * values.shape[1]))
    assert ((values.mean(0) - expected).abs() <= quantile * error).all()


def test_log_prob_is_scipys() -> None:
    mix = mixture(4, 3)
    z = 3 * torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    terms = [
        stats.multivariate_normal.logpdf(z.double(), mean, factor @ factor.T)
        for mean, factor in zip(mix.means.double().numpy(), mix.factors.double().numpy(), strict=True)
    ]
    expected = special.logsumexp(np.stack(terms, 1) + mix.log_weights.double().numpy(), axis=1)
    np.testing.assert_allclose(mix.log_prob(z).double(), expected, rtol=2e-5, atol=2e-5)


def test_it_integrates_to_one() -> None:
    mix = mixture().double()
    axis = torch.linspace(-15, 15, 601, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    mass = mix.log_prob(z).exp().sum() * (axis[1] - axis[0]) ** 2
    # Its weights are float32's, so their sum is 1 to seven digits.
    assert float(mass) == pytest.approx(1.0, abs=1e-6)


def test_draws_have_its_moments_and_weights() -> None:
    mix = mixture(3, 2)
    z = mix.sample(40_000, torch.Generator().manual_seed(2))
    weights = mix.log_weights.double().exp()[:, None]
    means, covariances = mix.means.double(), (mix.factors @ mix.factors.mT).double()
    mean = (weights * means).sum(0)
    second = (weights[..., None] * (covariances + means[:, :, None] * means[:, None, :])).sum(0)
    products = z[:, :, None] * z[:, None, :]
    assert_mean(torch.cat([z, products.flatten(1)], 1), torch.cat([mean, second.flatten()]))


def test_components_that_lie_apart_are_drawn_by_their_weights() -> None:
    weights = torch.tensor([0.5, 0.3, 0.15, 0.05])
    mix = GaussianMixture(weights.log(), 10 * torch.eye(4), torch.eye(4).expand(4, 4, 4).clone())
    z = mix.sample(20_000, torch.Generator().manual_seed(3))
    counts = z.argmax(1).bincount(minlength=4).numpy()
    assert stats.chisquare(counts, 20_000 * weights.double().numpy() / weights.double().sum().item()).pvalue > LEVEL


def test_draws_are_stratified_and_in_no_order() -> None:
    weights = torch.tensor([0.5, 0.301, 0.15, 0.049])
    mix = GaussianMixture(weights.log(), 50 * torch.eye(4), torch.eye(4).expand(4, 4, 4).clone())
    component = mix.sample(1000, torch.Generator().manual_seed(3)).argmax(1)
    assert ((component.bincount(minlength=4) - 1000 * weights).abs() < 1).all()
    assert abs(int((component[:500] == 0).sum()) - 250) < 5 * math.sqrt(1000 / 16)
    assert mix.sample(0, torch.Generator()).shape == (0, 4)


def test_single_draws_have_the_weights() -> None:
    mix = GaussianMixture(torch.tensor([0.3, 0.7]).log(), torch.tensor([[-9.0], [9.0]]), torch.ones(2, 1, 1))
    generator = torch.Generator().manual_seed(4)
    above = sum(float(mix.sample(1, generator)) > 0 for _ in range(3000))
    assert stats.binomtest(above, 3000, 0.7).pvalue > LEVEL


def test_far_away_it_is_finite_and_has_a_gradient() -> None:
    z = torch.full((1, 2), 1e4, requires_grad=True)
    value = mixture().log_prob(z)
    value.sum().backward()
    assert value.isfinite().all()
    assert z.grad is not None
    assert z.grad.isfinite().all()


def test_the_standard_one_is_the_prior() -> None:
    z = torch.randn(20, 5, generator=torch.Generator().manual_seed(4))
    expected = -0.5 * z.square().sum(1) - 2.5 * math.log(2 * math.pi)
    torch.testing.assert_close(GaussianMixture.standard(7, 5).log_prob(z), expected)


def test_an_autocast_leaves_the_density_in_float32() -> None:
    mix, z = mixture(5, 8), torch.randn(100, 8, generator=torch.Generator().manual_seed(5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = mix.log_prob(z)
    assert torch.equal(low, mix.log_prob(z))


def test_state_round_trip() -> None:
    mix = mixture(4, 3)
    other = GaussianMixture.standard(4, 3)
    other.load_state_dict(mix.state_dict())
    z = torch.randn(10, 3, generator=torch.Generator().manual_seed(6))
    assert torch.equal(mix.log_prob(z), other.log_prob(z))
    draws = [m.sample(5, torch.Generator().manual_seed(7)) for m in (mix, other)]
    assert torch.equal(*draws)
    assert not list(mix.parameters())

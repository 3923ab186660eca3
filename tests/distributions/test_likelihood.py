"""Decoder likelihoods against scipy, far out in their tails, and the denoised image against Tweedie's formula."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Tensor

from vaebm.distributions.gaussian import DiagonalGaussian
from vaebm.distributions.likelihood import (
    BernoulliLikelihood,
    CensoredLikelihood,
    CensoredSettings,
    GaussianLikelihood,
    GaussianSettings,
    LogisticMixtureLikelihood,
    LogisticMixtureSettings,
)


def column(*values: float, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor(values, dtype=dtype)[:, None]


# The censored Gaussian


@pytest.mark.parametrize("sigma", [0.01, 0.3, 3.0])
def test_the_point_masses_hold_far_beyond_the_ends(sigma: float) -> None:
    mu = column(-300.0, -30.0, -3.0, -1.0, 0.0, 1.0, 3.0, 30.0, 300.0)
    p = CensoredLikelihood(DiagonalGaussian(mu, torch.tensor(sigma).log()))
    reference, exact = mu.double()[:, 0].numpy(), torch.tensor(sigma).log().exp().item()
    low, high = torch.full_like(mu, -1.0), torch.full_like(mu, 1.0)
    np.testing.assert_allclose(p.log_prob(low), special.log_ndtr((-1 - reference) / exact), rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(p.log_prob(high), special.log_ndtr((reference - 1) / exact), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("end", [-1.0, 1.0])
def test_the_gradient_of_a_point_mass_is_the_inverse_mills_ratio(end: float) -> None:
    mu = column(-2e6, -2e4, -200.0, -20.0, -2.0, 0.0, 2.0, 20.0, 200.0, 2e4, 2e6).requires_grad_()
    sigma = 0.1
    log_scale = torch.full_like(mu, math.log(sigma)).detach().requires_grad_()
    CensoredLikelihood(DiagonalGaussian(mu, log_scale)).log_prob(torch.full_like(mu, end)).sum().backward()
    a = end * (mu.detach().double() - end) / sigma  # the mass is Phi(a)
    mills = torch.from_numpy(math.sqrt(2 / math.pi) / special.erfcx(-a.numpy() / math.sqrt(2)))
    assert mu.grad is not None
    assert log_scale.grad is not None
    torch.testing.assert_close(mu.grad.double(), end * mills / sigma, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(log_scale.grad.double(), -a * mills, rtol=1e-4, atol=1e-6)


def test_only_exact_ends_are_point_masses() -> None:
    p = CensoredLikelihood(DiagonalGaussian(torch.zeros(1, 1), torch.tensor(0.3).log()))
    inside = torch.nextafter(torch.tensor([[1.0]]), torch.zeros(1, 1))
    expected = stats.norm.logpdf(inside.item(), 0.0, 0.3)
    assert float(p.log_prob(inside)) == pytest.approx(expected, rel=1e-5)
    assert float(p.log_prob(torch.ones(1, 1))) == pytest.approx(float(special.log_ndtr(-1 / 0.3)), rel=1e-5)


def test_a_saturated_pixel_has_no_gradient_in_its_noise_and_the_others_theirs() -> None:
    p = CensoredLikelihood(DiagonalGaussian(torch.tensor([[0.9, -5.0, 0.0]]), torch.tensor(0.5).log()))
    eps = torch.tensor([[1.0, 0.3, 0.7]], requires_grad=True)
    x = p.transport(eps)
    x.sum().backward()
    torch.testing.assert_close(x, torch.tensor([[1.0, -1.0, 0.35]]))
    assert eps.grad is not None
    torch.testing.assert_close(eps.grad, torch.tensor([[0.0, 0.0, 0.5]]))


# The discretised logistic mixture


@pytest.mark.parametrize("log_scale", [-8.0, -3.0, 0.0, 2.0])
@pytest.mark.parametrize("levels", [2, 16, 256])
def test_logistic_bins_are_differences_of_the_distribution_function(levels: int, log_scale: float) -> None:
    mean = 0.2
    grid = torch.linspace(-1, 1, levels)[:, None]
    shape = (levels, 1, 1)
    p = LogisticMixtureLikelihood(torch.zeros(shape), torch.full(shape, mean), torch.full(shape, log_scale), levels)
    half = 1 / (levels - 1)
    points, scale = grid.double().numpy()[:, 0], math.exp(log_scale)
    upper = np.where(points > 1 - half, np.inf, (points + half - np.float32(mean)) / scale)
    lower = np.where(points < half - 1, -np.inf, (points - half - np.float32(mean)) / scale)
    # On the side of the mean where both are small the difference keeps its digits.
    flip = lower > 0
    a, b = np.where(flip, -upper, lower), np.where(flip, -lower, upper)
    with np.errstate(divide="ignore"):
        expected = np.log(special.expit(b) - special.expit(a))
    value = p.log_prob(grid).double().numpy()
    seen = expected > -600  # beyond, the difference itself underflows
    np.testing.assert_allclose(value[seen], expected[seen], rtol=1e-4, atol=1e-4)
    assert np.isfinite(value).all()


@pytest.mark.parametrize("levels", [2, 256, 65_536])
@pytest.mark.parametrize("log_scale", [-8.0, 2.0])
@pytest.mark.parametrize("mean", [0.0, 1e3, -1e6, 1e8])
def test_logistic_gradients_are_finite_however_far_the_mean(mean: float, log_scale: float, levels: int) -> None:
    x = torch.tensor([[-1.0, 1.0, 0.3]])
    log_weights = torch.full((1, 2, 3), 0.5).log().requires_grad_()
    means = torch.full((1, 2, 3), mean, requires_grad=True)
    log_scales = torch.full((1, 2, 3), log_scale, requires_grad=True)
    value = LogisticMixtureLikelihood(log_weights, means, log_scales, levels).log_prob(x)
    value.sum().backward()
    assert value.isfinite().all()
    for leaf in (log_weights, means, log_scales):
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()


def test_the_gradient_of_a_wide_logistic_survives_many_levels() -> None:
    mean = torch.full((1, 1, 1), 0.1, requires_grad=True)
    p = LogisticMixtureLikelihood(torch.zeros(1, 1, 1), mean, torch.full((1, 1, 1), 2.0), 65_536)
    p.log_prob(torch.tensor([[0.3]])).sum().backward()
    scale = math.exp(2.0)
    assert mean.grad is not None
    # The density's own: tanh(d / 2 s) / s.
    assert float(mean.grad) == pytest.approx(math.tanh(0.2 / (2 * scale)) / scale, rel=1e-2)


def test_logistic_draws_lie_on_the_levels() -> None:
    raw = torch.randn(200, 15, 4, 4, generator=torch.Generator().manual_seed(0))
    p = LogisticMixtureSettings(components=5, levels=11).build()(raw)
    x = p.sample(torch.Generator().manual_seed(1))
    steps = (x + 1) * 5
    torch.testing.assert_close(steps, steps.round(), atol=1e-5, rtol=0)
    assert (x.abs() <= 1).all()


# Bernoulli


def test_bernoulli_is_stable_at_any_logit() -> None:
    logits = torch.tensor([[1e4, -1e4, 2.0]], requires_grad=True)
    value = BernoulliLikelihood(logits).log_prob(torch.tensor([[-1.0, 1.0, 1.0]]))
    value.backward()
    assert float(value.detach()) == pytest.approx(-2e4 - math.log1p(math.exp(-2.0)), rel=1e-6)
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.tensor([[-1.0, 1.0, 1 - 1 / (1 + math.exp(-2.0))]]))


# Scales


@pytest.mark.parametrize("settings", [GaussianSettings, CensoredSettings])
def test_a_global_scale_is_one_learned_number(settings: type[GaussianSettings]) -> None:
    likelihood = settings(scale="global", initial_scale=0.2).build()
    p = likelihood(torch.zeros(4, 3, 2, 2))
    assert p.gaussian.scale.shape == ()
    assert float(p.gaussian.scale.detach()) == pytest.approx(0.204, rel=1e-4)
    p.log_prob(torch.zeros(4, 3, 2, 2)).sum().backward()
    assert [float(p.grad) for p in likelihood.parameters() if p.grad is not None] != [0.0]


@pytest.mark.parametrize("settings", [GaussianSettings, CensoredSettings])
def test_a_scale_per_pixel_stays_within_its_factor_of_the_base(settings: type[GaussianSettings]) -> None:
    likelihood = settings(scale="pixel", initial_scale=0.2).build()
    raw = 100 * torch.randn(50, 6, 2, 2, generator=torch.Generator().manual_seed(0))
    p = likelihood(raw)
    assert torch.equal(p.gaussian.mean, raw[:, :3])
    scale = p.gaussian.scale.detach()
    assert scale.shape == (50, 3, 2, 2)
    assert float(scale.min()) == pytest.approx(0.2 * math.exp(-4) + 0.004, rel=1e-4)
    assert float(scale.max()) == pytest.approx(0.2 * math.exp(4) + 0.004, rel=1e-4)
    # A larger output of its own means a larger scale.
    order = raw[:, 3:].flatten().argsort()
    assert (scale.flatten()[order].diff() >= -1e-6).all()


# Denoising: u + sigma^2 times the score of u, where u = mu(z) + sigma eps and h(u, z) = p(z) N(u; mu, sigma) exp(-E)


def test_denoised_mean_of_a_quadratic_energy_is_the_corrected_mean() -> None:
    mu, sigma, a, c = 0.3, 0.5, 2.0, -0.4
    p = GaussianLikelihood(DiagonalGaussian(torch.full((1, 1), mu), torch.tensor(sigma).log()))
    corrected = (mu / sigma**2 + a * c) / (1 / sigma**2 + a)
    x = torch.full((1, 1), corrected)
    torch.testing.assert_close(p.denoise(x, a * (x - c)), x)


def quadrature(n: int, reach: float) -> tuple[Tensor, Tensor]:
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return torch.from_numpy(nodes) * reach, torch.from_numpy(weights) * reach


def slow_energy(x: Tensor) -> Tensor:
    return 0.3 * torch.sin(2 * x) + 0.2 * x.square()


@pytest.mark.parametrize(
    ("kind", "clamp"),
    [(GaussianLikelihood, lambda u: u), (CensoredLikelihood, lambda u: u.clamp(-1, 1))],
    ids=["gaussian", "censored"],
)
@pytest.mark.parametrize("u", [-1.8, -1.001, -0.999, -0.4, 0.2, 0.97, 1.3])
def test_denoised_averages_to_tweedies_estimate(
    kind: type[GaussianLikelihood], clamp: Callable[[Tensor], Tensor], u: float
) -> None:
    """E[denoise | u] = u + sigma^2 d/du log h(u), where h(u) integrates over the code z."""
    z, weights = quadrature(400, 9.0)
    mu, sigma = 0.7 * torch.tanh(z), torch.tensor(0.4, dtype=torch.float64)
    noisy = torch.tensor(u, dtype=torch.float64, requires_grad=True)
    prior = weights * torch.exp(-z.square() / 2)
    joint = prior * torch.exp(-((noisy - mu) ** 2) / (2 * sigma**2) - slow_energy(clamp(noisy)))
    (score,) = torch.autograd.grad(joint.sum().log(), noisy)
    tweedie = u + sigma**2 * score

    x = clamp(torch.full((400, 1), u, dtype=torch.float64)).requires_grad_()
    (gradient,) = torch.autograd.grad(slow_energy(x).sum(), x)
    estimate = kind(DiagonalGaussian(mu[:, None], sigma.log())).denoise(x.detach(), gradient)[:, 0]
    assert estimate.abs().max() < 1  # so that the censored estimate's own clamp plays no part here
    averaged = (joint.detach() * estimate).sum() / joint.detach().sum()
    torch.testing.assert_close(averaged, tweedie, rtol=1e-8, atol=1e-8)


def test_denoised_and_noisy_have_the_same_mean_under_the_corrected_density() -> None:
    """Over the latent u of a censored pixel: E[mu - sigma^2 dE/du] = E[u], since a score averages to 0."""
    mu, sigma = 0.5, 0.4
    # Split at the ends, where the energy's gradient jumps.
    pieces = [(quadrature(200, half), middle) for middle, half in ((-3.5, 2.5), (0.0, 1.0), (3.5, 2.5))]
    u = torch.cat([nodes + middle for (nodes, _), middle in pieces])
    weights = torch.cat([w for (_, w), _ in pieces])
    x = u.clamp(-1, 1)[:, None].requires_grad_()
    (gradient,) = torch.autograd.grad(slow_energy(x).sum(), x)
    p = CensoredLikelihood(
        DiagonalGaussian(torch.full_like(x, mu).detach(), torch.tensor(sigma, dtype=torch.float64).log())
    )
    density = weights * torch.exp(-((u - mu) ** 2) / (2 * sigma**2) - slow_energy(x.detach()[:, 0]))
    density = density / density.sum()
    torch.testing.assert_close(
        (density * p.denoise(x.detach(), gradient)[:, 0]).sum(), (density * u).sum(), rtol=1e-8, atol=1e-8
    )


def test_denoised_censored_pixels_stay_in_the_range() -> None:
    p = CensoredLikelihood(DiagonalGaussian(torch.tensor([[4.0, -4.0, 0.0]]), torch.tensor(0.5).log()))
    x = p.transport(torch.zeros(1, 3))
    estimate = p.denoise(x, torch.tensor([[5.0, 5.0, 40.0]]))
    # The first two are saturated, so their energy's gradient does not count; the third is pushed out and held.
    assert torch.equal(estimate, torch.tensor([[1.0, -1.0, -1.0]]))


def test_pixels_with_noise_are_the_sum_of_pixels_and_noise() -> None:
    scale = torch.tensor([0.1, 0.3]).view(1, 1, 1, 2)
    pixels = GaussianLikelihood(DiagonalGaussian(torch.full((200_000, 1, 1, 2), 0.7), scale.log())).with_noise(0.4)
    x = pixels.sample(torch.Generator().manual_seed(0))
    torch.testing.assert_close(x.mean(0), torch.full_like(x[0], 0.7), atol=0.01, rtol=0)
    torch.testing.assert_close(x.std(0), torch.tensor([[[0.17**0.5, 0.5]]]), atol=0.01, rtol=0)
    assert torch.equal(pixels.center, torch.full_like(x, 0.7))


def test_pixels_with_noise_are_denoised_to_the_posterior_mean() -> None:
    """Clean x ~ N(mu, sigma^2) exp(-a (x - c)^2 / 2), noise s: everything is Gaussian, and Tweedie's estimate exact."""
    mu, sigma, noise, a, c = 0.3, 0.5, 0.2, 2.0, -0.4
    clean_variance = 1 / (1 / sigma**2 + a)
    clean_mean = clean_variance * (mu / sigma**2 + a * c)
    x = torch.linspace(-2, 2, 9)[:, None].requires_grad_()
    pixels = GaussianLikelihood(DiagonalGaussian(torch.full((9, 1), mu), torch.tensor(sigma).log())).with_noise(noise)
    # E(x~) is what turns N(mu, sigma^2 + s^2) into the law of clean x with noise.
    total, wanted = sigma**2 + noise**2, clean_variance + noise**2
    energy = (x - clean_mean).square() / (2 * wanted) - (x - mu).square() / (2 * total)
    (gradient,) = torch.autograd.grad(energy.sum(), x)
    posterior_mean = (clean_variance * x + noise**2 * clean_mean) / wanted
    torch.testing.assert_close(pixels.denoise(x.detach(), gradient), posterior_mean.detach())

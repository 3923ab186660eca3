"""The diagonal Gaussian against scipy, and its divergence against quadrature."""

import math

import torch
from scipy import special, stats

from vaebm.distributions.gaussian import DiagonalGaussian, log_normal_cdf, standard_log_prob


def gaussian(seed: int, *shape: int) -> DiagonalGaussian:
    generator = torch.Generator().manual_seed(seed)
    mean, log_scale = torch.randn(2, *shape, dtype=torch.float64, generator=generator)
    return DiagonalGaussian(mean, log_scale)


def test_log_prob_is_scipys_summed_over_a_point() -> None:
    p, x = gaussian(0, 5, 2, 3, 3), gaussian(1, 5, 2, 3, 3).mean
    expected = torch.from_numpy(stats.norm.logpdf(x, p.mean, p.scale)).sum((1, 2, 3))
    torch.testing.assert_close(p.log_prob(x), expected)
    torch.testing.assert_close(standard_log_prob(x), torch.from_numpy(stats.norm.logpdf(x)).sum((1, 2, 3)))


def test_a_common_scale_counts_once_for_every_value() -> None:
    p = gaussian(0, 4, 6)
    log_scale = torch.tensor(-0.7, dtype=torch.float64)
    common, spelled_out = DiagonalGaussian(p.mean, log_scale), DiagonalGaussian(p.mean, log_scale.expand(4, 6))
    x, other = p.mean + 0.3, gaussian(2, 4, 6)
    torch.testing.assert_close(common.log_prob(x), spelled_out.log_prob(x))
    torch.testing.assert_close(common.kl(other), spelled_out.kl(other))
    torch.testing.assert_close(other.kl(common), other.kl(spelled_out))


def test_transport_has_its_inverse_and_its_jacobian() -> None:
    p = gaussian(3, 7, 4)
    eps = gaussian(4, 7, 4).mean
    x = p.transport(eps)
    torch.testing.assert_close(p.transport_inverse(x), eps)
    torch.testing.assert_close(p.log_prob(x), standard_log_prob(eps) - p.log_scale.sum(1))


def test_divergence_is_the_integral() -> None:
    q, p = gaussian(5, 8, 1), gaussian(6, 8, 1)
    unit = torch.linspace(-12, 12, 4001, dtype=torch.float64)[:, None, None]
    x = q.mean + q.scale * unit  # (grid, 8, 1)
    log_q = -0.5 * unit.square() - q.log_scale
    log_p = -0.5 * ((x - p.mean) / p.scale).square() - p.log_scale
    density = torch.exp(-0.5 * unit.square()) / (2 * torch.pi) ** 0.5
    integral = torch.trapezoid(density * (log_q - log_p), unit.expand_as(x), dim=0)[:, 0]
    torch.testing.assert_close(q.kl(p), integral)
    torch.testing.assert_close(q.kl(q), torch.zeros(8, dtype=torch.float64))
    assert (q.kl(p) > 0).all()


def test_draws_are_the_generators_alone() -> None:
    p = gaussian(7, 3, 2)
    before = torch.random.get_rng_state()
    first, second = (p.sample(torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.dtype == torch.float64
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_normal_distribution_function_and_its_slope_are_right_however_far_out() -> None:
    a = torch.cat([-torch.logspace(-2, 7, 500), torch.logspace(-2, 7, 500)]).requires_grad_()
    value = log_normal_cdf(a)
    (slope,) = torch.autograd.grad(value.sum(), a)
    exact = a.detach().double().numpy()
    torch.testing.assert_close(value.detach().double(), torch.from_numpy(special.log_ndtr(exact)), rtol=1e-5, atol=1e-7)
    expected = torch.from_numpy(math.sqrt(2 / math.pi) / special.erfcx(-exact / math.sqrt(2)))
    torch.testing.assert_close(slope.double(), expected, rtol=1e-5, atol=1e-7)

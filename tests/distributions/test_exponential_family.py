"""The diagonal Gaussian by natural parameters, and its conjugate mixture, against quadrature and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Tensor

from vaebm.distributions.exponential_family import ConjugateBias, NaturalParameters

AXIS = torch.linspace(-14.0, 14.0, 1201, dtype=torch.float64)
PLANE = torch.cartesian_prod(AXIS, AXIS)
CELL = float(AXIS[1] - AXIS[0]) ** 2


def bias(kind: str) -> ConjugateBias:
    if kind == "gaussian":
        return ConjugateBias(torch.zeros(1, 2), torch.zeros(1, 2), fixed=True).double()
    generator = torch.Generator().manual_seed(0)
    return ConjugateBias(
        2 * torch.randn(3, 2, generator=generator), 0.3 * torch.randn(3, 2, generator=generator)
    ).double()


def statistics() -> NaturalParameters:
    generator = torch.Generator().manual_seed(1)
    linear, b = (torch.randn(4, 2, dtype=torch.float64, generator=generator) for _ in range(2))
    return NaturalParameters(2 * linear, -b.square())


def weights(t: NaturalParameters, prior: ConjugateBias) -> Tensor:
    """exp(<t, (z, z^2)>) pi(z) on the grid, (4, points)."""
    inner = torch.stack([NaturalParameters(a, q).inner(PLANE) for a, q in zip(*t, strict=True)])
    return (inner + prior.log_prob(PLANE)).exp()


def test_the_log_normaliser_is_that_of_the_gaussian() -> None:
    mean, scale = torch.tensor([0.7, -2.0], dtype=torch.float64), torch.tensor([0.5, 1.5], dtype=torch.float64)
    natural = NaturalParameters(mean / scale**2, -0.5 / scale**2)
    z = torch.tensor([[0.1, 0.2], [-3.0, 4.0]], dtype=torch.float64)
    expected = np.sum(stats.norm.logpdf(z.numpy(), mean.numpy(), scale.numpy()), axis=1)
    np.testing.assert_allclose((natural.inner(z) - natural.log_normaliser).numpy(), expected, atol=1e-12)
    torch.testing.assert_close(natural.mean, mean)
    torch.testing.assert_close(natural.variance, scale**2)


def test_the_bias_is_an_equal_mixture() -> None:
    mixture = bias("mixture")
    z = torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    mean, scale = mixture.mean.detach().numpy(), mixture.log_scale.detach().exp().numpy()
    terms = np.sum(stats.norm.logpdf(z.numpy()[:, None], mean, scale), axis=2)
    expected = special.logsumexp(terms, axis=1) - np.log(3)
    np.testing.assert_allclose(mixture.log_prob(z).detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("kind", ["gaussian", "mixture"])
@torch.no_grad()
def test_the_posterior_is_that_of_quadrature(kind: str) -> None:
    prior, t = bias(kind), statistics()
    posterior, weight = prior.posterior(t), weights(t, prior)
    evidence = weight.sum(1) * CELL
    torch.testing.assert_close(posterior.log_evidence, evidence.log(), rtol=0, atol=1e-9)
    share = weight / weight.sum(1, keepdim=True)
    mean = share @ PLANE
    torch.testing.assert_close(posterior.mean, mean, rtol=0, atol=1e-9)
    torch.testing.assert_close(posterior.variance, share @ PLANE.square() - mean.square(), rtol=0, atol=1e-8)
    z = torch.tensor([[0.3, -0.4]] * 4, dtype=torch.float64)
    exact = t.inner(z) + prior.log_prob(z) - evidence.log()
    torch.testing.assert_close(posterior.log_prob(z), exact, rtol=0, atol=1e-9)
    torch.testing.assert_close(posterior.log_weights.exp().sum(1), torch.ones(4, dtype=torch.float64))


def test_under_a_standard_gaussian_it_has_the_published_form() -> None:
    t = statistics()
    precision = 1 - 2 * t.quadratic  # 1 + 2 b^2
    posterior = bias("gaussian").posterior(t)
    torch.testing.assert_close(posterior.mean, t.linear / precision)
    torch.testing.assert_close(posterior.variance, 1 / precision)
    published = (precision.log() / 2 - t.linear.square() / (2 * precision)).sum(1)
    torch.testing.assert_close(-posterior.log_evidence, published)


def test_only_a_mixture_learns() -> None:
    assert not [p for p in bias("gaussian").parameters() if p.requires_grad]
    mixture = bias("mixture")
    mixture.posterior(statistics()).log_evidence.sum().backward()
    assert all(p.grad is not None and p.grad.abs().min() > 0 for p in mixture.parameters())

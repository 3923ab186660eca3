"""The ELBO on a linear-Gaussian VAE, where log p(x) is known in closed form.

z ~ N(0, I),  x = W z + b + sigma eps:   p(x) = N(b, W W^T + sigma^2 I),
p(z | x) = N(S W^T (x - b) / sigma^2, S),  S = (I + W^T W / sigma^2)^-1, diagonal when W has orthogonal columns
"""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from vaebm.distributions.gaussian import DiagonalGaussian
from vaebm.distributions.likelihood import GaussianHead
from vaebm.vae import FlatVAE, elbo

LEVEL = 1e-4  # of a whole test, shared among its statistics
POINTS, DRAWS = 6, 4000


class Linear:
    """A VAE whose posterior is exact, but for `shift` of its mean and `widening` of its log scale."""

    def __init__(self, shift: float = 0.0, widening: float = 0.0) -> None:
        generator = torch.Generator().manual_seed(0)
        basis, _ = torch.linalg.qr(torch.randn(4, 4, generator=generator))
        self.weight = basis[:, :2] * torch.tensor([1.5, 0.6])
        self.offset = torch.randn(4, generator=generator)
        likelihood = GaussianHead("global", 0.4, censored=False)
        self.sigma = float(likelihood(torch.zeros(1, 4)).gaussian.scale.detach())
        variance = 1 / (1 + self.weight.square().sum(0) / self.sigma**2)
        encoder, decoder = nn.Linear(4, 4), nn.Linear(2, 4)
        with torch.no_grad():
            decoder.weight.copy_(self.weight)
            decoder.bias.copy_(self.offset)
            encoder.weight.zero_()
            encoder.weight[:2] = variance[:, None] * self.weight.T / self.sigma**2
            encoder.bias[:2] = -encoder.weight[:2] @ self.offset + shift
            encoder.bias[2:] = variance.log() / 2 + widening
        self.vae = FlatVAE((4,), 2, encoder, decoder, likelihood)
        covariance = self.weight @ self.weight.T + self.sigma**2 * torch.eye(4)
        self.marginal = torch.distributions.MultivariateNormal(self.offset.double(), covariance.double())
        self.x = self.marginal.mean.float() + torch.randn(POINTS, 4, generator=generator)
        self.log_p = self.marginal.log_prob(self.x.double())


@torch.no_grad()
def bounds(linear: Linear) -> Tensor:
    """(DRAWS, POINTS) one-draw estimates of the ELBO."""
    value = elbo(linear.vae, linear.x.repeat(DRAWS, 1), torch.Generator().manual_seed(1)).value
    return value.reshape(DRAWS, POINTS).double()


def quantile(statistics: int) -> float:
    return float(stats.norm.isf(LEVEL / (2 * statistics)))


def test_at_the_exact_posterior_it_is_the_log_likelihood() -> None:
    linear = Linear()
    values = bounds(linear)
    error = values.std(0) / math.sqrt(DRAWS)
    assert ((values.mean(0) - linear.log_p).abs() <= quantile(POINTS) * error).all()


def test_at_the_exact_posterior_every_draw_says_the_log_likelihood() -> None:
    linear = Linear()
    posterior = linear.vae.posterior(linear.x)
    z = posterior.sample(torch.Generator().manual_seed(2))
    ratio = linear.vae.log_joint(linear.x, z) - posterior.log_prob(z)
    torch.testing.assert_close(ratio.double(), linear.log_p, rtol=0, atol=2e-4)


@pytest.mark.parametrize(("shift", "widening"), [(0.2, 0.0), (0.0, 0.5), (-0.1, -0.5)])
def test_elsewhere_it_is_below_by_the_divergence(shift: float, widening: float) -> None:
    linear, exact = Linear(shift, widening), Linear()
    values = bounds(linear)
    gap = linear.vae.posterior(linear.x).kl(exact.vae.posterior(linear.x)).double()
    error = values.std(0) / math.sqrt(DRAWS)
    assert (values.mean(0) < linear.log_p - 3 * error).all()
    assert ((values.mean(0) + gap - linear.log_p).abs() <= quantile(POINTS) * error).all()


def test_its_divergence_is_that_from_the_prior_and_carries_the_weight() -> None:
    linear = Linear()
    posterior = linear.vae.posterior(linear.x)
    draws = torch.Generator().manual_seed(3)
    whole = elbo(linear.vae, linear.x, draws)
    (kl,) = whole.kl.values()
    torch.testing.assert_close(kl, posterior.kl(DiagonalGaussian(torch.zeros(POINTS, 2), torch.zeros(POINTS, 2))))
    torch.testing.assert_close(whole.value, whole.log_likelihood - kl)
    half = elbo(linear.vae, linear.x, torch.Generator().manual_seed(3), kl_weight=0.5)
    torch.testing.assert_close(half.value, whole.value + 0.5 * kl)


def test_its_gradient_is_unbiased_at_the_optimum() -> None:
    """At the exact posterior the ELBO touches log p(x), so its mean gradient in the encoder is 0."""
    linear = Linear()
    gradients = []
    generator = torch.Generator().manual_seed(4)
    x = linear.x.repeat(50, 1)
    for _ in range(60):
        value = elbo(linear.vae, x, generator).value.mean()
        gradients.append(
            torch.cat([g.flatten() for g in torch.autograd.grad(value, list(linear.vae.encoder.parameters()))])
        )
    found = torch.stack(gradients).double()
    error = found.std(0) / math.sqrt(len(found))
    assert (found.mean(0).abs() <= float(stats.t.isf(LEVEL / (2 * found.shape[1]), len(found) - 1)) * error).all()

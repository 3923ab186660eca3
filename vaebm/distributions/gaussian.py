"""The diagonal Gaussian: N(x; mu, diag(sigma^2)), and the Kullback-Leibler divergence between two of them.

    log N(x; mu, sigma) = sum_i [ -(x_i - mu_i)^2 / (2 sigma_i^2) - log sigma_i - log(2 pi) / 2 ]
    KL(q || p) = sum_i [ log(sp_i / sq_i) + (sq_i^2 + (mq_i - mp_i)^2) / (2 sp_i^2) - 1/2 ]
    T(eps) = mu + sigma eps,  eps ~ N(0, I)
    Phi(a) = P(eps <= a) in one dimension

Everything is summed over all axes but the first, so a point may be a vector or an image.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision as float32, anything else as it is: densities and energies are never left to half precision."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def sum_over_values(terms: Tensor) -> Tensor:
    """Sums (B, ...) over everything but the first axis, to (B,)."""
    return terms.flatten(1).sum(1)


def standard_log_prob(eps: Tensor) -> Tensor:
    """log N(eps; 0, I) of (B, ...), to (B,), in nats."""
    return sum_over_values(-0.5 * eps.square() - HALF_LOG_TWO_PI)


class _LogNormalCDF(torch.autograd.Function):
    """log Phi(a), with the gradient sqrt(2 / pi) / erfcx(-a / sqrt 2).

    PyTorch's own gradient is the exponential of a difference of large numbers: in float32 it is a seventh off at
    a = -2,000 and infinite or 0 soon after.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, a: Tensor) -> Tensor:
        ctx.save_for_backward(a)
        value: Tensor = torch.special.log_ndtr(a)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (a,) = ctx.saved_tensors
        result: Tensor = gradient * math.sqrt(2.0 / math.pi) / torch.special.erfcx(-a / math.sqrt(2.0))
        return result


def log_normal_cdf(a: Tensor) -> Tensor:
    """log Phi(a), element-wise, with a gradient that is right however far out."""
    value: Tensor = _LogNormalCDF.apply(a)  # type: ignore[no-untyped-call]
    return value


@dataclass(frozen=True)
class DiagonalGaussian:
    """N(mean, diag(exp(log_scale)^2)); `log_scale` broadcasts to `mean`, which is (B, ...)."""

    mean: Tensor
    log_scale: Tensor

    @property
    def scale(self) -> Tensor:
        return self.log_scale.exp()

    def transport(self, eps: Tensor) -> Tensor:
        """T(eps) = mu + sigma eps, of standard normal `eps` shaped as the mean."""
        return self.mean + self.scale * eps

    def transport_inverse(self, x: Tensor) -> Tensor:
        """eps = (x - mu) / sigma."""
        return (x - self.mean) / self.scale

    def sample(self, generator: torch.Generator, period: int | None = None) -> Tensor:
        """One draw per row, shaped as the mean; with a period, rows that are so far apart have the same noise."""
        shape = self.mean.shape if period is None else (period, *self.mean.shape[1:])
        eps = torch.randn(shape, generator=generator, dtype=self.mean.dtype, device=self.mean.device)
        if period is not None:
            eps = eps.repeat(len(self.mean) // period, *(1,) * (eps.dim() - 1))
        return self.transport(eps)

    def repeated(self, draws: int) -> "DiagonalGaussian":
        """Each row so many times, one after the other."""
        log_scale = self.log_scale.expand_as(self.mean)
        return DiagonalGaussian(self.mean.repeat_interleave(draws, 0), log_scale.repeat_interleave(draws, 0))

    def log_prob(self, x: Tensor) -> Tensor:
        """log N(x; mu, sigma) of (B, ...), to (B,), in nats."""
        return sum_over_values(-0.5 * self.transport_inverse(x).square() - self.log_scale - HALF_LOG_TWO_PI)

    def first(self, d: int) -> "DiagonalGaussian":
        """The marginal of the first d values of each point, as vectors (B, d)."""
        return DiagonalGaussian(self.mean.flatten(1)[:, :d], self.log_scale.expand_as(self.mean).flatten(1)[:, :d])

    def kl(self, other: "DiagonalGaussian") -> Tensor:
        """KL(self || other), (B,), in nats."""
        log_ratio = other.log_scale - self.log_scale
        spread = ((self.mean - other.mean) / other.scale).square() + torch.exp(-2.0 * log_ratio)
        return sum_over_values(log_ratio + 0.5 * spread - 0.5)

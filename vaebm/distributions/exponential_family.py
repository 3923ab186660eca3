r"""The diagonal Gaussian as an exponential family, and mixtures that are conjugate to it.

    N(z; lambda) = exp(<lambda, (z, z^2)> - A(lambda)),      lambda = (m / s^2, -1 / (2 s^2)),   lambda_2 < 0
    A(lambda) = sum_d [ -lambda_1^2 / (4 lambda_2) + log(pi / -lambda_2) / 2 ]

A likelihood exp(<t, (z, z^2)>) with t_2 <= 0 is conjugate to it, and to the mixture pi(z) = 1/K sum_k N(z; lambda_k):

    pi(z) exp(<t, (z, z^2)>) = e(t) sum_k r_k N(z; lambda_k + t)
    e(t) = 1/K sum_k exp(A(lambda_k + t) - A(lambda_k)),      r_k ∝ exp(A(lambda_k + t) - A(lambda_k))

For K = 1 and pi = N(0, I) the posterior is N(t_1 / (1 - 2 t_2), 1 / (1 - 2 t_2)) in each dimension.

Wainwright & Jordan, Graphical models, exponential families, and variational inference, 2008, Section 3,
https://doi.org/10.1561/2200000001
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn


class NaturalParameters(NamedTuple):
    """Coefficients (..., d) of z and of z^2; those of a Gaussian where all of the latter are below 0."""

    linear: Tensor
    quadratic: Tensor

    def plus(self, other: "NaturalParameters") -> "NaturalParameters":
        """Of the product of both densities."""
        return NaturalParameters(self.linear + other.linear, self.quadratic + other.quadratic)

    def inner(self, z: Tensor) -> Tensor:
        """<lambda, (z, z^2)>, summed over the last axis."""
        return (self.linear * z + self.quadratic * z.square()).sum(-1)

    @property
    def log_normaliser(self) -> Tensor:
        """A(lambda), (...), in nats."""
        return (-self.linear.square() / (4 * self.quadratic) + 0.5 * torch.log(-math.pi / self.quadratic)).sum(-1)

    @property
    def variance(self) -> Tensor:
        """(..., d)."""
        return -0.5 / self.quadratic

    @property
    def mean(self) -> Tensor:
        """(..., d)."""
        return self.linear * self.variance


class Posterior(NamedTuple):
    """The mixture sum_k r_k N(z; lambda_k + t) of each t of a batch, and e(t)."""

    components: NaturalParameters  # (B, K, d)
    log_weights: Tensor  # (B, K), log r_k: the responsibilities
    log_evidence: Tensor  # (B,), log e(t), in nats

    @property
    def mean(self) -> Tensor:
        """(B, d)."""
        return (self.log_weights.exp()[..., None] * self.components.mean).sum(1)

    @property
    def variance(self) -> Tensor:
        """(B, d), of the mixture: the mean of the variances plus the variance of the means."""
        second = self.components.variance + self.components.mean.square()
        return (self.log_weights.exp()[..., None] * second).sum(1) - self.mean.square()

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z | t) of (B, d), to (B,), in nats."""
        of_components = self.components.inner(z[:, None]) - self.components.log_normaliser
        return torch.logsumexp(self.log_weights + of_components, dim=1)


class ConjugateBias(nn.Module):
    """pi(z), an equal mixture of K diagonal Gaussians, which learns its components unless they are `fixed`.

    Args:
        mean: (K, d).
        log_scale: (K, d).
        fixed: whether the components stay as they are.
    """

    def __init__(self, mean: Tensor, log_scale: Tensor, fixed: bool = False) -> None:
        super().__init__()
        self.mean = nn.Parameter(mean, requires_grad=not fixed)
        self.log_scale = nn.Parameter(log_scale, requires_grad=not fixed)

    @property
    def natural(self) -> NaturalParameters:
        """lambda_k, (K, d)."""
        precision = torch.exp(-2.0 * self.log_scale)
        return NaturalParameters(precision * self.mean, -0.5 * precision)

    def posterior(self, statistics: NaturalParameters) -> Posterior:
        """Given the likelihood exp(<t, (z, z^2)>), t being (B, d) each."""
        prior = self.natural
        components = prior.plus(NaturalParameters(*(t[:, None] for t in statistics)))
        gains = components.log_normaliser - prior.log_normaliser
        total = torch.logsumexp(gains, dim=1)
        return Posterior(components, gains - total[:, None], total - math.log(len(self.mean)))

    def log_prob(self, z: Tensor) -> Tensor:
        """log pi(z) of (B, d), to (B,), in nats."""
        prior = self.natural
        return torch.logsumexp(prior.inner(z[:, None]) - prior.log_normaliser, dim=1) - math.log(len(self.mean))

r"""DIP-VAE: the ELBO, and a price on codes whose covariance is not that of the prior.

    L = -ELBO + w(t) [ off_diagonal sum_{i != j} C_ij^2 + diagonal sum_i (C_ii - 1)^2 ]          in nats a data point
    C = Cov_q(z)[z] = E[ diag(sigma(x)^2) ] + Cov[ mu(x) ],     q(z | x) = N(mu(x), diag(sigma(x)^2))

which is DIP-VAE-II; C is the batch's, with the mean of the means taken over M - 1 points. The prior's covariance is the
identity, so the price is 0 where q(z) = p(z); unlike the total correlation it sees second moments alone. The latents
are the codes, the first `code_dim` coordinates of z.

Reference: Kumar, Sattigeri & Balakrishnan, Variational inference of disentangled latent concepts from unlabeled
observations, ICLR 2018, https://arxiv.org/abs/1711.00848, Eq. 6 and 7.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from vaebm.data import Batch
from vaebm.distributions.gaussian import DiagonalGaussian
from vaebm.vae.base import VAE
from vaebm.vae.objectives.base import Objective, ObjectiveSettings
from vaebm.vae.objectives.elbo import elbo


class CovarianceSettings(ObjectiveSettings):
    """The ELBO with a price on the covariance of codes."""

    kind: Literal["covariance"] = Field("covariance", description="DIP-VAE-II")
    off_diagonal: float = Field(10.0, ge=0, description="weight of squared covariances, in nats, after the warm-up")
    diagonal: float = Field(10.0, ge=0, description="weight of squared errors of variances, in nats, after the warm-up")

    def build(self, vae: VAE, generator: torch.Generator) -> Objective:
        return CovarianceObjective(self)


class CovarianceObjective(Objective):
    """Minus the ELBO, plus the price."""

    def __init__(self, settings: CovarianceSettings) -> None:
        self.settings = settings

    def loss(
        self, vae: VAE, batch: Batch, generator: torch.Generator, warmup: float
    ) -> tuple[Tensor, dict[str, float]]:
        s, bound = self.settings, elbo(vae, batch.x, generator, warmup)
        c = aggregated_covariance(bound.inference.posterior)
        variances = c.diagonal()
        squares = variances.square().sum()
        price = s.off_diagonal * (c.square().sum() - squares) + s.diagonal * (variances - 1.0).square().sum()
        figures = {**bound.figures(), "kl_weight": warmup, "covariance_price": float(price.detach())}
        return -bound.value + warmup * price, figures


def aggregated_covariance(posterior: DiagonalGaussian) -> Tensor:
    """C (d, d) of the mixture of posteriors (B, d), B at least 2."""
    variance = posterior.scale.expand_as(posterior.mean).square().mean(0)
    return torch.diag(variance) + torch.cov(posterior.mean.T).reshape(len(variance), len(variance))

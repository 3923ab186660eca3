r"""beta-TCVAE: the ELBO, and a price on the dependence between latents alone.

    L = -ELBO + w(t) (beta - 1) TC                                              in nats a data point
    TC = KL(q(z) || prod_j q(z_j)) = E_q(z)[ log q(z) - sum_j log q(z_j) ],     q(z) = E_data[ q(z | x) ]

which is Eq. 4 of Chen et al. with alpha = gamma = 1, since KL(q(z | x) || p(z)) = I(x; z) + TC + sum_j KL(q(z_j) ||
p(z_j)) on average; beta = 1 is the ELBO. Of a batch of M points the aggregated posterior is their mixture,

    q(z_i) ~ (1/M) sum_m q(z_i | x_m),        q(z_ij) ~ (1/M) sum_m q(z_ij | x_m)

minibatch weighting, up to a constant in log(data size), which has no gradient. Its bias goes to 0 with M: a batch knows
an information of at most log M nats. The latents are the codes, the first `code_dim` coordinates of z.

Reference: Chen, Li, Grosse & Duvenaud, Isolating sources of disentanglement in variational autoencoders, NeurIPS 2018,
https://arxiv.org/abs/1802.04942.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from vaebm.data import Batch
from vaebm.distributions.gaussian import HALF_LOG_TWO_PI, DiagonalGaussian
from vaebm.vae.base import VAE
from vaebm.vae.objectives.base import Objective, ObjectiveSettings
from vaebm.vae.objectives.elbo import elbo


class TotalCorrelationSettings(ObjectiveSettings):
    """The ELBO with a weighted total correlation."""

    kind: Literal["total_correlation"] = Field("total_correlation", description="beta-TCVAE")
    beta: float = Field(6.0, ge=0, description="weight of the total correlation after the warm-up; 1 for the ELBO")

    def build(self, vae: VAE, generator: torch.Generator) -> Objective:
        return TotalCorrelationObjective(self.beta)


class TotalCorrelationObjective(Objective):
    """Minus the ELBO, plus (beta - 1) times the total correlation."""

    def __init__(self, beta: float) -> None:
        self.beta = beta

    def loss(
        self, vae: VAE, batch: Batch, generator: torch.Generator, warmup: float
    ) -> tuple[Tensor, dict[str, float]]:
        bound = elbo(vae, batch.x, generator, warmup)
        inference = bound.inference
        tc = total_correlation(inference.z[:, : vae.code_dim], inference.posterior)
        figures = {**bound.figures(), "kl_weight": warmup, "total_correlation": float(tc.detach().mean())}
        return -bound.value + warmup * (self.beta - 1.0) * tc, figures


def total_correlation(z: Tensor, posterior: DiagonalGaussian) -> Tensor:
    """log q(z) - sum_j log q(z_j), (B,), in nats, of z (B, d), one draw from each of the posteriors (B, d)."""
    noise = (z[:, None] - posterior.mean) / posterior.scale  # of each draw under each posterior, (B, B, d)
    log_q = -0.5 * noise.square() - posterior.log_scale - HALF_LOG_TWO_PI
    log_m = math.log(len(z))
    return (log_q.sum(2).logsumexp(1) - log_m) - (log_q.logsumexp(1) - log_m).sum(1)

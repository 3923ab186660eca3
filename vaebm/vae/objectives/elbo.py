"""The ELBO as an objective: minus the bound of vae/elbo.py, in nats a data point.

    L = -E_q(z|x)[ log p(x | z) ] + w(t) beta KL(q(z | x) || p(z)),      beta = `kl_weight`

beta = 1 is the bound; another makes it a beta-VAE (Higgins et al., ICLR 2017, https://openreview.net/forum?id=Sy2fzU9gl).
While w < 1, groups of latents are balanced.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from vaebm.data import Batch
from vaebm.vae.base import VAE
from vaebm.vae.elbo import elbo
from vaebm.vae.objectives.base import Objective, ObjectiveSettings


class ELBOSettings(ObjectiveSettings):
    """The evidence lower bound."""

    kind: Literal["elbo"] = Field("elbo", description="the evidence lower bound")
    kl_weight: float = Field(1.0, ge=0, description="weight of the KL divergence after the warm-up; 1 for the bound")
    balancing: bool = Field(True, description="whether groups of latents are balanced while the weight rises")

    def build(self, vae: VAE, generator: torch.Generator) -> Objective:
        """It has no weights."""
        return ELBOObjective(self)


class ELBOObjective(Objective):
    """Minus the ELBO."""

    def __init__(self, settings: ELBOSettings) -> None:
        self.settings = settings

    def loss(
        self, vae: VAE, batch: Batch, generator: torch.Generator, warmup: float
    ) -> tuple[Tensor, dict[str, float]]:
        kl_weight = self.settings.kl_weight * warmup
        bound = elbo(vae, batch.x, generator, kl_weight, balanced=self.settings.balancing and warmup < 1.0)
        return -bound.value, {**bound.figures(), "kl_weight": kl_weight}

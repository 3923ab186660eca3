"""beta-VAE: the ELBO with a dearer code, so that the posterior uses fewer and more independent latents.

    L = -E_q(z|x)[ log p(x | z) ] + w(t) beta KL(q(z | x) || p(z)),      in nats a data point;  beta = 1 is the ELBO

Reference: Higgins et al., beta-VAE: learning basic visual concepts with a constrained variational framework, ICLR 2017,
https://openreview.net/forum?id=Sy2fzU9gl.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field

from vaebm.vae.base import VAE
from vaebm.vae.objectives.base import Objective, ObjectiveSettings
from vaebm.vae.objectives.elbo import ELBOObjective, ELBOSettings


class BetaSettings(ObjectiveSettings):
    """The ELBO with a weighted divergence."""

    kind: Literal["beta"] = Field("beta", description="beta-VAE")
    beta: float = Field(4.0, ge=0, description="weight of the KL divergence after the warm-up; 1 for the ELBO")
    balancing: bool = Field(True, description="whether groups of latents are balanced while the weight rises")

    @property
    def kl_weight(self) -> float:
        """What the weight rises to."""
        return self.beta

    def build(self, vae: VAE, generator: torch.Generator) -> Objective:
        return ELBOObjective(ELBOSettings(kl_weight=self.beta, balancing=self.balancing))

"""The evidence lower bound, and the weights of its divergences while training begins.

    ELBO = E_q(z|x)[ log p(x | z) ] - w sum_l g_l KL_l <= log p(x)           (w = 1; smaller while training warms up)
    KL_l = KL(q(z_l | z_<l, x) || p(z_l | z_<l)),  one group of latents each;  g_l = 1, or balanced:

    g_l = L (KL_l / n_l) / sum_k (KL_k / n_k)         KL_l the mean over the batch, n_l latents in group l of L

Balancing charges less for groups that are used little and more for those that are used much, so that no group falls
idle before it has begun (Vahdat & Kautz, NVAE, NeurIPS 2020, Appendix A, https://arxiv.org/abs/2007.03898, which prints
n_l as a factor; their code divides by it). The sum is no bound unless all g_l are 1, so it serves only while w < 1.

The expectation is one reparameterised draw a point (Kingma & Welling, ICLR 2014, https://arxiv.org/abs/1312.6114).

As an objective, in nats a data point, with w(t) beta in place of w:

    L = -E_q(z|x)[ log p(x | z) ] + w(t) beta KL(q(z | x) || p(z)),      beta = `kl_weight`

beta = 1 is the bound; another makes it a beta-VAE (vae/objectives/beta.py). While w < 1, groups of latents are
balanced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from vaebm.data import Batch
from vaebm.vae.base import VAE, Inference
from vaebm.vae.objectives.base import Objective, ObjectiveSettings

FLOOR = 1e-2  # nats a latent: an idle group keeps a weight, so that balancing never divides by 0


class ELBO(NamedTuple):
    """Each (B,), in nats: the weighted bound, its reconstruction term, and the KL divergence by group of latents."""

    value: Tensor
    log_likelihood: Tensor
    kl: dict[str, Tensor]
    inference: Inference  # the draw that it is of, with its posterior

    def figures(self) -> dict[str, float]:
        """Means over the batch for the log: the bound itself, its reconstruction term, and each group's divergence."""
        kl = {f"kl_{group}": float(value.detach().mean()) for group, value in self.kl.items()}
        log_likelihood = float(self.log_likelihood.detach().mean())
        return {"elbo": log_likelihood - sum(kl.values()), "log_likelihood": log_likelihood, **kl}


def elbo(vae: VAE, x: Tensor, generator: torch.Generator, kl_weight: float = 1.0, balanced: bool = False) -> ELBO:
    """A one-draw estimate for each of the points x (B, *data_shape)."""
    inference, likelihood = vae.reconstruct(x, generator)
    kl, log_likelihood = inference.kl, likelihood.log_prob(x)
    divergences = torch.stack(list(kl.values()))
    if balanced and len(kl) > 1:
        divergences = balancing_weights(kl, vae.group_sizes)[:, None] * divergences
    return ELBO(log_likelihood - kl_weight * divergences.sum(0), log_likelihood, kl, inference)


def balancing_weights(kl: Mapping[str, Tensor], sizes: Mapping[str, int]) -> Tensor:
    """g_l of groups whose divergences are (B,) each, to (L,); their mean is 1, and they carry no gradient."""
    each = torch.stack([value.detach().mean() / sizes[group] for group, value in kl.items()]) + FLOOR
    return each / each.mean()


class ELBOSettings(ObjectiveSettings):
    """The evidence lower bound."""

    kind: Literal["elbo"] = Field("elbo", description="the evidence lower bound")
    kl_weight: float = Field(1.0, ge=0, description="weight of the KL divergence after the warm-up; 1 for the bound")
    balancing: bool = Field(True, description="whether groups of latents are balanced while the weight rises")

    def build(self, vae: VAE, generator: torch.Generator) -> Objective:
        return ELBOObjective(self)


class ELBOObjective(Objective):
    """Minus the ELBO."""

    sums_rows = True

    def __init__(self, settings: ELBOSettings) -> None:
        self.settings = settings

    def loss(
        self, vae: VAE, batch: Batch, generator: torch.Generator, warmup: float
    ) -> tuple[Tensor, dict[str, float]]:
        kl_weight = self.settings.kl_weight * warmup
        bound = elbo(vae, batch.x, generator, kl_weight, balanced=self.settings.balancing and warmup < 1.0)
        return -bound.value, {**bound.figures(), "kl_weight": kl_weight}

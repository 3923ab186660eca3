"""The evidence lower bound and its importance-weighted form.

    ELBO = E_q(z|x)[ log p(x | z) ] - w KL(q(z | x) || p(z)) <= log p(x)      (w = 1; smaller while training warms up)

Reference: Kingma & Welling 2014. The expectation is one reparameterised draw per point.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vaebm.vae.base import VAE


class ELBO(NamedTuple):
    """Each (B,), in nats: the weighted bound, its reconstruction term, and the KL divergence by group of latents."""

    value: Tensor
    log_likelihood: Tensor
    kl: dict[str, Tensor]


def elbo(vae: VAE, x: Tensor, generator: torch.Generator, kl_weight: float = 1.0) -> ELBO:
    """A one-draw estimate for each of the points x (B, *data_shape)."""
    z, kl = vae.infer(x, generator)
    log_likelihood = vae.decode(z).log_prob(x)
    value = log_likelihood - kl_weight * torch.stack(list(kl.values())).sum(0)
    return ELBO(value, log_likelihood, kl)

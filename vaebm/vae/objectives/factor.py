r"""FactorVAE: the ELBO, and a price on the dependence between latents, which a classifier tells.

    L = -ELBO + w(t) gamma TC,      TC ~ E_q(z)[ log D(z) - log(1 - D(z)) ]       in nats a data point    # Eq. 2, 3

D(z) is the probability that z is a draw of q(z) and not of prod_j q(z_j). It learns both from the same batch: z of its
first half as they are, and z of its second half with each latent permuted among the rows (Algorithm 2 takes two
batches). At its optimum log D - log(1 - D) = log q(z) - sum_j log q(z_j). The latents are the codes, the first
`code_dim` coordinates of z.

Each process trains a classifier of its own on its part of the batch.

Reference: Kim & Mnih, Disentangling by factorising, ICML 2018, https://arxiv.org/abs/1802.05983.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from vaebm.data import Batch
from vaebm.distributions.gaussian import at_least_float32
from vaebm.nn.initialise import initialise
from vaebm.nn.mlp import mlp
from vaebm.vae.base import VAE
from vaebm.vae.objectives.base import Objective, ObjectiveSettings
from vaebm.vae.objectives.elbo import elbo


class FactorSettings(ObjectiveSettings):
    """The ELBO with a total correlation that a classifier estimates."""

    kind: Literal["factor"] = Field("factor", description="FactorVAE")
    gamma: float = Field(10.0, ge=0, description="weight of the total correlation after the warm-up; 0 for the ELBO")
    hidden: list[int] = Field([256, 256, 256], min_length=1, description="layers of the classifier of codes")
    learning_rate: float = Field(1e-4, gt=0, description="of the classifier's Adam")

    def build(self, vae: VAE, generator: torch.Generator) -> Objective:
        return FactorObjective(self, vae, generator)


class FactorObjective(Objective):
    """Minus the ELBO, plus gamma times the total correlation as its own classifier tells it."""

    def __init__(self, settings: FactorSettings, vae: VAE, generator: torch.Generator) -> None:
        self.gamma = settings.gamma
        classifier = mlp([vae.code_dim, *settings.hidden, 1], nn.LeakyReLU)
        initialise(classifier, generator)
        self.classifier = classifier.to(next(vae.parameters()).device)
        self.optimizer = torch.optim.Adam(classifier.parameters(), lr=settings.learning_rate, betas=(0.5, 0.9))

    def loss(
        self, vae: VAE, batch: Batch, generator: torch.Generator, warmup: float
    ) -> tuple[Tensor, dict[str, float]]:
        bound = elbo(vae, batch.x, generator, warmup)
        z = at_least_float32(bound.inference.z[:, : vae.code_dim])
        error = self.learn(z.detach(), generator)
        tc = self.log_ratio(z)
        figures = {
            **bound.figures(),
            "kl_weight": warmup,
            "total_correlation": float(tc.detach().mean()),
            "classifier_nats": error,
        }
        return -bound.value + warmup * self.gamma * tc, figures

    def log_ratio(self, z: Tensor) -> Tensor:
        """log D(z) - log(1 - D(z)) of (B, code_dim), to (B,)."""
        with torch.autocast(z.device.type, enabled=False):
            logit: Tensor = self.classifier(z)
        return logit.squeeze(1)

    def learn(self, z: Tensor, generator: torch.Generator) -> float:
        """One step of the classifier on draws of q(z), (B, code_dim); returns its loss in nats."""
        joint, product = z.tensor_split(2)
        product = permuted(product, generator)
        true, false = self.log_ratio(joint), self.log_ratio(product)
        loss = 0.5 * (functional.softplus(-true).mean() + functional.softplus(false).mean())
        self.optimizer.zero_grad()  # which holds what the VAE's loss left, too
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def state_dict(self) -> dict[str, Any]:
        return {"classifier": self.classifier.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.classifier.load_state_dict(state["classifier"])
        self.optimizer.load_state_dict(state["optimizer"])


def permuted(z: Tensor, generator: torch.Generator) -> Tensor:
    """Rows (n, d) with each column permuted on its own: draws of the product of their marginals."""
    order = torch.rand(z.shape, generator=generator, device=z.device).argsort(0)
    return z.gather(0, order)

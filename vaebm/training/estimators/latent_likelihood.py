"""Latent likelihood: a term on codes with a density of its own learns codes of data by maximum likelihood.

    minimise  -mean log q(z),      z ~ q(z | x) for data x

At the optimum q is the aggregate posterior. Its loss is that of a density: it can be read in nats and compared between
terms, and what it gains over the mixture alone is `gain`.
"""

import torch
from torch import Tensor

from vaebm.energy import SplineFlowEnergy
from vaebm.training.estimators.latent import LatentEstimator


class LatentLikelihood(LatentEstimator):
    """Trains a normalised density of codes."""

    energy: SplineFlowEnergy

    def loss(self, chosen: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        codes = self.codes[chosen]
        loss = -self.energy.log_prob(codes).mean()
        with torch.no_grad():
            of_mixture = float(self.energy.mixture.log_prob(codes).mean())
        return loss, {"gain": -float(loss.detach()) - of_mixture}

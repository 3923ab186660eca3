"""Latent ratio: the correction of the code mixture (energy/latent.py) as a density ratio of codes to mixture.

    z+ ~ q(z | x) for data x,   z- ~ mix(z),   minimise  mean softplus(net(z+)) + mean softplus(-net(z-))

At the optimum mix(z) exp(-net(z)) is the aggregate posterior, the density that codes of real data have, as far as the
net's bound lets it; the mixture's components are then weighed anew. The loss is that of density_ratio.py.
"""

import torch
from torch import Tensor

from vaebm.energy import MixtureEnergy
from vaebm.training.estimators.density_ratio import density_ratio
from vaebm.training.estimators.latent import LatentEstimator


class LatentRatio(LatentEstimator):
    """Trains the net of a correction."""

    energy: MixtureEnergy

    def loss(self, chosen: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        negative = self.energy.mixture.sample(len(chosen), generator)
        contrast = density_ratio(*self.energy.net(torch.cat([self.codes[chosen], negative])).chunk(2))
        return contrast.loss, contrast.figures()

    def end(self) -> None:
        super().end()
        self.energy.calibrate(len(self.codes), self.on_device())
        self.training.engine.synchronise(self.training.model)

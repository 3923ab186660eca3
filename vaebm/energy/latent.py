"""E_z: an energy on the codes, trained without the decoder in the loop.

    mixture      E_z(z) = log p(z) - log mix(z)                  p(z) exp(-E_z(z)) = mix(z): normalised, exact samples
    correction   E_z(z) = log p(z) - log mix(z) + net(z)         the mixture is the reference of a density ratio for net

mix is the Gaussian mixture fitted to the codes (vae/code_mixture.py), whose prior is N(0, I) in every VAE. Of a
hierarchical one they are the first coordinates of z: with c those and r the rest, p(c) p(r | c) exp(-E_z) = mix(c)
p(r | c), so the sentence above holds for E_z(c).
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from vaebm.distributions.gaussian import standard_log_prob
from vaebm.distributions.mixture import GaussianMixture
from vaebm.energy.base import LatentEnergy, linear_from_zero
from vaebm.nn.activations import LipschitzSwish
from vaebm.nn.initialise import initialise
from vaebm.nn.mlp import mlp


class MixtureEnergy(LatentEnergy):
    """log p(z) - log mix(z), plus a net where one is given; the mixture is set once it has been fitted."""

    def __init__(self, mixture: GaussianMixture, correction: nn.Module | None = None) -> None:
        super().__init__()
        self.mixture = mixture
        self.correction = correction

    def net(self, codes: Tensor) -> Tensor:
        """The learned part, (B, code_dim) to (B,): minus the log ratio of codes to mixture, up to a constant."""
        assert self.correction is not None
        energy: Tensor = self.correction(codes)
        return energy.squeeze(1)

    def of_z(self, z: Tensor) -> Tensor:
        codes = z[:, : self.mixture.means.shape[1]]
        energy = standard_log_prob(codes) - self.mixture.log_prob(codes)
        return energy if self.correction is None else energy + self.net(codes)


class MixtureEnergySettings(BaseModel):
    """The mixture fitted to the codes, as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["mixture"] = "mixture"

    def build(self, code_dim: int, components: int, generator: torch.Generator) -> MixtureEnergy:
        """E_z with a mixture still to be fitted."""
        return MixtureEnergy(GaussianMixture.standard(components, code_dim))


class CorrectionSettings(BaseModel):
    """The mixture and a net on top, learned as a density ratio of codes to mixture."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["correction"] = "correction"
    hidden: list[int] = Field([256, 256], min_length=1)

    def build(self, code_dim: int, components: int, generator: torch.Generator) -> MixtureEnergy:
        """E_z with a mixture still to be fitted and a net that is still 0."""
        body = mlp([code_dim, *self.hidden], LipschitzSwish)
        initialise(body, generator)
        net = nn.Sequential(body, LipschitzSwish(), linear_from_zero(self.hidden[-1]))
        return MixtureEnergy(GaussianMixture.standard(components, code_dim), net)

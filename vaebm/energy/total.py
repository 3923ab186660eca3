"""E(x, z) = E_x(x) + E_z(z) (+ E_xz(x, z), when such a term exists): the sum of the terms that a recipe names.

The paper's model is E_x alone. Each term is trained where that is cheap: E_z on codes, then E_x through the decoder.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vaebm.energy.base import DataEnergy, Energy, LatentEnergy


class TotalEnergy(Energy):
    """The sum of optional terms; with none of them it is 0."""

    def __init__(self, image: DataEnergy | None = None, latent: LatentEnergy | None = None) -> None:
        super().__init__()
        self.image, self.latent = image, latent
        self.reads_x, self.reads_z = image is not None, latent is not None

    def forward(self, x: Tensor | None, z: Tensor | None = None) -> Tensor:
        terms: list[nn.Module] = [term for term in (self.image, self.latent) if term is not None]
        if not terms:
            batch = next(given for given in (x, z) if given is not None)
            return torch.zeros(batch.shape[0], device=batch.device)
        return torch.stack([term(x, z) for term in terms]).sum(0)

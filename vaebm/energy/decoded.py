"""E_x seen through the decoder: a term on z.

    E(z) = E_x(mu(z)),      mu(z) the decoder's image without pixel noise

It learns to tell what codes of data decode to from what the base's codes decode to. Chains then move codes alone, and a
likelihood without a differentiable generator will do.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from vaebm.distributions.likelihood import Likelihood
from vaebm.energy.base import DataEnergy, Energy


class Decoder(Protocol):
    """What gives p(x | z); the first `code_dim` coordinates of z are the codes."""

    code_dim: int
    latent_dim: int

    def decode(self, z: Tensor) -> Likelihood:
        """p(x | z) of (B, latent_dim)."""
        ...


class DecodedEnergy(Energy):
    """E_x(mu(z)); the decoder is the model's own and no part of this module.

    Args:
        net: E_x.
        decoder: the VAE.
    """

    reads_z = True

    def __init__(self, net: DataEnergy, decoder: Decoder) -> None:
        super().__init__()
        self.net = net
        object.__setattr__(self, "decoder", decoder)  # not registered: its weights belong to the VAE

    decoder: Decoder

    def forward(self, x: Tensor | None, z: Tensor | None = None) -> Tensor:
        energy: Tensor = self.net(self._center(z))
        return energy

    def by_member(self, x: Tensor | None, z: Tensor | None = None) -> Tensor:
        return self.net.by_member(self._center(z))

    def _center(self, z: Tensor | None) -> Tensor:
        if z is None:
            raise ValueError("this energy sees the decoder's mean of z: pass z, for example z = model.encode(x)")
        with torch.set_grad_enabled(torch.is_grad_enabled() and z.requires_grad):
            return self.decoder.decode(z).center

    def frozen_copy(self) -> DecodedEnergy:
        return DecodedEnergy(self.net.frozen_copy(), self.decoder)

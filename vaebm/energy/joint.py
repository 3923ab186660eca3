r"""A joint energy: E(x, z) of a data point together with its codes.

    mlp        E(x, z) = w^T mlp(phi(x, z)) + b                      phi = Fourier features, or the identity
    residual   E(x, z) = w_x^T sum f(x) + w^T mlp(mean f(x), z) + b  f = a residual net's pixels (energy/residual.py);
                                                                     sum and mean over pixels

The second is E_x of the paper with a term that also sees z. Of a hierarchical VAE z are all groups, in one vector.

Data are pairs: x from the data set, z ~ q(z | x). As a density ratio against pairs of the base, E has its optimum at

    exp(-E(x, z)) = p_data(x) q(z | x) / base(x, z),      so h(x, z) = p_data(x) q(z | x)

and the marginal of x is the data's, whatever q is. Where q is not the posterior of the base, E corrects that, too:
h's posterior is then q, the encoder's, and E is larger than a term on x alone would need to be. Chains that move x and
z together meet its slopes in both.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from vaebm.data.modality import IMAGES
from vaebm.distributions.gaussian import at_least_float32
from vaebm.energy.base import Energy, JointEnergySettings, linear_from_zero
from vaebm.energy.mlp import MLPBody
from vaebm.energy.residual import ResidualEnergy, ResidualSizes

NEEDS_BOTH = "a joint energy reads x and z: pass both, for example z = model.encode(x)"


class _JointEnergy(Energy):
    reads_x = True
    reads_z = True

    def of_pair(self, x: Tensor, z: Tensor) -> Tensor:
        """E(x, z) of (B, *data_shape) and (B, latent_dim), to (B, 1)."""
        raise NotImplementedError

    def forward(self, x: Tensor | None, z: Tensor | None = None) -> Tensor:
        if x is None or z is None:
            raise ValueError(NEEDS_BOTH)
        return at_least_float32(self.of_pair(x, z)).squeeze(1)


class JointMLPEnergy(_JointEnergy):
    """Fully connected in (x, z)."""

    def __init__(self, body: nn.Module, width: int) -> None:
        super().__init__()
        self.body = body
        self.out = linear_from_zero(width)

    def of_pair(self, x: Tensor, z: Tensor) -> Tensor:
        energy: Tensor = self.out(self.body(torch.cat([x.flatten(1), z], dim=1)))
        return energy


class JointResidualEnergy(_JointEnergy):
    """A residual net on x, whose features meet z in a fully connected one."""

    def __init__(self, on_x: ResidualEnergy, body: nn.Module, width: int) -> None:
        super().__init__()
        self.on_x = on_x
        self.body = body
        self.out = linear_from_zero(width)

    def of_pair(self, x: Tensor, z: Tensor) -> Tensor:
        pixels = self.on_x.pixels(x)
        pooled = pixels.sum((2, 3), dtype=torch.promote_types(pixels.dtype, torch.float32))
        mean = pooled / pixels[0, 0].numel()
        energy: Tensor = self.on_x.out(pooled) + self.out(self.body(torch.cat([mean, z], dim=1)))
        return energy


class JointMLPSettings(MLPBody, JointEnergySettings):
    """Fully connected E(x, z)."""

    kind: Literal["mlp"] = Field("mlp", description="fully connected")

    def build(self, data_shape: tuple[int, ...], latent_dim: int, generator: torch.Generator) -> Energy:
        return JointMLPEnergy(self.body(torch.Size(data_shape).numel() + latent_dim, generator), self.hidden[-1])


class JointResidualSettings(ResidualSizes, JointEnergySettings):
    """A residual net on x, whose features meet z."""

    kind: Literal["residual"] = Field("residual", description="residual network on images, whose features meet z")
    hidden: list[int] = Field([128, 128], min_length=1, description="widths of the layers that see z")

    def build(self, data_shape: tuple[int, ...], latent_dim: int, generator: torch.Generator) -> Energy:
        IMAGES.require(data_shape, "energy.joint.kind=residual", "energy.joint.kind=mlp")
        on_x = self.net(data_shape, generator)
        body = MLPBody(hidden=self.hidden).body(self.widths[-1] + latent_dim, generator)
        return JointResidualEnergy(on_x, body, self.hidden[-1])

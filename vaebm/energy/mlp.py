"""E_x of a fully connected network, for points and small images, with optional random Fourier features in front.

E_x(x) = w^T mlp(phi(x)) + b,      phi = Fourier features, or the identity
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from vaebm.energy.base import DataEnergy, DataEnergySettings, linear_from_zero
from vaebm.nn.activations import LipschitzSwish
from vaebm.nn.initialise import initialise
from vaebm.nn.mlp import FourierFeatures, mlp
from vaebm.registry import Settings


class MLPEnergy(DataEnergy):
    """(B, *data_shape) -> (B,)."""

    def __init__(self, body: nn.Module, width: int) -> None:
        super().__init__()
        self.body = body
        self.out = linear_from_zero(width)

    def of_x(self, x: Tensor) -> Tensor:
        energy: Tensor = self.out(self.body(x.flatten(1)))
        return energy.squeeze(1)


class MLPBody(Settings):
    """The layers before the last."""

    hidden: list[int] = Field([256, 256, 256], min_length=1, description="widths of the hidden layers")
    fourier_features: int = Field(0, ge=0, description="number of random frequencies; 0 for none")
    fourier_scale: float = Field(
        3.0, gt=0, description="standard deviation of the frequencies, in radians per unit of the input"
    )

    def body(self, dim: int, generator: torch.Generator) -> nn.Sequential:
        """(B, dim) to (B, hidden[-1])."""
        layers: list[nn.Module] = []
        if self.fourier_features:
            layers.append(FourierFeatures(dim, self.fourier_features, self.fourier_scale, generator))
            dim += 2 * self.fourier_features
        body = nn.Sequential(*layers, mlp([dim, *self.hidden], LipschitzSwish), LipschitzSwish())
        initialise(body, generator)
        return body


class MLPEnergySettings(MLPBody, DataEnergySettings):
    """Fully connected E_x."""

    kind: Literal["mlp"] = Field("mlp", description="fully connected")

    def build(self, data_shape: tuple[int, ...], generator: torch.Generator) -> DataEnergy:
        return MLPEnergy(self.body(torch.Size(data_shape).numel(), generator), self.hidden[-1])

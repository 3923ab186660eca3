"""E_x of the paper: a residual network on images.

    E_x(x) = w^T sum_pixels act(blocks(conv3x3(x))) + b        (Xiao et al. 2021, appendix)

3x3 stem; residual blocks with swish / 1.1; weight normalisation with data-dependent initialisation; sum-pooling; one
linear layer. `widths` lists the blocks; a width in `halve` (by position) halves the image at the block's end. Published
widths, v = halve: CIFAR-10 [128v, 128, 256v, 256, 256v, 256]; 64 x 64 images from 64 channels and deeper.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from vaebm.data.modality import IMAGES
from vaebm.energy.base import DataEnergy, DataEnergySettings, linear_from_zero
from vaebm.nn.activations import LipschitzSwish
from vaebm.nn.initialise import initialise
from vaebm.nn.residual import ResidualBlock
from vaebm.nn.weight_norm import WeightNormConv2d
from vaebm.registry import Settings


class ResidualEnergy(DataEnergy):
    """(B, C, H, W) -> (B,)."""

    def __init__(self, channels: int, stem: int, widths: list[int], halve: list[int]) -> None:
        super().__init__()
        self.stem = WeightNormConv2d(channels, stem, 3)
        self.blocks = nn.Sequential(
            *(
                ResidualBlock(a, b, i in halve)
                for i, (a, b) in enumerate(zip([stem, *widths[:-1]], widths, strict=True))
            )
        )
        self.act = LipschitzSwish()
        self.out = linear_from_zero(widths[-1])

    def pixels(self, x: Tensor) -> Tensor:
        """What is summed: (B, C, H, W) to (B, channels, height, width)."""
        x = x.contiguous(memory_format=torch.channels_last)
        pixels: Tensor = self.act(self.blocks(self.stem(x)))
        return pixels

    def of_x(self, x: Tensor) -> Tensor:
        pixels = self.pixels(x)
        pooled = pixels.sum((2, 3), dtype=torch.promote_types(pixels.dtype, torch.float32))
        energy: Tensor = self.out(pooled)
        return energy.squeeze(1)


class ResidualSizes(Settings):
    """Sizes of the residual network."""

    stem: int = Field(32, ge=1, description="channels of the first convolution")
    widths: list[int] = Field([32, 64, 128], min_length=1, description="channels of the blocks, in order")
    halve: list[int] = Field([0, 1], description="positions of the blocks that halve the image, counted from 0")

    @model_validator(mode="after")
    def _check_positions(self) -> Self:
        wrong = [i for i in self.halve if not 0 <= i < len(self.widths)]
        if wrong:
            raise ValueError(f"halve names block {wrong[0]}, but there are only blocks 0 to {len(self.widths) - 1}")
        return self

    def net(self, data_shape: tuple[int, ...], generator: torch.Generator) -> ResidualEnergy:
        """E_x, weights drawn from `generator`, 0 before training."""
        energy = ResidualEnergy(data_shape[0], self.stem, self.widths, self.halve)
        initialise(energy, generator)
        nn.init.zeros_(energy.out.weight)
        nn.init.zeros_(energy.out.bias)
        energy.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # an overload that torch's stubs lack
        return energy


class ResidualEnergySettings(ResidualSizes, DataEnergySettings):
    """The paper's residual E_x."""

    kind: Literal["residual"] = Field("residual", description="residual network on images")

    def build(self, data_shape: tuple[int, ...], generator: torch.Generator) -> DataEnergy:
        IMAGES.require(data_shape, "energy.image.kind=residual", "energy.image.kind=mlp")
        return self.net(data_shape, generator)

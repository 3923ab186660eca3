"""A convolutional VAE with one flat latent vector, for images of any number of channels and any size from 8 up.

    encoder: 3x3 stem; per width a residual block and a 2x reduction, while the image is larger than 4 x 4; linear
    decoder: linear; the same sizes in reverse by nearest-neighbour enlargement to the exact size met on the way down

Weights are normalised rather than activations: nothing has to be re-estimated for sampling, a frozen decoder is bare
convolutions, and on a processor a step takes two thirds of the time that group normalisation needs, for the same ELBO.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from vaebm.data.modality import IMAGES
from vaebm.distributions.likelihood import CensoredSettings, LikelihoodSettings
from vaebm.errors import InputError
from vaebm.nn.initialise import initialise
from vaebm.nn.weight_norm import WeightNormConv2d, WeightNormLinear
from vaebm.vae.base import VAE, FlatVAE, VAESettings

MIN_SIDE = 8
COARSEST_SIDE = 4


class _Block(nn.Module):
    """x + conv(swish(conv(swish(x))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.SiLU(),
            WeightNormConv2d(channels, channels, 3),
            nn.SiLU(),
            WeightNormConv2d(channels, channels, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.body(x)
        return y


class _Enlarge(nn.Module):
    """Nearest-neighbour enlargement to a given size, then a 3x3 convolution."""

    def __init__(self, in_channels: int, out_channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size
        self.conv = WeightNormConv2d(in_channels, out_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(functional.interpolate(x, size=self.size, mode="nearest"))
        return y


class _ChannelsLast(nn.Module):
    """Lays pixels out as the fast convolution kernels want them; the values stay the same."""

    def forward(self, x: Tensor) -> Tensor:
        return x.contiguous(memory_format=torch.channels_last)


def _sizes(height: int, width: int, reductions: int) -> list[tuple[int, int]]:
    """Sizes from the full image down, halving (rounding up) while a side exceeds the coarsest."""
    sizes = [(height, width)]
    while len(sizes) <= reductions and max(sizes[-1]) > COARSEST_SIDE:
        h, w = sizes[-1]
        sizes.append(((h + 1) // 2, (w + 1) // 2))
    return sizes


class ConvSettings(VAESettings):
    """Convolutional encoder and decoder around one latent vector; `widths` are the channels from the full size down."""

    kind: Literal["conv"] = Field("conv", description="convolutional, with one flat latent vector")
    latent_dim: int = Field(24, ge=1, description="how many numbers a code has")
    widths: list[int] = Field([32, 64, 128], min_length=1, description="channels from the full size down")
    likelihood: LikelihoodSettings = Field(CensoredSettings(), description="p(x | z)")

    def build(self, data_shape: tuple[int, ...], generator: torch.Generator) -> VAE:
        IMAGES.require(data_shape, "vae.kind=conv", "vae.kind=mlp")
        if min(data_shape[1:]) < MIN_SIDE:
            raise InputError(
                f"vae.kind=conv needs images of at least {MIN_SIDE} x {MIN_SIDE} pixels, but the data have"
                f" shape {data_shape}: use vae.kind=mlp"
            )
        channels, height, width = data_shape
        likelihood = self.likelihood.build()
        sizes = _sizes(height, width, len(self.widths) - 1)
        widths = self.widths[: len(sizes)]
        down: list[nn.Module] = [_ChannelsLast(), WeightNormConv2d(channels, widths[0], 3)]
        for fine, coarse in pairwise(widths):
            down += [_Block(fine), WeightNormConv2d(fine, coarse, 3, stride=2)]
        flat = widths[-1] * sizes[-1][0] * sizes[-1][1]
        down += [_Block(widths[-1]), nn.SiLU(), nn.Flatten(), nn.Linear(flat, 2 * self.latent_dim)]

        up: list[nn.Module] = [
            WeightNormLinear(self.latent_dim, flat),
            nn.Unflatten(1, (widths[-1], *sizes[-1])),
            _ChannelsLast(),
            _Block(widths[-1]),
        ]
        for coarse, fine, size in zip(widths[:0:-1], widths[-2::-1], sizes[-2::-1], strict=True):
            up += [_Enlarge(coarse, fine, size), _Block(fine)]
        outputs = likelihood.outputs_per_value * channels
        up += [nn.SiLU(), nn.Conv2d(widths[0], outputs, 3, padding=1)]

        vae = FlatVAE(data_shape, self.latent_dim, nn.Sequential(*down), nn.Sequential(*up), likelihood)
        initialise(vae, generator)
        return vae

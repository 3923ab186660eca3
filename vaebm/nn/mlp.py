"""Fully connected networks, and random Fourier features in front of them.

    phi(x) = (x, sin(x W), cos(x W)),   W_ij ~ N(0, scale^2)

A plain network is biased towards slow functions; with features of the right scale it resolves narrow modes (Rahimi &
Recht 2007, Tancik et al. 2020). The frequencies are fixed and saved with the weights.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class FourierFeatures(nn.Module):
    """(B, dim) -> (B, dim + 2 count): the input, sines and cosines of projections of standard deviation `scale`."""

    frequencies: Tensor

    def __init__(self, dim: int, count: int, scale: float, generator: torch.Generator) -> None:
        super().__init__()
        self.register_buffer("frequencies", scale * torch.randn(dim, count, generator=generator))
        self.out_features = dim + 2 * count

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # half precision would round angles to tenths of a radian
            angles = x.to(self.frequencies.dtype) @ self.frequencies
        return torch.cat([x, angles.sin(), angles.cos()], dim=1)


def mlp(sizes: Sequence[int], activation: type[nn.Module] = nn.SiLU) -> nn.Sequential:
    """Linear layers of the given sizes with an activation between any two: (B, sizes[0]) -> (B, sizes[-1])."""
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        layers += [activation()] if i else []
        layers.append(nn.Linear(fan_in, fan_out))
    return nn.Sequential(*layers)

"""Residual cells of the NVAE (Vahdat & Kautz 2020, Figure 3), and the steps between scales.

    encoder cell   x + a SE(conv3x3(swish(conv3x3(swish(x)))))
    decoder cell   x + a SE(conv1x1(swish(depthwise(swish(conv1x1(x))))))            E-fold channels in between, 5x5
    SE(y)          y sigmoid(W2 swish(W1 mean over pixels of y))                      (Hu et al. 2018, there with relu)

Every convolution is normalised, by weight or by batch, in a form that folds into it (nn/folding.py): the published
cells have a batch normalisation in front of the first 1x1 convolution too, which the next one behind it makes
redundant. a = 0.1 keeps a deep stack near the identity at first (Szegedy et al. 2017).
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from vaebm.nn.batch_norm import BatchNormConv2d, averages_kept
from vaebm.nn.folding import Foldable, Freezable
from vaebm.nn.weight_norm import WeightNormConv2d
from vaebm.vae.nvae.frozen_cell import FrozenCell

RESIDUAL_SCALE = 0.1
SQUEEZE = 16  # channels for each of the squeezed ones
Norm = Literal["weight", "batch"]


class Convolution(Protocol):
    """How a normalised convolution is made."""

    def __call__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1
    ) -> nn.Module: ...


CONVOLUTIONS: dict[Norm, Convolution] = {"weight": WeightNormConv2d, "batch": BatchNormConv2d}


class SqueezeExcite(nn.Module):
    """(B, C, H, W) -> the same: every channel times a gate that has seen all of the image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(channels // SQUEEZE, 4)
        self.gate = nn.Sequential(
            nn.Conv2d(channels, squeezed, 1), nn.SiLU(), nn.Conv2d(squeezed, channels, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x * self.gate(x.mean((2, 3), keepdim=True))
        return y


class Cell(nn.Module):
    """x + a body(x), (B, C, H, W) -> the same."""

    def __init__(self, *body: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, self.body(x), alpha=RESIDUAL_SCALE)


def encoder_cell(channels: int, convolution: Convolution) -> Cell:
    """Two full convolutions."""
    return Cell(
        nn.SiLU(),
        convolution(channels, channels, 3),
        nn.SiLU(),
        convolution(channels, channels, 3),
        SqueezeExcite(channels),
    )


class DecoderCell(Cell, Freezable):
    """A wide depth-wise convolution of odd size, `expansion` times as many channels, between two of 1 x 1."""

    def __init__(self, channels: int, expansion: int, kernel_size: int, convolution: Convolution) -> None:
        wide = expansion * channels
        super().__init__(
            convolution(channels, wide, 1),
            nn.SiLU(),
            convolution(wide, wide, kernel_size, groups=wide),
            nn.SiLU(),
            convolution(wide, channels, 1),
            SqueezeExcite(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        quick = self.quick_form(x)
        return super().forward(x) if quick is None else quick(x)

    def frozen_form(self, dtype: torch.dtype) -> FrozenCell:
        excite = self.body[5]
        assert isinstance(excite, SqueezeExcite)
        convolutions = [layer for layer in self.body if isinstance(layer, Foldable)]
        return FrozenCell(convolutions, excite.gate, RESIDUAL_SCALE, dtype)


class Cells(nn.Module):
    """Cells one after another; with `recompute`, a backward pass computes their insides again instead of keeping them.

    That is gradient checkpointing (Chen et al. 2016): the same gradients, for less memory and a second forward pass.
    """

    def __init__(self, cells: Sequence[nn.Module], recompute: bool) -> None:
        super().__init__()
        self.cells, self.recompute = nn.ModuleList(cells), recompute

    def forward(self, x: Tensor) -> Tensor:
        for cell in self.cells:
            x = _recomputed(cell, x) if self.recompute and torch.is_grad_enabled() else cell(x)
        return x


def _recomputed(cell: nn.Module, x: Tensor) -> Tensor:
    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), averages_kept(cell)  # a batch counts once in running averages

    y: Tensor = checkpoint(cell, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
    return y


class Enlarge(nn.Module):
    """(B, in, H, W) -> (B, out, 2H, 2W): a 1x1 convolution, then every pixel four times."""

    def __init__(self, in_channels: int, out_channels: int, convolution: Convolution) -> None:
        super().__init__()
        self.conv = convolution(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = functional.interpolate(self.conv(x), scale_factor=2, mode="nearest")
        return y

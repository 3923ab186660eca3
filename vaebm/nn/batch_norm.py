"""Convolutions with batch normalisation (Ioffe & Szegedy 2015), folded where statistics stand still.

    training      y = g (v * x - mean) / sqrt(variance + e) + b      mean, variance of this batch, per output
    evaluation    the same with running averages: one convolution,
                  W = g v / sqrt(variance + e),   W * x + b - g mean / sqrt(variance + e)

Running averages lag behind the weights, and belong to others once the weights are replaced by their moving average;
`recalibrate` estimates them anew as plain means over several batches.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaebm.nn.depthwise import convolve
from vaebm.nn.folding import Foldable

EPSILON = 1e-5
MOMENTUM = 0.05


class BatchNormConv2d(Foldable, nn.Conv2d):
    """(B, in, H, W) -> (B, out, ceil(H / stride), ceil(W / stride)), zero padding that keeps the size."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1) -> None:
        nn.Conv2d.__init__(
            self, in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, groups=groups
        )
        self.gain = nn.Parameter(torch.ones(out_channels))
        self.register_buffer("running_mean", torch.zeros(out_channels))
        self.register_buffer("running_var", torch.ones(out_channels))
        self.momentum = MOMENTUM

    def computed_weight(self) -> Tensor:
        """g v / sqrt(variance + e), with the running variance."""
        weight: Tensor = self.weight * self.per_output(self._factor())
        return weight

    def _factor(self) -> Tensor:
        return self.gain * torch.rsqrt(self.running_var + EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        assert self.bias is not None
        if not self.training:
            return convolve(self, x, self.normalised_weight(), self.bias - self._factor() * self.running_mean)
        y, averages = convolve(self, x, self.weight, None), (self.running_mean, self.running_var)
        return functional.batch_norm(y, *averages, self.gain, self.bias, True, self.momentum, EPSILON)


def batch_norm_layers(module: nn.Module) -> list[BatchNormConv2d]:
    """Every layer with running averages inside `module`."""
    return [layer for layer in module.modules() if isinstance(layer, BatchNormConv2d)]


@contextmanager
def averages_kept(module: nn.Module) -> Iterator[None]:
    """Within: forward passes in training mode leave the running averages as they are."""
    layers = batch_norm_layers(module)
    before = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            layer.momentum = 0.0
        yield
    finally:
        for layer, momentum in zip(layers, before, strict=True):
            layer.momentum = momentum


@torch.no_grad()
def recalibrate(module: nn.Module, forward: Callable[[], object], batches: int) -> None:
    """Replaces the running averages of a module in training mode by means over `batches` calls of `forward`.

    Calls nothing where the module has no batch normalisation.
    """
    layers = batch_norm_layers(module)
    for seen in range(batches if layers else 0):
        for layer in layers:
            layer.momentum = 1.0 / (1 + seen)
        forward()
    for layer in layers:
        layer.momentum = MOMENTUM

"""Weight normalisation with data-dependent initialisation, and its folding for chains.

    w = g v / |v|  (per output)                                       (Salimans & Kingma 2016)
    on the first batch:  g = 1 / std(v/|v| * x),  b = -mean(v/|v| * x) / std(...)   per output

A chain evaluates the same weights hundreds of times: inside `folded(module)` every w is computed once, detached from
the graph, and reused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional


class WeightNorm(nn.Module):
    """The part that normalised linear and convolution layers share. `weight` is v, of shape (outputs, ...)."""

    weight: Tensor
    bias: Tensor | None
    gain: nn.Parameter
    initialised: Tensor
    fold: Tensor | None = None

    def _add_gain(self, outputs: int) -> None:
        self.gain = nn.Parameter(torch.ones(outputs))
        self.register_buffer("initialised", torch.tensor(False))

    def normalised_weight(self) -> Tensor:
        """g v / |v|, or what was folded."""
        if self.fold is not None:
            return self.fold
        per_output = (-1,) + (1,) * (self.weight.dim() - 1)
        norm = self.weight.flatten(1).norm(dim=1).view(per_output)
        weight: Tensor = self.weight * (self.gain.view(per_output) / norm)
        return weight

    def apply_weight(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The layer's linear map."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.apply_weight(x, self.normalised_weight(), self.bias)


class WeightNormLinear(WeightNorm, nn.Linear):  # type: ignore[misc]  # whose bias is annotated as always there
    """(B, in) -> (B, out)."""

    def __init__(self, in_features: int, out_features: int) -> None:
        nn.Linear.__init__(self, in_features, out_features)
        self._add_gain(out_features)

    def apply_weight(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return functional.linear(x, weight, bias)


class WeightNormConv2d(WeightNorm, nn.Conv2d):
    """(B, in, H, W) -> (B, out, H, W), zero padding that keeps the size."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        nn.Conv2d.__init__(self, in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self._add_gain(out_channels)

    def apply_weight(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return functional.conv2d(x, weight, bias, padding=self.padding)


def weight_norm_layers(module: nn.Module) -> list[WeightNorm]:
    """Every normalised layer inside `module`, in the order of definition."""
    return [layer for layer in module.modules() if isinstance(layer, WeightNorm)]


@torch.no_grad()
def initialise_from_data(module: nn.Module, *inputs: Tensor) -> None:
    """Sets gains and biases from one forward pass over `inputs`, layer after layer, where that has not been done."""

    def set_from_input(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, WeightNorm)
        if bool(layer.initialised):
            return
        layer.gain.fill_(1.0)
        out = layer.apply_weight(args[0].float(), layer.normalised_weight(), None)
        axes = [axis for axis in range(out.dim()) if axis != 1]
        std = out.std(axes, correction=min(1, out.numel() // out.shape[1] - 1))
        std = torch.where(std > 1e-3, std, 1.0)  # an output that does not vary yet keeps its gain
        layer.gain.copy_(1.0 / std)
        assert layer.bias is not None
        layer.bias.copy_(-out.mean(axes) / std)
        layer.initialised.fill_(True)

    hooks = [layer.register_forward_pre_hook(set_from_input) for layer in weight_norm_layers(module)]
    try:
        with torch.compiler.set_stance("force_eager"):  # one pass with hooks: nothing that is worth compiling
            module(*inputs)
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def folded(module: nn.Module) -> Iterator[None]:
    """Within: normalised weights are computed once and carry no gradient. Nests."""
    layers = [layer for layer in weight_norm_layers(module) if layer.fold is None]
    try:
        for layer in layers:
            layer.fold = layer.normalised_weight().detach()
        yield
    finally:
        for layer in layers:
            layer.fold = None

"""Weight normalisation with data-dependent initialisation.

    w = g v / |v|  (per output)                                       (Salimans & Kingma 2016)
    on the first batch:  g = 1 / std(v/|v| * x),  b = -mean(v/|v| * x) / std(...)   per output

It keeps no statistics of data, so nothing has to be estimated again when inputs come from elsewhere.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaebm.nn.depthwise import convolve
from vaebm.nn.folding import Foldable


class WeightNorm(Foldable):
    """The part that normalised linear and convolution layers share."""

    bias: Tensor | None
    gain: nn.Parameter
    initialised: Tensor

    def _add_gain(self, outputs: int) -> None:
        self.gain = nn.Parameter(torch.ones(outputs))
        self.register_buffer("initialised", torch.tensor(False))

    def computed_weight(self) -> Tensor:
        norm = self.per_output(self.weight.flatten(1).norm(dim=1))
        weight: Tensor = self.weight * (self.per_output(self.gain) / norm)
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
    """(B, in, H, W) -> (B, out, ceil(H / stride), ceil(W / stride)), zero padding that keeps the size."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1) -> None:
        nn.Conv2d.__init__(
            self, in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, groups=groups
        )
        self._add_gain(out_channels)

    def apply_weight(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return convolve(self, x, weight, bias)


def weight_norm_layers(module: nn.Module) -> list[WeightNorm]:
    """Every layer of normalised weight inside `module`, in the order of definition."""
    return [layer for layer in module.modules() if isinstance(layer, WeightNorm)]


@contextmanager
def initialising_from_data(module: nn.Module) -> Iterator[None]:
    """Within: the first forward pass sets gains and biases, layer after layer, where that has not been done."""

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
        # One pass with hooks: nothing that is worth compiling. Importing the compiler to say so would take a second.
        compiles = "torch._dynamo" in sys.modules
        with torch.no_grad(), torch.compiler.set_stance("force_eager") if compiles else nullcontext():
            yield
    finally:
        for hook in hooks:
            hook.remove()


def initialise_from_data(module: nn.Module, *inputs: Tensor | None) -> None:
    """Sets gains and biases from one forward pass over `inputs`."""
    with initialising_from_data(module):
        module(*inputs)

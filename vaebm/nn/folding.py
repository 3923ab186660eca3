"""Layers whose weights are computed from others, and how a chain is spared computing them.

    y = W x + b,    W and b functions of what is trained:  g v / |v|,  or  g v / sqrt(variance + e), ...

A chain evaluates the same weights hundreds of times: inside `folded(module)` every W is computed once, detached from
the graph, and reused, so that a normalised layer costs what its bare linear map costs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Foldable(nn.Module):
    """A linear map with a normalised weight. `weight` is v, of shape (outputs, ...)."""

    weight: Tensor
    fold: Tensor | None = None

    def computed_weight(self) -> Tensor:
        """W, from what is trained; of the shape of `weight`."""
        raise NotImplementedError

    def normalised_weight(self) -> Tensor:
        """W, or what was folded."""
        return self.computed_weight() if self.fold is None else self.fold

    def per_output(self, values: Tensor) -> Tensor:
        """(outputs,) shaped to multiply `weight`."""
        return values.view(-1, *(1,) * (self.weight.dim() - 1))


class Freezable(nn.Module):
    """A part with a quicker form for weights that stand still, made when it is first used inside `folded`."""

    frozen: dict[torch.dtype, Callable[[Tensor], Tensor]] | None = None  # by precision; None outside of `folded`

    def frozen_form(self, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        """The quicker form, which gives no gradients of weights."""
        raise NotImplementedError

    def quick_form(self, x: Tensor) -> Callable[[Tensor], Tensor] | None:
        """The form for an input like x, or None where the modules themselves have to do: see who calls it."""
        if self.frozen is None or x.device.type != "cpu" or torch.compiler.is_compiling():
            return None
        if any(parameter.requires_grad for parameter in self.parameters()):
            return None
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        if dtype not in self.frozen:
            with torch.no_grad():
                self.frozen[dtype] = self.frozen_form(dtype)
        return self.frozen[dtype]


def foldable_layers(module: nn.Module) -> list[Foldable]:
    """Every normalised layer inside `module`, in the order of definition."""
    return [layer for layer in module.modules() if isinstance(layer, Foldable)]


@contextmanager
def folded(module: nn.Module) -> Iterator[None]:
    """Within: normalised weights are computed once and carry no gradient. Nests."""
    layers = [layer for layer in foldable_layers(module) if layer.fold is None]
    parts = [part for part in module.modules() if isinstance(part, Freezable) and part.frozen is None]
    try:
        for part in parts:
            part.frozen = {}
        for layer in layers:
            layer.fold = layer.computed_weight().detach()
        yield
    finally:
        for layer in layers:
            layer.fold = None
        for part in parts:
            part.frozen = None

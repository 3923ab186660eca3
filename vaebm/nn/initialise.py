"""Initial weights drawn from an explicit generator.

Linear and convolution weights are uniform on +-sqrt(1 / fan_in), biases likewise, as PyTorch's own default: only the
source of the randomness changes, so that a seed in a recipe decides everything and no global state is touched.
"""

import math

import torch
from torch import nn


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Redraws the weights of every linear and convolution layer in `module`, in the order of definition."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            bound = 1.0 / math.sqrt(layer.weight[0].numel())
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            if layer.bias is not None:
                nn.init.uniform_(layer.bias, -bound, bound, generator=generator)

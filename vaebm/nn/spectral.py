"""Largest singular values of many layers at once, by power iteration.

    v <- W^T u / |W^T u|,   u <- W v / |W v|,   sigma = u^T W v                          (Miyato et al. 2018)

Weights are flattened to (outputs, rest) and layers of one shape are iterated as one batch of matrices. The vectors are
kept between calls, so four iterations a step suffice after forty at the first (the settings of Vahdat & Kautz 2020).
Counted are the layers of normalised weight; in a net that has none, all linear layers and convolutions.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaebm.nn.folding import Foldable, foldable_layers

FIRST_ITERATIONS, ITERATIONS = 40, 4


class SpectralNorms(nn.Module):
    """Sum over the layers of a module of their largest singular value, differentiable in the weights.

    The vectors u, v are buffers: a checkpoint that holds them resumes exactly.
    """

    started: Tensor

    def __init__(self, module: nn.Module, generator: torch.Generator) -> None:
        super().__init__()
        groups: dict[tuple[int, int], list[int]] = {}
        plain = [layer for layer in module.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
        self._layers = foldable_layers(module) or plain  # a plain list: the weights belong to the module
        for i, layer in enumerate(self._layers):
            rows = layer.weight.shape[0]
            groups.setdefault((rows, layer.weight.numel() // rows), []).append(i)
        self._groups = list(groups.values())
        for g, ((rows, _), members) in enumerate(groups.items()):
            u = functional.normalize(torch.randn(len(members), rows, 1, generator=generator), dim=1)
            self.register_buffer(f"u{g}", u)
        self.register_buffer("started", torch.tensor(False))

    def forward(self) -> Tensor:
        """The sum of the largest singular values, a scalar."""
        iterations = ITERATIONS if bool(self.started) else FIRST_ITERATIONS
        self.started.fill_(True)
        total = self.started.new_zeros((), dtype=torch.float32)
        for g, members in enumerate(self._groups):
            weights = torch.stack([_weight(self._layers[i]).flatten(1) for i in members])
            u = self.get_buffer(f"u{g}")
            with torch.no_grad():
                for _ in range(iterations):
                    v = functional.normalize(weights.mT @ u, dim=1)
                    image = weights @ v
                    # A layer that starts at zero has no singular vector yet, and keeps u until it has one.
                    u = torch.where(image.norm(dim=1, keepdim=True) > 0, functional.normalize(image, dim=1), u)
                self.get_buffer(f"u{g}").copy_(u)
            total = total + (u * (weights @ v)).sum()
        return total


def _weight(layer: nn.Module) -> Tensor:
    """What the layer multiplies by, (outputs, ...)."""
    weight = layer.normalised_weight() if isinstance(layer, Foldable) else layer.weight
    assert isinstance(weight, Tensor)
    return weight

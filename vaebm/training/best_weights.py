"""The best weights: those of a module at which something measured on held-out data was highest so far.

They are apart from the last ones: training goes on with its own, and the best replace them at the end of the stage.
"""

import math

import torch
from torch import Tensor, nn

from vaebm.training.checkpoint import Tree


class BestWeights:
    """Of the trainable weights of a module; `best` is the highest value, and -inf before there is any."""

    def __init__(self, module: nn.Module) -> None:
        self.best = -math.inf
        self._weights = [p for p in module.parameters() if p.requires_grad]
        self._kept: list[Tensor] = []

    def offer(self, value: float) -> None:
        """Keeps the module's weights as they are now, if `value` is the highest."""
        if value > self.best:
            self.best, self._kept = value, [p.detach().clone() for p in self._weights]

    @torch.no_grad()
    def restore(self) -> None:
        """Gives the module its best weights; where nothing was offered, it keeps its own."""
        for weight, kept in zip(self._weights, self._kept, strict=False):
            weight.copy_(kept)

    def state_dict(self) -> Tree:
        return {"best": self.best, "kept": self._kept}

    def load_state_dict(self, state: Tree) -> None:
        self.best = state["best"]
        self._kept = [kept.to(weight.device) for kept, weight in zip(state["kept"], self._weights, strict=False)]

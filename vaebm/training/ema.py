"""An exponential moving average of weights.

    m <- d m + (1 - d) w after every step, with d capped at (1 + t) / (10 + t) at step t, so that the start is forgotten

The average replaces the weights at the end of a stage: noise of the last steps is what it removes (Polyak & Juditsky
1992).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ExponentialAverage:
    """Average over the trainable weights of `module`; decay 0 keeps the last weights."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self._weights = [p for p in module.parameters() if p.requires_grad]
        self.mean = [p.detach().clone() for p in self._weights] if decay else []

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the weights after a step."""
        self.steps += 1
        if self.decay:
            decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
            torch._foreach_lerp_(self.mean, [p.detach() for p in self._weights], 1.0 - decay)

    @torch.no_grad()
    def replace_weights(self) -> None:
        """Puts the average in the module's place."""
        for weight, mean in zip(self._weights, self.mean, strict=False):
            weight.copy_(mean)

    def state_dict(self) -> dict[str, Tensor | int]:
        """For a checkpoint."""
        return {"steps": self.steps, **{f"mean.{i}": mean for i, mean in enumerate(self.mean)}}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        """From a checkpoint."""
        self.steps = int(state["steps"])
        for i, mean in enumerate(self.mean):
            saved = state[f"mean.{i}"]
            assert isinstance(saved, Tensor)
            mean.copy_(saved)

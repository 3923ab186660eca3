"""One optimizer with what goes around it: clipping, a rate that rises and falls, and an average of the weights.

g <- average over processes, clipped to norm c;   Adam or Adamax (Kingma & Ba 2015) at rate r(t);   m <- d m + (1 - d) w
"""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from vaebm.training.checkpoint import Tree, load_optimizer_state, optimizer_state
from vaebm.training.ema import ExponentialAverage
from vaebm.training.engine import Engine

OptimizerKind = Literal["adam", "adamax"]


class Optimizer:
    """Adam, or Adamax, on the trainable weights of a module.

    Args:
        module: what is trained.
        learning_rate: the highest rate.
        betas: the decays of first and second moment.
        clip_norm: gradients of a larger norm are scaled down to it.
        ema_decay: decay of the moving average of weights; 0 for none.
    """

    def __init__(
        self,
        module: nn.Module,
        engine: Engine,
        learning_rate: float,
        betas: tuple[float, float],
        clip_norm: float,
        ema_decay: float,
        optimizer: OptimizerKind = "adam",
    ) -> None:
        self.weights = [p for p in module.parameters() if p.requires_grad]
        self._engine, self._learning_rate, self._clip_norm = engine, learning_rate, clip_norm
        self._betas, self._kind = betas, optimizer
        self.average = ExponentialAverage(module, ema_decay)

    @cached_property
    def _optimiser(self) -> torch.optim.Optimizer:
        # Made when it is first used: torch imports its compiler for it, which takes a second.
        if self._kind == "adam":
            return torch.optim.Adam(self.weights, lr=self._learning_rate, betas=self._betas, fused=True)
        return torch.optim.Adamax(self.weights, lr=self._learning_rate, betas=self._betas, foreach=True)

    def step(self, loss: Tensor, rate: float) -> float:
        """One step at `rate` times the learning rate; returns the gradient's norm before clipping."""
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._engine.average_gradients(self.weights)
        norm = nn.utils.clip_grad_norm_(self.weights, self._clip_norm)
        for group in self._optimiser.param_groups:
            group["lr"] = rate * self._learning_rate
        self._optimiser.step()
        self.average.update()
        return float(norm)

    def state_dict(self) -> Tree:
        """For a checkpoint."""
        return {"optimizer": optimizer_state(self._optimiser), "average": self.average.state_dict()}

    def load_state_dict(self, state: Tree) -> None:
        """From a checkpoint."""
        load_optimizer_state(self._optimiser, state["optimizer"])
        self.average.load_state_dict(state["average"])

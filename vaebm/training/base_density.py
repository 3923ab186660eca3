"""The base density of a CEBM: mean and standard deviation of each value of the training data (vae/codeless.py).

A value that never varies, such as a corner that is always black, keeps the smallest scale: the base has to be wider
than the data everywhere for a density ratio to exist.
"""

import torch

from vaebm.training.checkpoint import Tree
from vaebm.training.stage import Stage, Training


class BaseStage(Stage):
    """Fits `model.vae` in one step."""

    name, iterations = "base", 1

    def __init__(self, training: Training, min_scale: float) -> None:
        self.training, self.min_scale = training, min_scale

    def begin(self) -> None:
        """There is nothing to prepare."""

    def step(self, iteration: int) -> dict[str, float]:
        model, device = self.training.model, self.training.engine.device
        n, total, square = 0, torch.zeros((), device=device), torch.zeros((), device=device)
        for chunk in self.training.data.chunks():
            x = chunk.to(device).double()
            n, total, square = n + len(x), total + x.sum(0), square + x.square().sum(0)
        mean = total / n
        scale = (square / n - mean.square()).clamp(min=0.0).sqrt().clamp(min=self.min_scale)
        model.vae.set_moments(mean, scale)
        return {"scale": float(scale.mean())}

    def end(self) -> None:
        """The base is all that this stage leaves."""

    def state_dict(self) -> Tree:
        return {}

    def load_state_dict(self, state: Tree) -> None:
        """There is nothing to go on with: the one step is taken, or to be taken again."""

"""One optimizer with what goes around it: clipping, a rate that rises and falls, an average of the weights.

    g <- mean over processes, scaled down to norm c     Adam or Adamax at rate r(t)     m <- d m + (1 - d) w
    w <- (1 - r(t) a) w with weight decay a, before each step of Adam

Adam and Adamax: Kingma & Ba, ICLR 2015, https://arxiv.org/abs/1412.6980. Weight decay apart from the gradient: AdamW,
Loshchilov & Hutter, ICLR 2019, https://arxiv.org/abs/1711.05101. The exponential moving average m replaces the
weights at the end of a stage, which removes the noise of the last steps (Polyak & Juditsky 1992,
https://doi.org/10.1137/0330046). Its decay d is capped at (1 + t) / (10 + t) at step t, so that the start is forgotten.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from vaebm.nn.spectral import SpectralNorms
from vaebm.training.checkpoint import Tree, load_optimizer_state
from vaebm.training.engine import Engine
from vaebm.training.stage import Stage, Training


def ramp(iteration: int, flat: int, length: int) -> float:
    """0 for `flat` iterations, then linearly to 1 over `length`, then 1."""
    if iteration < flat:
        return 0.0
    return min(1.0, (iteration - flat + 1) / length) if length else 1.0


def rise_and_fall(iteration: int, iterations: int, rise: int) -> float:
    """Linearly up to 1 over `rise` iterations and then down, towards 0 at the end: the shape of a learning rate."""
    if iteration < rise:
        return (iteration + 1) / rise
    return (iterations - iteration) / max(1, iterations - rise)


OptimizerKind = Literal["adam", "adamax"]


class ExponentialAverage:
    """Exponential moving average of the trainable weights of `module`; decay 0 keeps the last weights."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self._weights = [p for p in module.parameters() if p.requires_grad]
        self.mean = [p.detach().clone() for p in self._weights] if decay else []

    @torch.no_grad()
    def update(self) -> None:
        self.steps += 1
        if self.decay:
            decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
            torch._foreach_lerp_(self.mean, [p.detach() for p in self._weights], 1.0 - decay)

    @torch.no_grad()
    def replace_weights(self) -> None:
        """Copies the average into the module."""
        for weight, mean in zip(self._weights, self.mean, strict=False):
            weight.copy_(mean)

    @contextmanager
    @torch.no_grad()
    def in_place(self) -> Iterator[None]:
        """Within: the module has the average as its weights."""
        weights = [weight.detach().clone() for weight in self._weights] if self.decay else []
        self.replace_weights()
        try:
            yield
        finally:
            for weight, own in zip(self._weights, weights, strict=False):
                weight.copy_(own)

    def state_dict(self) -> Tree:
        return {"steps": self.steps, "mean": self.mean}

    def load_state_dict(self, state: Tree) -> None:
        self.steps = state["steps"]
        for mean, saved in zip(self.mean, state["mean"], strict=True):
            mean.copy_(saved)


class Optimizer:
    """Adam, or Adamax, on the trainable weights of a module.

    Rates rise to `learning_rate`, `betas` are the decays of first and second moment, gradients of a larger norm than
    `clip_norm` are scaled down to it, and `ema_decay` is that of the moving average of weights; 0 for none. Adam takes
    a weight decay.
    """

    def __init__(
        self,
        module: nn.Module,
        engine: Engine,
        learning_rate: float,
        betas: tuple[float, float],
        clip_norm: float,
        ema_decay: float,
        kind: OptimizerKind = "adam",
        weight_decay: float = 0.0,
    ) -> None:
        self.weights = [p for p in module.parameters() if p.requires_grad]
        self._engine, self._learning_rate, self._clip_norm = engine, learning_rate, clip_norm
        self._betas, self._kind, self._weight_decay = betas, kind, weight_decay
        self.pace = 1.0  # multiplies the learning rate; lower after an alarm
        self.ema = ExponentialAverage(module, ema_decay)

    @cached_property
    def _optimizer(self) -> torch.optim.Optimizer:
        # Made when it is first used: torch imports its compiler for it, which takes a second.
        if self._kind == "adam" and self._weight_decay:
            return torch.optim.AdamW(
                self.weights, lr=self._learning_rate, betas=self._betas, weight_decay=self._weight_decay, fused=True
            )
        if self._kind == "adam":
            return torch.optim.Adam(self.weights, lr=self._learning_rate, betas=self._betas, fused=True)
        return torch.optim.Adamax(self.weights, lr=self._learning_rate, betas=self._betas, foreach=True)

    def step(self, loss: Tensor | Iterable[Tensor], rate: float) -> float:
        """One step at `rate` times the learning rate; returns the gradient's norm before clipping.

        A loss in parts is their sum: each is made when the one before has been differentiated.
        """
        self._optimizer.zero_grad(set_to_none=True)
        for part in [loss] if isinstance(loss, Tensor) else loss:
            part.backward()
        self._engine.average_gradients(self.weights)
        norm = nn.utils.clip_grad_norm_(self.weights, self._clip_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = rate * self.pace * self._learning_rate
        self._optimizer.step()
        self.ema.update()
        return float(norm)

    def state_dict(self) -> Tree:
        return {"optimizer": self._optimizer.state_dict(), "ema": self.ema.state_dict()}

    def load_state_dict(self, state: Tree) -> None:
        load_optimizer_state(self._optimizer, state["optimizer"])
        self.ema.load_state_dict(state["ema"])


class LearningStage(Stage):
    """A stage that trains one module with one optimizer; the average replaces its weights at the end."""

    training: Training
    optimizer: Optimizer
    spectral: SpectralNorms | None = None

    @abstractmethod
    def prepare(self) -> None:
        """Makes the optimizer, and all else that a checkpoint fills; nothing is drawn from the engine's generator."""

    def begin(self) -> None:
        self.prepare()

    def end(self) -> None:
        self.optimizer.ema.replace_weights()

    def set_pace(self, pace: float) -> None:
        self.optimizer.pace = pace

    def halve(self) -> bool:
        if 2 * self.parts > self.batch_size:
            return False
        self.parts *= 2
        return True

    def state_dict(self) -> Tree:
        spectral = {} if self.spectral is None else self.spectral.state_dict()
        return {"optimizer": self.optimizer.state_dict(), "spectral": spectral, "parts": self.parts}

    def load_state_dict(self, state: Tree) -> None:
        self.parts = state["parts"]
        self.prepare()
        self.optimizer.load_state_dict(state["optimizer"])
        if self.spectral is not None:
            self.spectral.load_state_dict(state["spectral"])

    def spectral_norms(self, module: nn.Module) -> SpectralNorms:
        """The sum of the largest singular values of the module's layers; its vectors begin as the seed says."""
        return SpectralNorms(module, self.generator()).to(self.training.engine.device)

    def generator(self) -> torch.Generator:
        """A generator on the CPU that is the same before and after a resume."""
        return torch.Generator().manual_seed(self.training.seed)

"""Contrastive divergence: the difference of energies between data and the ends of short chains, as published.

    L = mean E(x+) - mean E(x-),      (x-, z-) from chains on h                                          # Eq. 5

Its gradient is that of the log-likelihood where chains reach h; its value means nothing, and nothing bounds it: an
energy that runs away from its chains is what the divergence monitor stops. Chains start from the model's `init`, or
from a replay buffer with a probability that ramps up.

Xiao, Kreis, Kautz & Vahdat, VAEBM, ICLR 2021, https://arxiv.org/abs/2010.00654; Hinton 2002,
https://doi.org/10.1162/089976602760128018; replay buffers: Du & Mordatch 2019, https://arxiv.org/abs/1903.08689
"""

from functools import partial
from typing import Literal

from pydantic import Field
from torch import Tensor

from vaebm import sampling
from vaebm.errors import InputError
from vaebm.training.checkpoint import Tree
from vaebm.training.estimators.base import IteratedSettings
from vaebm.training.estimators.contrast import Contrast, ContrastEstimator, ContrastSettings
from vaebm.training.estimators.drift import Drift
from vaebm.training.estimators.negatives import decoded, moved, start
from vaebm.training.optimizer import ramp


def contrastive_divergence(positive: Tensor, negative: Tensor) -> Contrast:
    """Energies of data and of the ends of chains, each (B,)."""
    return Contrast.of(positive.mean() - negative.mean(), positive, negative)  # Eq. 5


class ContrastiveDivergenceSettings(ContrastSettings, IteratedSettings):
    """Difference of energies between data and chain samples: the paper's."""

    kind: Literal["contrastive_divergence"] = Field(
        "contrastive_divergence", description="difference of energies between data and chain samples"
    )
    sampler: sampling.Sampler | None = Field(None, description="the chains' sampler; null: the recipe's")
    buffer: int = Field(0, ge=0, description="capacity of the replay buffer; 0 starts every chain afresh")
    replay_prob: float = Field(0.6, ge=0, le=1, description="probability that a chain starts from the buffer")
    replay_ramp_iterations: int = Field(5000, ge=0, description="iterations over which that probability rises from 0")


class ContrastiveDivergence(ContrastEstimator):
    """The paper's estimator."""

    settings_type = ContrastiveDivergenceSettings
    settings: ContrastiveDivergenceSettings

    def check(self) -> None:
        super().check()
        if 0 < self.settings.buffer < self.batch_size:
            raise InputError(
                f"energy_stage.phases.{self.name}.buffer is {self.settings.buffer}, less than a batch of"
                f" {self.batch_size}: raise it, or set it to 0 for chains that start afresh"
            )

    def prepare(self) -> None:
        super().prepare()
        self.drift = Drift(self.training, self.energy)
        self.buffer = sampling.ReplayBuffer(self.settings.buffer) if self.settings.buffer else None

    def step(self, iteration: int) -> dict[str, float]:
        data = self.data()
        position, chain_figures = self._chains(data.rows, iteration)
        positive, negative = self.energies(data, decoded(self.training.model, position))
        figures = self.learn_from(contrastive_divergence(positive, negative), positive, negative, iteration)
        return {**figures, **chain_figures}

    def _chains(self, n: int, iteration: int) -> tuple[Tensor, dict[str, float]]:
        s, t = self.settings, self.training
        if self.buffer is None:
            return moved(t, start(t, n), s.sampler)
        replay_prob = s.replay_prob * ramp(iteration, 0, s.replay_ramp_iterations)
        begun = self.buffer.draw(n, replay_prob, partial(start, t), t.engine.generator)
        position, figures = moved(t, begun.position, s.sampler)
        if bool(position.isfinite().all()):  # else an alarm follows
            self.buffer.put(position, begun.slots)
        return position, {**figures, "buffer_age": self.buffer.age}

    def state_dict(self) -> Tree:
        return {**super().state_dict(), "buffer": {} if self.buffer is None else self.buffer.state_dict()}

    def load_state_dict(self, state: Tree) -> None:
        super().load_state_dict(state)
        if self.buffer is not None:
            device = self.training.engine.device
            self.buffer.load_state_dict({name: value.to(device) for name, value in state["buffer"].items()})

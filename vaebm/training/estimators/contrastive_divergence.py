"""Contrastive divergence: the difference of energies between data and the ends of short chains, as published.

    L = mean E(x+) - mean E(x-),      (x-, z-) from chains on h                                          # Eq. 5

Its gradient is that of the log-likelihood where chains reach h; its value means nothing, and nothing bounds it: an
energy that runs away from its chains is what the divergence monitor stops. Chains start from the model's `init`, or
from a replay buffer with a probability that ramps up.

Xiao, Kreis, Kautz & Vahdat, VAEBM, ICLR 2021, https://arxiv.org/abs/2010.00654; Hinton 2002,
https://doi.org/10.1162/089976602760128018; replay buffers: Du & Mordatch 2019, https://arxiv.org/abs/1903.08689
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from vaebm import sampling
from vaebm.energy import TotalEnergy
from vaebm.errors import InputError
from vaebm.training.checkpoint import Tree
from vaebm.training.estimators.base import EstimatorSettings, IteratedSettings, PhaseDefaults
from vaebm.training.estimators.contrast import Contrast, ContrastEstimator, ContrastSettings
from vaebm.training.estimators.negatives import ChainSamples
from vaebm.training.loop import Training


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

    def __init__(
        self,
        name: str,
        training: Training,
        energy: TotalEnergy,
        settings: EstimatorSettings,
        defaults: PhaseDefaults,
    ) -> None:
        super().__init__(name, training, energy, settings, defaults)
        if 0 < self.settings.buffer < self.batch_size:
            raise InputError(
                f"energy_stage.phases.{name}.buffer is {self.settings.buffer}, less than a batch of {self.batch_size}:"
                " raise it, or set it to 0 for chains that start afresh"
            )

    def prepare(self) -> None:
        super().prepare()
        s = self.settings
        sampler = s.sampler or self.training.model.settings.sampler
        self.negatives = ChainSamples(self.training, sampler, s.buffer, s.replay_prob, s.replay_ramp_iterations)

    def step(self, iteration: int) -> dict[str, float]:
        data = self.data()
        samples, chain_figures = self.negatives.draw(data.rows, iteration)
        positive, negative = self.energies(data, samples)
        figures = self.learn_from(contrastive_divergence(positive, negative), positive, negative, iteration)
        return {**figures, **chain_figures}

    def state_dict(self) -> Tree:
        return {**super().state_dict(), "negatives": self.negatives.state_dict()}

    def load_state_dict(self, state: Tree) -> None:
        super().load_state_dict(state)
        self.negatives.load_state_dict(state["negatives"])

r"""MALA: the Metropolis-adjusted Langevin algorithm.

A Langevin move (see `langevin`) with an accept step, so that $p^{1/T}$ is exactly invariant at any step size. In high
dimension the best acceptance is 0.574.

Reference: Roberts and Rosenthal, Optimal scaling of discrete approximations to Langevin diffusions, JRSS B 60, 1998.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from vaebm.sampling.adaptation.warmup import StepSizeWarmUp
from vaebm.sampling.kernel import ChainState, LogDensity, StepInfo, WarmUp, check_positive, check_probability, start
from vaebm.sampling.langevin import langevin_move
from vaebm.sampling.metropolis import metropolis
from vaebm.sampling.settings import SamplerSettings


@dataclass(frozen=True, eq=False)
class MALA:
    """Langevin moves with an accept step.

    Attributes:
        step_size: eta of the Langevin move; a number, or a tensor that broadcasts to (chain, 1).
        temperature: T of the target p^(1/T).
        inverse_mass: diagonal of M^-1, a number, (dim,) or (chain, dim).
        acceptance_goal: mean acceptance that a warm-up tunes `step_size` for; it also learns `inverse_mass`.
    """

    step_size: float | Tensor = 0.01
    temperature: float = 1.0
    inverse_mass: float | Tensor = 1.0
    acceptance_goal: float = 0.574

    adjusted: ClassVar[bool] = True
    kinetic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive(step_size=self.step_size, temperature=self.temperature, inverse_mass=self.inverse_mass)
        check_probability(acceptance_goal=self.acceptance_goal)

    @property
    def gradients_per_step(self) -> float:
        """One."""
        return 1.0

    def goal(self, dim: int) -> float:
        """The acceptance goal, in any dimension."""
        return self.acceptance_goal

    def init(self, position: Tensor, target: LogDensity) -> ChainState:
        """The state of chains at `position`, (chain, dim)."""
        return start(position, target)

    def step(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> tuple[ChainState, StepInfo]:
        """One step of every chain; a proposal that is not finite is rejected and called diverged."""
        proposed, log_ratio = langevin_move(
            state, target, generator, self.step_size, self.temperature, self.inverse_mass
        )
        return metropolis(state, proposed, log_ratio, generator)

    def warm_up(self, steps: int) -> WarmUp:
        """Learns step size and inverse mass."""
        return StepSizeWarmUp(self, steps)


class MALASettings(SamplerSettings):
    """`sampler: {kind: mala, ...}` in a recipe."""

    kind: Literal["mala"] = "mala"
    warmup: int = Field(100, ge=0, description="steps that learn step size and mass and are not kept")
    step_size: float = Field(0.01, gt=0, description="eta, where a warm-up starts")
    temperature: float = Field(1.0, gt=0, description="T of the sampled density p^(1/T)")
    acceptance_goal: float = Field(0.574, gt=0, lt=1, description="what a warm-up tunes the step size for")

    def build(self, inverse_mass: float | Tensor = 1.0) -> MALA:
        """The kernel with these numbers."""
        return MALA(self.step_size, self.temperature, acceptance_goal=self.acceptance_goal, inverse_mass=inverse_mass)

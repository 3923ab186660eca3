r"""HMC: Hamiltonian Monte Carlo.

Draw a momentum $u \sim N(0, I)$, follow a leapfrog trajectory $(x, u) \to (x', u')$ (see `leapfrog`), and take its
end with probability $\min(1, \alpha)$,

    $$ \log \alpha = H(x, u) - H(x', u'), \qquad H = -\log p + \tfrac12 |u|^2 $$

The number of leapfrogs is drawn anew each step, the same for all chains, uniform around `leapfrogs`: a trajectory of
fixed length can return to where it began. A warm-up learns step size, mass and, from all chains together, the
trajectory length (see `adaptation.trajectory`).

Where the curvature varies by orders of magnitude, as in a funnel, no single step size reaches everywhere. With a spread
$s$ each chain draws its own, log-uniform, for each trajectory,

    $$ h' = h\, e^{-s U}, \qquad U \sim U(0, 1) $$

Reference: Neal, MCMC using Hamiltonian dynamics, Handbook of Markov chain Monte Carlo, 2011 (section 5.4.2.2: random
step sizes).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from vaebm.sampling.adaptation.trajectory import Trajectory, TrajectoryWarmUp, jittered
from vaebm.sampling.kernel import (
    ChainState,
    LogDensity,
    StepInfo,
    WarmUp,
    check_not_negative,
    check_positive,
    check_probability,
    standard_normal,
    start,
    sum_over_dim,
)
from vaebm.sampling.leapfrog import leapfrog
from vaebm.sampling.metropolis import metropolis
from vaebm.sampling.settings import SamplerSettings


@dataclass(frozen=True, eq=False)
class HMC:
    """Hamiltonian Monte Carlo with a jittered trajectory.

    Attributes:
        step_size: h, the time of a leapfrog; a number, or a tensor that broadcasts to (chain, 1).
        leapfrogs: mean number of leapfrogs in a trajectory, whose length is `leapfrogs` times `step_size`.
        jitter: in [0, 1]; the number is uniform within this fraction around its mean.
        inverse_mass: diagonal of M^-1, a number, (dim,) or (chain, dim).
        acceptance_goal: mean acceptance that a warm-up tunes `step_size` for; it also learns `leapfrogs` and
            `inverse_mass`.
        spread: s, at least 0; 0 gives all chains the same step size.
    """

    step_size: float | Tensor = 0.1
    leapfrogs: float = 10.0
    jitter: float = 0.3
    inverse_mass: float | Tensor = 1.0
    acceptance_goal: float = 0.9
    spread: float = 0.0

    adjusted: ClassVar[bool] = True
    kinetic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive(step_size=self.step_size, leapfrogs=self.leapfrogs, inverse_mass=self.inverse_mass)
        check_probability(acceptance_goal=self.acceptance_goal)
        check_not_negative(spread=self.spread)
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter is {self.jitter}; it has to be in [0, 1]")

    @property
    def gradients_per_step(self) -> float:
        """One a leapfrog, on average."""
        return max(1.0, self.leapfrogs)

    def goal(self, dim: int) -> float:
        """The acceptance goal, in any dimension."""
        return self.acceptance_goal

    def init(self, position: Tensor, target: LogDensity) -> ChainState:
        """The state of chains at `position`, (chain, dim)."""
        return start(position, target)

    def propose(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> Trajectory:
        """A trajectory of every chain."""
        count = jittered(self.leapfrogs, self.jitter, generator)
        momentum = standard_normal(state.position, generator)
        step_size = self.step_size
        if self.spread:
            uniform = torch.rand(len(momentum), 1, dtype=momentum.dtype, device=momentum.device, generator=generator)
            step_size = step_size * uniform.mul_(-self.spread).exp_()
        end, end_momentum = leapfrog(state, momentum, target, step_size, self.inverse_mass, count)
        kinetic = sum_over_dim(end_momentum.square() - momentum.square()) / 2
        return Trajectory(end, end_momentum, end.log_density - state.log_density - kinetic, count, count * step_size)

    def step(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> tuple[ChainState, StepInfo]:
        """One trajectory of every chain; an end that is not finite is rejected and called diverged."""
        trajectory = self.propose(state, target, generator)
        return metropolis(state, trajectory.end, trajectory.log_ratio, generator, trajectory.leapfrogs)

    def warm_up(self, steps: int) -> WarmUp:
        """Learns step size, inverse mass and trajectory length."""
        return TrajectoryWarmUp(self, steps)


class HMCSettings(SamplerSettings):
    """`sampler: {kind: hmc, ...}` in a recipe."""

    kind: Literal["hmc"] = "hmc"
    steps: int = Field(20, ge=1, description="trajectories of each chain after the warm-up")
    warmup: int = Field(100, ge=0, description="trajectories that learn step size, mass and length and are not kept")
    step_size: float = Field(0.1, gt=0, description="h, the time of a leapfrog, where a warm-up starts")
    leapfrogs: float = Field(10.0, gt=0, description="mean number of leapfrogs, where a warm-up starts")
    jitter: float = Field(0.3, ge=0, le=1, description="the number is uniform within this fraction around its mean")
    acceptance_goal: float = Field(0.9, gt=0, lt=1, description="what a warm-up tunes the step size for")
    spread: float = Field(0.0, ge=0, description="each chain's step size is log-uniform over this many nats below h")

    def build(self, inverse_mass: float | Tensor = 1.0) -> HMC:
        """The kernel with these numbers."""
        return HMC(
            self.step_size,
            self.leapfrogs,
            self.jitter,
            acceptance_goal=self.acceptance_goal,
            inverse_mass=inverse_mass,
            spread=self.spread,
        )

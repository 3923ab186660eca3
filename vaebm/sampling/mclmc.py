r"""MCLMC: microcanonical Langevin Monte Carlo, unadjusted and adjusted.

Unadjusted, one step of the isokinetic integrator (see `microcanonical`) is followed by a small change of direction,

    $$ u \leftarrow \frac{u + \nu z}{|u + \nu z|}, \qquad z \sim N(0, I), \qquad
       \nu = \sqrt{(e^{2h/L} - 1) / d} $$

which makes it forget its direction over the decoherence length $L$. Its bias is of order $h^2$. Adjusted, a direction
is drawn uniformly, followed for a jittered number of steps, and the end taken with the trajectory's Metropolis
probability, so that $p$ is exactly invariant.

Reference: Robnik and Seljak, Fluctuation without dissipation: Microcanonical Langevin Monte Carlo, 2023; Robnik,
Cohn-Gordon and Seljak, Metropolis adjusted Microcanonical Hamiltonian Monte Carlo, 2025.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from vaebm.sampling.adaptation.decoherence import DecoherenceWarmUp
from vaebm.sampling.adaptation.trajectory import Trajectory, TrajectoryWarmUp, jittered
from vaebm.sampling.adaptation.warmup import tolerated_acceptance
from vaebm.sampling.kernel import (
    ChainState,
    LogDensity,
    StepInfo,
    WarmUp,
    check_positive,
    check_probability,
    standard_normal,
    unit,
)
from vaebm.sampling.metropolis import metropolis, unadjusted
from vaebm.sampling.microcanonical import direction, isokinetic, start_on_sphere
from vaebm.sampling.settings import SamplerSettings


@dataclass(frozen=True, eq=False)
class MCLMC:
    """Unadjusted microcanonical Langevin dynamics; the state carries the direction (chain, dim).

    Attributes:
        step_size: h, a length in whitened coordinates; a number, or a tensor that broadcasts to (chain, 1).
        decoherence: L over the square root of the dimension, which is about the length of a whitened Gaussian's
            typical set.
        inverse_mass: diagonal of M^-1, a number, (dim,) or (chain, dim).
        energy_error: variance of log alpha per dimension that a warm-up tunes `step_size` for; it also learns
            `decoherence` and `inverse_mass`.
    """

    step_size: float | Tensor = 0.1
    decoherence: float = 1.0
    inverse_mass: float | Tensor = 1.0
    energy_error: float = 1e-4

    adjusted: ClassVar[bool] = False
    kinetic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive(
            step_size=self.step_size,
            decoherence=self.decoherence,
            inverse_mass=self.inverse_mass,
            energy_error=self.energy_error,
        )

    @property
    def gradients_per_step(self) -> float:
        """One."""
        return 1.0

    def goal(self, dim: int) -> float:
        """The acceptance that `energy_error` amounts to."""
        return tolerated_acceptance(self.energy_error, dim)

    def init(self, position: Tensor, target: LogDensity) -> ChainState:
        """The state of chains at `position`, (chain, dim); the first step draws the direction."""
        return start_on_sphere(position, target)

    def step(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> tuple[ChainState, StepInfo]:
        """One step of every chain; a chain whose next point is not finite is held where it is."""
        dim = state.position.shape[1]
        velocity = state.carried[0] if state.carried else direction(state.position, generator)
        state = state._replace(carried=(velocity,))
        end, velocity, log_ratio = isokinetic(state, velocity, target, self.step_size, self.inverse_mass, 1)
        lengths = torch.as_tensor(
            self.step_size / (self.decoherence * math.sqrt(dim)), dtype=velocity.dtype, device=velocity.device
        )
        # Far beyond the decoherence length nothing is left of the direction, and the exponential would overflow.
        spread = (torch.expm1(2 * lengths.clamp(max=20.0)) / dim).sqrt()
        velocity = unit(standard_normal(velocity, generator).mul_(spread).add_(velocity))
        return unadjusted(state, end._replace(carried=(velocity,)), log_ratio)

    def warm_up(self, steps: int) -> WarmUp:
        """Learns step size, inverse mass and decoherence length."""
        return DecoherenceWarmUp(self, steps)


@dataclass(frozen=True, eq=False)
class AdjustedMCLMC:
    """Metropolis-adjusted microcanonical trajectories.

    Attributes:
        step_size: h, a length in whitened coordinates; a number, or a tensor that broadcasts to (chain, 1).
        leapfrogs: mean number of steps of a trajectory.
        jitter: in [0, 1]; the number is uniform within this fraction around its mean.
        inverse_mass: diagonal of M^-1, a number, (dim,) or (chain, dim).
        acceptance_goal: mean acceptance that a warm-up tunes `step_size` for; it also learns `leapfrogs` and
            `inverse_mass`.
    """

    step_size: float | Tensor = 0.1
    leapfrogs: float = 10.0
    jitter: float = 0.3
    inverse_mass: float | Tensor = 1.0
    acceptance_goal: float = 0.9

    adjusted: ClassVar[bool] = True
    kinetic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive(step_size=self.step_size, leapfrogs=self.leapfrogs, inverse_mass=self.inverse_mass)
        check_probability(acceptance_goal=self.acceptance_goal)
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter is {self.jitter}; it has to be in [0, 1]")

    @property
    def gradients_per_step(self) -> float:
        """One a step of the integrator, on average."""
        return max(1.0, self.leapfrogs)

    def goal(self, dim: int) -> float:
        """The acceptance goal, in any dimension."""
        return self.acceptance_goal

    def init(self, position: Tensor, target: LogDensity) -> ChainState:
        """The state of chains at `position`, (chain, dim)."""
        return start_on_sphere(position, target)

    def propose(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> Trajectory:
        """A trajectory of every chain."""
        count = jittered(self.leapfrogs, self.jitter, generator)
        velocity = direction(state.position, generator)
        end, velocity, log_ratio = isokinetic(state, velocity, target, self.step_size, self.inverse_mass, count)
        return Trajectory(end, velocity, log_ratio, count, count * self.step_size)

    def step(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> tuple[ChainState, StepInfo]:
        """One trajectory of every chain; an end that is not finite is rejected and called diverged."""
        trajectory = self.propose(state, target, generator)
        return metropolis(state, trajectory.end, trajectory.log_ratio, generator, trajectory.leapfrogs)

    def warm_up(self, steps: int) -> WarmUp:
        """Learns step size, inverse mass and trajectory length."""
        return TrajectoryWarmUp(self, steps)


class MCLMCSettings(SamplerSettings):
    """`sampler: {kind: mclmc, ...}` in a recipe."""

    kind: Literal["mclmc"] = "mclmc"
    warmup: int = Field(100, ge=0, description="steps that learn step size, mass and decoherence and are not kept")
    step_size: float = Field(0.1, gt=0, description="h, a whitened length, where a warm-up starts")
    decoherence: float = Field(1.0, gt=0, description="L over the square root of the dimension, where a warm-up starts")
    energy_error: float = Field(1e-4, gt=0, description="variance per dimension that a warm-up tunes the step size for")

    def build(self, inverse_mass: float | Tensor = 1.0) -> MCLMC:
        """The kernel with these numbers."""
        return MCLMC(self.step_size, self.decoherence, energy_error=self.energy_error, inverse_mass=inverse_mass)


class AdjustedMCLMCSettings(SamplerSettings):
    """`sampler: {kind: adjusted_mclmc, ...}` in a recipe."""

    kind: Literal["adjusted_mclmc"] = "adjusted_mclmc"
    steps: int = Field(20, ge=1, description="trajectories of each chain after the warm-up")
    warmup: int = Field(100, ge=0, description="trajectories that learn step size, mass and length and are not kept")
    step_size: float = Field(0.1, gt=0, description="h, a whitened length, where a warm-up starts")
    leapfrogs: float = Field(10.0, gt=0, description="mean number of integrator steps, where a warm-up starts")
    jitter: float = Field(0.3, ge=0, le=1, description="the number is uniform within this fraction around its mean")
    acceptance_goal: float = Field(0.9, gt=0, lt=1, description="what a warm-up tunes the step size for")

    def build(self, inverse_mass: float | Tensor = 1.0) -> AdjustedMCLMC:
        """The kernel with these numbers."""
        return AdjustedMCLMC(
            self.step_size, self.leapfrogs, self.jitter, acceptance_goal=self.acceptance_goal, inverse_mass=inverse_mass
        )

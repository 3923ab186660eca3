r"""Underdamped Langevin: positions with momenta, by the BAOAB splitting.

With the whitened momentum $u \sim N(0, T I)$, force $f = M^{-1/2} \nabla \log p$ and friction $\gamma$, a step of
time $h$ is

    B:  $u \leftarrow u + \tfrac h2 f(x)$
    A:  $x \leftarrow x + \tfrac h2 M^{-1/2} u$
    O:  $u \leftarrow e^{-\gamma h} u + c \sqrt{(1 - e^{-2 \gamma h})\, T}\; w$, with $w \sim N(0, I)$
    A:  $x \leftarrow x + \tfrac h2 M^{-1/2} u$
    B:  $u \leftarrow u + \tfrac h2 f(x)$

and costs one gradient, since B ends where the next B begins. It samples $p^{1/(T c^2)}$ with a bias of order $h^2$ in
general and none for a Gaussian's positions. O leaves $N(0, T c^2 I)$ as it is, so the error of a step is the change of
$H = -\log p + \tfrac12 |u|^2$ over the rest of it, and

    $$ \log \alpha = \tfrac{1}{T c^2} \left[ \Delta \log p
       - \Delta_{B_1} \tfrac12 |u|^2 - \Delta_{B_2} \tfrac12 |u|^2 \right] $$

is reported as `acceptance`.

Reference: Leimkuhler and Matthews, Rational construction of stochastic numerical methods for molecular sampling, AMRX
2013; the error as a Metropolis ratio: Bussi and Parrinello, Accurate sampling using Langevin dynamics, PRE 75, 2007.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from vaebm.sampling.adaptation.warmup import StepSizeWarmUp, tolerated_acceptance
from vaebm.sampling.kernel import (
    ChainState,
    LogDensity,
    StepInfo,
    WarmUp,
    check_not_negative,
    check_positive,
    evaluate,
    plus,
    standard_normal,
    start,
    sum_over_dim,
)
from vaebm.sampling.metropolis import unadjusted
from vaebm.sampling.settings import SamplerSettings


@dataclass(frozen=True, eq=False)
class Underdamped:
    """Unadjusted underdamped Langevin dynamics; the state carries the whitened momentum (chain, dim).

    Attributes:
        step_size: h, a time; a number, or a tensor that broadcasts to (chain, 1).
        friction: gamma, per time; 2 damps a coordinate critically whose variance is its inverse mass.
        temperature: T of the target p^(1/T).
        noise_scale: c, multiplies the noise.
        inverse_mass: diagonal of M^-1, a number, (dim,) or (chain, dim).
        energy_error: variance of log alpha per dimension that a warm-up tunes `step_size` for; it also learns
            `inverse_mass`.
    """

    step_size: float | Tensor = 0.1
    friction: float = 1.0
    temperature: float = 1.0
    noise_scale: float = 1.0
    inverse_mass: float | Tensor = 1.0
    energy_error: float = 1e-4

    adjusted: ClassVar[bool] = False
    kinetic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive(
            step_size=self.step_size,
            friction=self.friction,
            temperature=self.temperature,
            inverse_mass=self.inverse_mass,
            energy_error=self.energy_error,
        )
        check_not_negative(noise_scale=self.noise_scale)

    @property
    def implied_temperature(self) -> float:
        """T c^2: the temperature at which the chain samples as its step size goes to 0."""
        return self.temperature * self.noise_scale**2

    @property
    def gradients_per_step(self) -> float:
        """One."""
        return 1.0

    def goal(self, dim: int) -> float:
        """The acceptance that `energy_error` amounts to."""
        return tolerated_acceptance(self.energy_error, dim)

    def init(self, position: Tensor, target: LogDensity) -> ChainState:
        """The state of chains at `position`, (chain, dim); the first step draws the momentum."""
        return start(position, target)

    def step(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> tuple[ChainState, StepInfo]:
        """One step of every chain; a chain whose next point is not finite is held where it is."""
        if state.carried:
            (momentum,) = state.carried
        else:
            momentum = standard_normal(state.position, generator).mul_(self.implied_temperature**0.5)
            state = state._replace(carried=(momentum,))
        scale = self.inverse_mass**0.5
        half = self.step_size / 2
        decay = (
            (-self.friction * self.step_size).exp()
            if isinstance(self.step_size, Tensor)
            else math.exp(-self.friction * self.step_size)
        )
        noise = standard_normal(state.position, generator).mul_(((1 - decay**2) * self.implied_temperature) ** 0.5)

        kick = half * scale * state.score
        gained = sum_over_dim((momentum + kick / 2).mul_(kick))
        momentum = momentum + kick  # B
        position = plus(state.position, half * scale, momentum)  # A
        momentum = plus(noise, decay, momentum)  # O
        position = plus(position, half * scale, momentum)  # A
        log_density, score = evaluate(target, position)
        kick = half * scale * score
        gained = gained + sum_over_dim((momentum + kick / 2).mul_(kick))
        momentum = momentum + kick  # B

        ratio = (log_density - state.log_density - gained) / max(
            self.implied_temperature, torch.finfo(gained.dtype).eps
        )
        return unadjusted(state, ChainState(position, log_density, score, (momentum,)), ratio)

    def warm_up(self, steps: int) -> WarmUp:
        """Learns step size and inverse mass."""
        return StepSizeWarmUp(self, steps)


class UnderdampedSettings(SamplerSettings):
    """`sampler: {kind: underdamped, ...}` in a recipe."""

    kind: Literal["underdamped"] = "underdamped"
    step_size: float = Field(0.1, gt=0, description="h, the time of a step")
    friction: float = Field(1.0, gt=0, description="gamma, per time")
    temperature: float = Field(1.0, gt=0, description="T of the sampled density p^(1/T)")
    noise_scale: float = Field(1.0, ge=0, description="multiplies the noise; other than 1 implies another temperature")
    energy_error: float = Field(1e-4, gt=0, description="variance per dimension that a warm-up tunes the step size for")

    def build(self, inverse_mass: float | Tensor = 1.0) -> Underdamped:
        """The kernel with these numbers."""
        return Underdamped(
            self.step_size,
            self.friction,
            self.temperature,
            self.noise_scale,
            energy_error=self.energy_error,
            inverse_mass=inverse_mass,
        )

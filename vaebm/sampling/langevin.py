r"""Unadjusted Langevin: a drift up the score, and noise.

    $$ x' = x + \tfrac{\eta}{2} M^{-1} \nabla \log p(x) + c \sqrt{\eta\, T}\, M^{-1/2}\, w, \qquad w \sim N(0, I) $$

with step size $\eta$, temperature $T$, noise scale $c$ and diagonal inverse mass $M^{-1}$. As $\eta \to 0$ it samples
$p^{1/(T c^2)}$; at finite $\eta$ its bias is of first order in $\eta$. $T$ and $c$ are apart so that a recipe which
detunes the noise says so: `implied_temperature` is the temperature that its numbers amount to.

With $v = x' - x$ and the two scores $s$, $s'$ the Metropolis ratio of the move is

    $$ \log \alpha = \tfrac{1}{T c^2}\left[ \log p(x') - \log p(x) - \tfrac12 (s + s') \cdot v
       - \tfrac{\eta}{8} (M^{-1} s' \cdot s' - M^{-1} s \cdot s) \right] $$

(the error of the trapezoidal rule along the move, and of one leapfrog's energy). Here it is only reported, as
`acceptance`; MALA acts on it.

Reference: Roberts and Tweedie, Exponential convergence of Langevin distributions and their discrete approximations,
Bernoulli 2, 1996.
"""

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
class Langevin:
    """Unadjusted overdamped Langevin dynamics.

    Attributes:
        step_size: eta; a number, or a tensor that broadcasts to (chain, 1).
        temperature: T of the target p^(1/T).
        noise_scale: c, multiplies the noise; 0 climbs the density.
        inverse_mass: diagonal of M^-1, a number, (dim,) or (chain, dim).
        energy_error: variance of log alpha per dimension that a warm-up tunes `step_size` for; it also learns
            `inverse_mass`.
    """

    step_size: float | Tensor = 0.01
    temperature: float = 1.0
    noise_scale: float = 1.0
    inverse_mass: float | Tensor = 1.0
    energy_error: float = 1e-5

    adjusted: ClassVar[bool] = False
    kinetic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive(
            step_size=self.step_size,
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
        """The state of chains at `position`, (chain, dim)."""
        return start(position, target)

    def step(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> tuple[ChainState, StepInfo]:
        """One step of every chain; a chain whose next point is not finite is held where it is."""
        proposed, log_ratio = langevin_move(
            state, target, generator, self.step_size, self.implied_temperature, self.inverse_mass
        )
        return unadjusted(state, proposed, log_ratio)

    def warm_up(self, steps: int) -> WarmUp:
        """Learns step size and inverse mass."""
        return StepSizeWarmUp(self, steps)


def langevin_move(
    state: ChainState,
    target: LogDensity,
    generator: torch.Generator,
    step_size: float | Tensor,
    temperature: float,
    inverse_mass: float | Tensor,
) -> tuple[ChainState, Tensor]:
    """A Langevin move, and its log Metropolis ratio (chain,), which is not finite where the new point is not."""
    drift = step_size * inverse_mass / 2
    noise = standard_normal(state.position, generator).mul_((2 * temperature * drift) ** 0.5)
    move = plus(noise, drift, state.score)
    position = state.position + move
    log_density, score = evaluate(target, position)
    # (s' + s) . (v + eta/4 M^-1 (s' - s)), which holds both terms of the bracket.
    trapezoid = sum_over_dim(plus(move, drift / 2, score - state.score).mul_(score + state.score))
    ratio = log_density - state.log_density - trapezoid / 2
    # At temperature 0 the probability is 0 or 1, by the sign of the bracket.
    return ChainState(position, log_density, score), ratio / max(temperature, torch.finfo(ratio.dtype).eps)


class LangevinSettings(SamplerSettings):
    """`sampler: {kind: langevin, ...}` in a recipe."""

    kind: Literal["langevin"] = "langevin"
    step_size: float = Field(0.01, gt=0, description="eta: drift eta/2 times the score, noise of variance eta")
    temperature: float = Field(1.0, gt=0, description="T of the sampled density p^(1/T)")
    noise_scale: float = Field(1.0, ge=0, description="multiplies the noise; other than 1 implies another temperature")
    energy_error: float = Field(1e-5, gt=0, description="variance per dimension that a warm-up tunes the step size for")

    def build(self, inverse_mass: float | Tensor = 1.0) -> Langevin:
        """The kernel with these numbers."""
        return Langevin(
            self.step_size,
            self.temperature,
            self.noise_scale,
            energy_error=self.energy_error,
            inverse_mass=inverse_mass,
        )

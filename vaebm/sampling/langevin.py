r"""Langevin: a drift up the score, and noise.

    $$ x' = x + \tfrac{\eta}{2} M^{-1} \nabla \log p(x) + c \sqrt{\eta\, T}\, M^{-1/2}\, w, \qquad w \sim N(0, I) $$

with step size $\eta$, temperature $T$, noise scale $c$ and diagonal inverse mass $M^{-1}$. As $\eta \to 0$ it samples
$p^{1/(T c^2)}$; at finite $\eta$ its bias is of first order in $\eta$. $T$ and $c$ are apart so that a recipe which
detunes the noise says so: `implied_temperature` is the temperature that its numbers amount to.

With $v = x' - x$ and the two scores $s$, $s'$ the Metropolis ratio of the move is

    $$ \log \alpha = \tfrac{1}{T c^2}\left[ \log p(x') - \log p(x) - \tfrac12 (s + s') \cdot v
       - \tfrac{\eta}{8} (M^{-1} s' \cdot s' - M^{-1} s \cdot s) \right] $$

(the error of the trapezoidal rule along the move, and of one leapfrog's energy). Langevin only reports it, as
`acceptance`. MALA, the Metropolis-adjusted Langevin algorithm, accepts by it, so that $p^{1/T}$ is exactly invariant at
any step size; in high dimension its best acceptance is 0.574.

Reference: Roberts and Tweedie, Exponential convergence of Langevin distributions and their discrete approximations,
Bernoulli 2, 1996; Roberts and Rosenthal, Optimal scaling of discrete approximations to Langevin diffusions, JRSS B 60,
1998.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vaebm.sampling.adaptation.warmup import Adjusted, Unadjusted
from vaebm.sampling.kernel import (
    ChainState,
    LogDensity,
    RunLength,
    StepInfo,
    evaluate,
    number,
    plus,
    standard_normal,
    sum_over_dim,
)
from vaebm.sampling.metropolis import metropolis, unadjusted


@dataclass(frozen=True, eq=False)
class Langevin(Unadjusted):
    """Unadjusted overdamped Langevin dynamics."""

    kind: ClassVar[str] = "langevin"
    label: ClassVar[str] = "Langevin"
    kinetic: ClassVar[bool] = False

    step_size: float | Tensor = number(0.01, "eta: drift eta/2 times the score, noise of variance eta", gt=0)
    temperature: float = number(1.0, "T of the sampled density p^(1/T)", gt=0)
    noise_scale: float = number(
        1.0, "c, multiplies the noise: other than 1 implies another temperature, 0 climbs", ge=0
    )
    energy_error: float = number(1e-5, "variance of log alpha per dimension that a warm-up aims at", gt=0, kw_only=True)

    @property
    def implied_temperature(self) -> float:
        """T c^2: the temperature at which the chain samples as its step size goes to 0."""
        return self.temperature * self.noise_scale**2

    def step(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> tuple[ChainState, StepInfo]:
        proposed, log_ratio = langevin_move(
            state, target, generator, self.step_size, self.implied_temperature, self.inverse_mass
        )
        return unadjusted(state, proposed, log_ratio)


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


@dataclass(frozen=True, eq=False)
class MALA(Adjusted):
    """Langevin moves with an accept step."""

    kind: ClassVar[str] = "mala"
    label: ClassVar[str] = "MALA"
    kinetic: ClassVar[bool] = False
    run_length: ClassVar[RunLength] = RunLength(warmup=100)

    step_size: float | Tensor = number(0.01, "eta of the Langevin move, where a warm-up starts", gt=0)
    temperature: float = number(1.0, "T of the sampled density p^(1/T)", gt=0)
    target_acceptance: float = number(0.574, "mean acceptance that a warm-up aims at", gt=0, lt=1, kw_only=True)

    def step(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> tuple[ChainState, StepInfo]:
        proposed, log_ratio = langevin_move(
            state, target, generator, self.step_size, self.temperature, self.inverse_mass
        )
        return metropolis(state, proposed, log_ratio, generator)

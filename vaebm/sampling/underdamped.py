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
from typing import ClassVar

import torch
from torch import Tensor

from vaebm.sampling.adaptation.warmup import Unadjusted
from vaebm.sampling.kernel import (
    ChainState,
    LogDensity,
    StepInfo,
    evaluate,
    number,
    plus,
    standard_normal,
    sum_over_dim,
)
from vaebm.sampling.metropolis import unadjusted


@dataclass(frozen=True, eq=False)
class Underdamped(Unadjusted):
    """Unadjusted underdamped Langevin dynamics; the state carries the whitened momentum (chain, dim).

    A friction of 2 damps a coordinate critically whose variance is its inverse mass.
    """

    kind: ClassVar[str] = "underdamped"
    label: ClassVar[str] = "underdamped Langevin"
    kinetic: ClassVar[bool] = True

    step_size: float | Tensor = number(0.1, "h, the time of a step", gt=0)
    friction: float = number(1.0, "gamma, per time", gt=0)
    temperature: float = number(1.0, "T of the sampled density p^(1/T)", gt=0)
    noise_scale: float = number(1.0, "c, multiplies the noise: other than 1 implies another temperature", ge=0)

    @property
    def implied_temperature(self) -> float:
        """T c^2: the temperature at which the chain samples as its step size goes to 0."""
        return self.temperature * self.noise_scale**2

    def step(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> tuple[ChainState, StepInfo]:
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

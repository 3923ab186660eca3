r"""MCLMC: microcanonical Langevin Monte Carlo, unadjusted and adjusted.

Isokinetic dynamics moves the whitened position at unit speed, $|u| = 1$, and turns it towards the force
$f = M^{-1/2} \nabla \log p$; with directions drawn anew now and then, its positions are distributed as $p$. One step
of time $h$ is

    B:  $u \leftarrow \dfrac{u + e\,(\sinh \delta + e \cdot u\,(\cosh \delta - 1))}{\cosh \delta + e \cdot u \sinh
        \delta}$, with $e = f / |f|$, $\delta = \tfrac{h}{2} |f| / (d - 1)$
    A:  $x \leftarrow x + h\, M^{-1/2} u$
    B:  as before, with the force at the new $x$

B is the exact flow at a fixed force, so half steps that meet are made as one, and n steps cost n gradients. Each B adds
$(d - 1) \log(\cosh \delta + e \cdot u \sinh \delta)$ to the kinetic energy $K$ (which is also the logarithm of the
change of volume), and

    $$ \log \alpha = \Delta \log p - \Delta K $$

is the error of a trajectory and its Metropolis ratio. It needs at least 2 dimensions.

Unadjusted, one step is followed by a small change of direction,

    $$ u \leftarrow \frac{u + \nu z}{|u + \nu z|}, \qquad z \sim N(0, I), \qquad
       \nu = \sqrt{(e^{2h/L} - 1) / d} $$

which makes it forget its direction over the decoherence length $L$. Its bias is of order $h^2$. Adjusted, a direction
is drawn uniformly, followed for a jittered number of steps, and the end taken with the trajectory's Metropolis
probability, so that $p$ is exactly invariant.

Reference: Robnik, De Luca, Silverstein and Seljak, Microcanonical Hamiltonian Monte Carlo, JMLR 24, 2023; Robnik and
Seljak, Fluctuation without dissipation: Microcanonical Langevin Monte Carlo, 2023; Robnik, Cohn-Gordon and Seljak,
Metropolis adjusted Microcanonical Hamiltonian Monte Carlo, 2025.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vaebm.sampling.adaptation.decoherence import DecoherenceKernel
from vaebm.sampling.adaptation.trajectory import Trajectory, TrajectoryKernel, jittered
from vaebm.sampling.kernel import (
    ChainState,
    LogDensity,
    RunLength,
    StepInfo,
    Unsuitable,
    evaluate,
    number,
    plus,
    standard_normal,
    start,
    sum_over_dim,
    unit,
)
from vaebm.sampling.metropolis import unadjusted


def start_on_sphere(position: Tensor, target: LogDensity) -> ChainState:
    """The state of chains at `position`, (chain, dim); raises `Unsuitable` where there is only 1 dimension."""
    if position.ndim == 2 and position.shape[1] < 2:
        raise Unsuitable("microcanonical dynamics needs at least 2 dimensions, here there is 1; take another kernel")
    return start(position, target)


def direction(like: Tensor, generator: torch.Generator) -> Tensor:
    """Unit vectors (chain, dim), uniform on the sphere."""
    return unit(standard_normal(like, generator))


def turn(velocity: Tensor, force: Tensor, time: float | Tensor) -> tuple[Tensor, Tensor]:
    """B for a time: the turned velocity (chain, dim), and the kinetic energy gained (chain,).

    Numerator and denominator are divided by cosh(delta) + sinh(delta) = e^delta, so that large forces do not overflow.
    """
    dim = velocity.shape[1]
    size = sum_over_dim(force.square()).sqrt_().clamp_(min=torch.finfo(force.dtype).tiny)[:, None]
    along = sum_over_dim(force * velocity)[:, None].div_(size).clamp_(-1, 1)
    delta = time * size / (dim - 1)
    # Beyond 20 the direction is that of the force, or straight against it and stays, where more would underflow.
    decay = delta.clamp(max=20.0).neg_().exp_()
    turned = velocity * (2 * decay) + force * ((1 - decay) * (1 + decay + along * (1 - decay)) / size)
    growth = ((1 + along) + (1 - along) * decay.square()).log_()
    gained = (delta + growth - math.log(2)) * (dim - 1)
    return unit(turned), gained[:, 0]


def isokinetic(
    state: ChainState,
    velocity: Tensor,
    target: LogDensity,
    step_size: float | Tensor,
    inverse_mass: float | Tensor,
    count: int,
) -> tuple[ChainState, Tensor, Tensor]:
    """The end of `count` steps from `state` with unit velocity u (chain, dim), that velocity, and log alpha (chain,).

    The step size h is a number, or a tensor that broadcasts to (chain, 1); `inverse_mass` is the diagonal of M^-1.
    """
    scale = inverse_mass**0.5
    time = step_size * scale
    position, log_density, score = state.position, state.log_density, state.score
    velocity, kinetic = turn(velocity, scale * score, step_size / 2)
    for done in range(1, count + 1):
        position = plus(position, time, velocity)
        log_density, score = evaluate(target, position)
        velocity, gained = turn(velocity, scale * score, step_size if done < count else step_size / 2)
        kinetic = kinetic + gained
    return ChainState(position, log_density, score), velocity, log_density - state.log_density - kinetic


@dataclass(frozen=True, eq=False)
class MCLMC(DecoherenceKernel):
    """Unadjusted microcanonical Langevin dynamics; the state carries the direction (chain, dim).

    The decoherence length is given over the square root of the dimension, which is about the length of a whitened
    Gaussian's typical set.
    """

    kind: ClassVar[str] = "mclmc"
    label: ClassVar[str] = "MCLMC"
    kinetic: ClassVar[bool] = True
    run_length: ClassVar[RunLength] = RunLength(warmup=100)

    step_size: float | Tensor = number(0.1, "h, a length in whitened coordinates, where a warm-up starts", gt=0)

    def init(self, position: Tensor, target: LogDensity) -> ChainState:
        """The state of chains at `position`, (chain, dim); the first step draws the direction."""
        return start_on_sphere(position, target)

    def step(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> tuple[ChainState, StepInfo]:
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


@dataclass(frozen=True, eq=False)
class AdjustedMCLMC(TrajectoryKernel):
    """Metropolis-adjusted microcanonical trajectories."""

    kind: ClassVar[str] = "adjusted_mclmc"
    label: ClassVar[str] = "adjusted MCLMC"

    step_size: float | Tensor = number(0.1, "h, a length in whitened coordinates, where a warm-up starts", gt=0)

    def init(self, position: Tensor, target: LogDensity) -> ChainState:
        return start_on_sphere(position, target)

    def propose(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> Trajectory:
        count = jittered(self.num_leapfrog_steps, self.jitter, generator)
        velocity = direction(state.position, generator)
        end, velocity, log_ratio = isokinetic(state, velocity, target, self.step_size, self.inverse_mass, count)
        return Trajectory(end, velocity, log_ratio, count, count * self.step_size)

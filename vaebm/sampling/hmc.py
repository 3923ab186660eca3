r"""HMC: Hamiltonian Monte Carlo.

Draw a momentum $u \sim N(0, I)$, follow a leapfrog trajectory $(x, u) \to (x', u')$, and take its end with probability
$\min(1, \alpha)$,

    $$ \log \alpha = H(x, u) - H(x', u'), \qquad H(x, u) = -\log p(x) + \tfrac12 |u|^2 $$

With whitened momentum $u$ and force $f = M^{-1/2} \nabla \log p$, a leapfrog step of time $h$ is

    $$ u \leftarrow u + \tfrac h2 f(x), \quad x \leftarrow x + h\, M^{-1/2} u, \quad u \leftarrow u + \tfrac h2 f(x) $$

Reversible (negate $u$ and it runs back), volume preserving (each line is a shear), and wrong in $H$ by $O(h^2)$. Half
steps that meet are made as one, so n steps cost n gradients.

A warm-up learns step size, mass and, from all chains together, the trajectory length (see `adaptation.trajectory`).

Where the curvature varies by orders of magnitude, as in a funnel, no single step size reaches everywhere. With a jitter
$s$ each chain draws its own, log-uniform, for each trajectory,

    $$ h' = h\, e^{-s U}, \qquad U \sim U(0, 1) $$

Reference: Neal, MCMC using Hamiltonian dynamics, Handbook of Markov chain Monte Carlo, 2011 (section 5.2; section
5.4.2.2: random step sizes).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vaebm.sampling.adaptation.trajectory import Trajectory, TrajectoryKernel, jittered
from vaebm.sampling.kernel import ChainState, LogDensity, evaluate, number, plus, standard_normal, sum_over_dim


def leapfrog(
    state: ChainState,
    momentum: Tensor,
    target: LogDensity,
    step_size: float | Tensor,
    inverse_mass: float | Tensor,
    count: int,
) -> tuple[ChainState, Tensor]:
    """The end of `count` steps from `state` with momentum u (chain, dim), and the momentum there.

    The step size h is a number, or a tensor that broadcasts to (chain, 1); `inverse_mass` is the diagonal of M^-1.
    """
    time = step_size * inverse_mass**0.5
    position, log_density, score = state.position, state.log_density, state.score
    momentum = plus(momentum, time / 2, score)
    for done in range(1, count + 1):
        position = plus(position, time, momentum)
        log_density, score = evaluate(target, position)
        momentum = plus(momentum, time if done < count else time / 2, score)
    return ChainState(position, log_density, score), momentum


@dataclass(frozen=True, eq=False)
class HMC(TrajectoryKernel):
    """Hamiltonian Monte Carlo with a jittered trajectory."""

    kind: ClassVar[str] = "hmc"
    label: ClassVar[str] = "HMC"

    step_size: float | Tensor = number(0.1, "h, the time of a leapfrog step, where a warm-up starts", gt=0)
    step_size_jitter: float = number(
        0.0, "s: each chain's step size is log-uniform over this many nats below h", ge=0, kw_only=True
    )

    def propose(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> Trajectory:
        count = jittered(self.num_leapfrog_steps, self.jitter, generator)
        momentum = standard_normal(state.position, generator)
        step_size = self.step_size
        if self.step_size_jitter:
            uniform = torch.rand(len(momentum), 1, dtype=momentum.dtype, device=momentum.device, generator=generator)
            step_size = step_size * uniform.mul_(-self.step_size_jitter).exp_()
        end, end_momentum = leapfrog(state, momentum, target, step_size, self.inverse_mass, count)
        kinetic = sum_over_dim(end_momentum.square() - momentum.square()) / 2
        return Trajectory(end, end_momentum, end.log_density - state.log_density - kinetic, count, count * step_size)

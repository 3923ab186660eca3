r"""HMC: Hamiltonian Monte Carlo.

Draw a momentum $u \sim N(0, I)$, follow a leapfrog trajectory $(x, u) \to (x', u')$ (see `leapfrog`), and take its
end with probability $\min(1, \alpha)$,

    $$ \log \alpha = H(x, u) - H(x', u'), \qquad H = -\log p + \tfrac12 |u|^2 $$

A warm-up learns step size, mass and, from all chains together, the trajectory length (see `adaptation.trajectory`).

Where the curvature varies by orders of magnitude, as in a funnel, no single step size reaches everywhere. With a jitter
$s$ each chain draws its own, log-uniform, for each trajectory,

    $$ h' = h\, e^{-s U}, \qquad U \sim U(0, 1) $$

Reference: Neal, MCMC using Hamiltonian dynamics, Handbook of Markov chain Monte Carlo, 2011 (section 5.4.2.2: random
step sizes).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vaebm.sampling.adaptation.trajectory import Trajectory, TrajectoryKernel, jittered
from vaebm.sampling.kernel import ChainState, LogDensity, number, standard_normal, sum_over_dim
from vaebm.sampling.leapfrog import leapfrog


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

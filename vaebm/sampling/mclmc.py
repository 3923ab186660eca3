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
from typing import ClassVar

import torch
from torch import Tensor

from vaebm.sampling.adaptation.decoherence import DecoherenceKernel
from vaebm.sampling.adaptation.trajectory import Trajectory, TrajectoryKernel, jittered
from vaebm.sampling.kernel import ChainState, LogDensity, RunLength, StepInfo, number, standard_normal, unit
from vaebm.sampling.metropolis import unadjusted
from vaebm.sampling.microcanonical import direction, isokinetic, start_on_sphere


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

r"""Ladder: inverse temperatures that swap at equal rates.

With the mean rejection $r_k$ of swaps between rungs k and k + 1, the barrier up to rung k is

    $$ \Lambda_k = \sum_{j < k} r_j $$

At the ends of windows that double in length the inner rungs move to where $\Lambda$, interpolated over $\log \beta$,
takes equally spaced values; the ends stay. Meanwhile each rung's step size is learned by dual averaging from its own
replicas, and carried over to the new temperatures by interpolation; the mass is that of the cold chains.

Reference: Syed, Bouchard-Cote, Deligiannidis and Doucet, Non-reversible parallel tempering, JRSS B 84, 2022, section 5.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from vaebm.sampling.adaptation.dual_averaging import DualAveraging
from vaebm.sampling.adaptation.mass import Variance
from vaebm.sampling.adaptation.warmup import Tunable, pooled_acceptance, search_step_size, window_ends
from vaebm.sampling.kernel import ChainState, Kernel, LogDensity, StepInfo, WarmUp
from vaebm.sampling.replicas import cold_info, exchange, without_counts

# A rung is never placed by a pair that seemed never to be rejected.
MIN_REJECTION = 0.01


@dataclass(frozen=True, eq=False)
class LadderKernel(Kernel):
    """A ladder of inverse temperatures, on each of which the inner kernel has a step size of its own.

    Attributes:
        kernel: moves the replicas; its own step size is the cold one where `step_sizes` is None.
        betas: inverse temperatures, falling from 1, all above 0.
        step_sizes: (rung,) or None.
    """

    kernel: Tunable
    betas: tuple[float, ...]
    step_sizes: Tensor | None = field(default=None, kw_only=True)

    @abstractmethod
    def advance(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> tuple[ChainState, StepInfo]:
        """As `step`, with what the inner kernel tells of each replica, (chain, rung)."""

    def rung_step_sizes(self, like: Tensor) -> Tensor:
        """(rung,), of the type and device of `like`."""
        if self.step_sizes is not None:
            return self.step_sizes
        betas = torch.tensor(self.betas, dtype=like.dtype, device=like.device)
        return self.kernel.step_size / (betas.sqrt() if self.kernel.kinetic else betas)

    def warm_up(self, steps: int, gradients: float = math.inf) -> WarmUp:
        return LadderWarmUp(self, steps)


def equal_swaps(betas: tuple[float, ...], swap_rates: Tensor) -> tuple[float, ...]:
    """Inverse temperatures of as many rungs and the same ends that have equal barriers, from swap rates (rung - 1,)."""
    rejections = (1 - swap_rates.double().cpu().numpy()).clip(min=MIN_REJECTION)
    barrier = np.concatenate([[0.0], rejections.cumsum()])
    places = np.linspace(0.0, barrier[-1], len(betas))
    moved = np.exp(np.interp(places, barrier, np.log(betas)))
    return (betas[0], *map(float, moved[1:-1]), betas[-1])


class LadderWarmUp(WarmUp):
    """Learns step sizes, temperatures, and the mass that all rungs share."""

    kernel: LadderKernel

    def __init__(self, kernel: LadderKernel, steps: int) -> None:
        super().__init__(kernel)
        self.ends = window_ends(steps)
        self.done = 0
        self.averaging: DualAveraging | None = None
        self.variance = Variance()

    def step(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> tuple[ChainState, StepInfo]:
        searched = 0
        if self.averaging is None:
            self.averaging, searched = self._search(state, target, generator)
        state, info = self.kernel.advance(state, target, generator)
        early = bool(self.ends) and self.done < self.ends[0]
        acceptance = pooled_acceptance(info, self.averaging.target_acceptance, early=early)
        self.kernel = replace(self.kernel, step_sizes=self.averaging.update(acceptance))
        self.done += 1
        if self.ends and self.ends[0] < self.done <= self.ends[-1]:
            self.variance.update(state.position)
        if self.done in self.ends:
            state = self._close_window(state)
        return state, cold_info(info._replace(gradients=info.gradients + searched))

    def _close_window(self, state: ChainState) -> ChainState:
        assert self.averaging is not None
        kernel, step_sizes = self.kernel, self.averaging.average
        betas = equal_swaps(kernel.betas, exchange(state).swap_rates)
        # np.interp wants rising abscissae, and log beta falls.
        logs = np.interp(
            np.log(betas)[::-1], np.log(kernel.betas)[::-1], step_sizes.log().double().cpu().numpy()[::-1]
        )[::-1]
        moved = torch.as_tensor(np.exp(logs), dtype=step_sizes.dtype, device=step_sizes.device)
        self.kernel = replace(kernel, betas=betas, step_sizes=moved)
        inverse_mass = self.variance.inverse_mass(kernel.kernel.inverse_mass)
        if inverse_mass is not None:
            self.kernel = replace(self.kernel, kernel=replace(kernel.kernel, inverse_mass=inverse_mass))
        self.averaging, self.variance = None, Variance()
        return without_counts(state)

    def _search(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> tuple[DualAveraging, int]:
        wanted = self.kernel.kernel.desired_acceptance(state.position.shape[1])

        def attempt(step_sizes: Tensor) -> tuple[Tensor, int]:
            _, info = replace(self.kernel, step_sizes=step_sizes).advance(state, target, generator)
            return pooled_acceptance(info, wanted), info.gradients

        step_sizes, gradients = search_step_size(attempt, self.kernel.rung_step_sizes(state.position), wanted)
        self.kernel = replace(self.kernel, step_sizes=step_sizes)
        return DualAveraging(step_sizes, wanted), gradients

    def finish(self) -> Kernel:
        if self.averaging is not None:
            self.kernel = replace(self.kernel, step_sizes=self.averaging.average)
        return self.kernel

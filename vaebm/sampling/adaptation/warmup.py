r"""Warm-up: in which order step size and mass are learned.

    | phase  | part of the steps  | learns                                                        |
    | ------ | ------------------ | ------------------------------------------------------------- |
    | early  | first 15 %         | step size, while the chains find the typical set              |
    | middle | next 75 %          | step size; mass, at the ends of windows that double in length |
    | late   | last 10 %          | step size, for the final mass                                 |

In the early phase the harmonic mean of the chains' acceptances is brought to the target acceptance; a single chain that
never moves keeps it far below, so no chain is left behind where the density is steep. Later it is the arithmetic mean.
The early target is 0.8 at most: on the way in, speed is worth more than small errors. A chain of an unadjusted kernel
whose error is hopeless is held meanwhile: too large a step would hurl it further out than any small one brings it back.

Moves out of the target's support are refused whatever the step size. Where the acceptance is below its target only
because of them, the step size neither shrinks nor grows.

Before each phase and window the step size is brought to the right order: doubled or halved, from the same state, until
the acceptance crosses the target. Warm-ups of fewer than 20 steps leave the mass alone.

An unadjusted kernel has no acceptance of its own. Its bias in each coordinate is governed by the variance of its energy
error per dimension, $\epsilon$; an error of variance $\sigma^2 = \epsilon d$ in all would be accepted with probability
$2 \Phi(-\sigma / 2)$, and that is its target.

Reference: the windows are those of the Stan reference manual, "Automatic parameter tuning", in proportion; the search
is Algorithm 4 of Hoffman and Gelman, The No-U-Turn Sampler, JMLR 15, 2014, with the target in place of 1/2; the energy
error per dimension is the criterion of Robnik, De Luca, Silverstein and Seljak, Microcanonical Hamiltonian Monte Carlo,
JMLR 24, 2023; acceptance by error: Neal, MCMC using Hamiltonian dynamics, 2011, section 5.4; the harmonic mean:
Hoffman, Radul and Sountsov, An adaptive-MCMC scheme for setting trajectory lengths in Hamiltonian Monte Carlo,
AISTATS 2021.
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from vaebm.sampling.adaptation.dual_averaging import DualAveraging
from vaebm.sampling.adaptation.mass import Variance
from vaebm.sampling.kernel import ChainState, Kernel, LogDensity, StepInfo, WarmUp, number, select

DOUBLINGS = 40
MIN_ACCEPTANCE = 1e-3
EARLY_ACCEPTANCE = 0.8


@dataclass(frozen=True, eq=False)
class Tunable(Kernel):
    """A kernel with a step size, an inverse mass, and an acceptance that a warm-up brings the step size to.

    The step size is a number, or a tensor that broadcasts to (chain, 1): a time for a kinetic kernel, for the others a
    time squared. The inverse mass is a number, (dim,) or (chain, dim).
    """

    kinetic: ClassVar[bool]

    step_size: float | Tensor = number(0.1, "size of a step", gt=0)
    inverse_mass: float | Tensor = number(1.0, "diagonal of M^-1", gt=0, in_recipe=False, kw_only=True)

    @abstractmethod
    def desired_acceptance(self, dim: int) -> float:
        """The mean acceptance to tune the step size for."""

    def warm_up(self, steps: int, gradients: float = math.inf) -> WarmUp:
        return StepSizeWarmUp(self, steps, gradients)


@dataclass(frozen=True, eq=False)
class Adjusted(Tunable):
    """A tunable kernel with an accept step."""

    adjusted: ClassVar[bool] = True

    target_acceptance: float = number(
        0.9, "mean acceptance that a warm-up tunes the step size for", gt=0, lt=1, kw_only=True
    )

    def desired_acceptance(self, dim: int) -> float:
        return self.target_acceptance


@dataclass(frozen=True, eq=False)
class Unadjusted(Tunable):
    """A tunable kernel without an accept step."""

    adjusted: ClassVar[bool] = False

    energy_error: float = number(
        1e-4, "variance of log alpha per dimension that a warm-up tunes the step size for", gt=0, kw_only=True
    )

    def desired_acceptance(self, dim: int) -> float:
        return tolerated_acceptance(self.energy_error, dim)


KernelT = TypeVar("KernelT", bound=Tunable)


def tolerated_acceptance(energy_error: float, dim: int) -> float:
    """2 Phi(-sigma / 2): acceptance of moves whose energy error has variance `energy_error` per dimension."""
    return math.erfc(math.sqrt(energy_error * dim / 8))


def pooled_acceptance(
    info: StepInfo, target_acceptance: float, *, early: bool = False, own_length: bool = False
) -> Tensor:
    """Mean over the chains (the first axis), harmonic in the early phase, as far as the step size decides it.

    Moves out of the support count as far as they show that the step size may not grow; not at all where moves have a
    length of their own, which no step size changes.
    """
    acceptance = info.acceptance.clamp(min=MIN_ACCEPTANCE) if early else info.acceptance

    def mean(weight: Tensor) -> Tensor:
        total = weight.sum(dim=0)
        return total / (weight / acceptance).sum(dim=0) if early else (weight * acceptance).sum(dim=0) / total

    everywhere = mean(torch.ones_like(acceptance))
    if info.outside is None or not bool(info.outside.any()):
        return everywhere
    inside = mean((~info.outside).to(acceptance.dtype))
    if own_length:
        return inside.nan_to_num(target_acceptance)
    return torch.minimum(everywhere.clamp(min=target_acceptance), inside.nan_to_num(0.0))


def window_ends(steps: int) -> list[int]:
    """The steps, from 1, after which a mass window closes; the first closes the early phase and sets no mass."""
    if steps < 20:
        return []
    ends = [round(0.15 * steps)]
    last = round(0.9 * steps)
    length = max(10, round(0.05 * steps))
    # A window closes only if the next, of twice its length, still fits; else it runs to the end of the middle phase.
    while ends[-1] + 3 * length <= last:
        ends.append(ends[-1] + length)
        length *= 2
    return [*ends, last]


def search_step_size(
    attempt: Callable[[Tensor], tuple[Tensor, int]], step_size: Tensor, target_acceptance: float
) -> tuple[Tensor, int]:
    """Step sizes of the right order: the largest power of two times the given that is accepted often enough.

    Args:
        attempt: gives, for step sizes, their mean acceptances (same shape) and the gradient evaluations spent.
        step_size: where to start, of any shape: one for each group of chains.
        target_acceptance: the acceptance to cross.

    Returns:
        Step sizes, and the gradient evaluations spent by each chain.
    """
    acceptance, gradients = attempt(step_size)
    grow, searching = acceptance > target_acceptance, acceptance != target_acceptance
    for _ in range(DOUBLINGS):
        step_size = torch.where(searching, torch.where(grow, 2 * step_size, step_size / 2), step_size)
        acceptance, cost = attempt(step_size)
        gradients += cost
        searching = searching & torch.where(grow, acceptance > target_acceptance, acceptance < target_acceptance)
        if not bool(searching.any()):
            break
    return torch.where(grow, step_size / 2, step_size), gradients


class StepSizeWarmUp(WarmUp, Generic[KernelT]):
    """Learns the step size by dual averaging, and the mass in windows, for `gradients` evaluations of each chain."""

    kernel: KernelT

    def __init__(self, kernel: KernelT, steps: int, gradients: float = math.inf) -> None:
        if isinstance(kernel.step_size, Tensor) and kernel.step_size.numel() > 1:
            shape = tuple(kernel.step_size.shape)
            raise ValueError(
                f"step_size is {shape}: a warm-up learns one for all chains; start it from a single number"
            )
        self.kernel = kernel
        self.steps, self.gradients = steps, gradients
        self.ends = window_ends(steps)
        self.done, self.spent = 0, 0
        self.variance = Variance()
        self.averaging: DualAveraging | None = None

    def step(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> tuple[ChainState, StepInfo]:
        searched = 0
        if self.averaging is None:
            self.averaging, searched = self._search(state, target, generator)
        before = state
        state, info = self.advance(state, target, generator)
        early = bool(self.ends) and self.done < self.ends[0]
        acceptance = self.pooled(info, self.kernel, self.averaging.target_acceptance, early=early)
        self.kernel = replace(self.kernel, step_size=self.averaging.update(acceptance))
        self.done += 1
        if early:
            # Momenta are drawn anew: what the chains gain on their way down leaves them at once.
            state = state._replace(carried=())
            if not self.kernel.adjusted:
                state = select(info.acceptance > MIN_ACCEPTANCE, state, before._replace(carried=()))
        elif self.ends and self.done <= self.ends[-1]:
            self.variance.update(state.position)
        if self.done in self.ends:
            self.kernel = replace(self.kernel, step_size=self.averaging.average)
            self.averaging = None
            self.close_window()
        self.spent += info.gradients + searched
        return state, info._replace(gradients=info.gradients + searched)

    def advance(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> tuple[ChainState, StepInfo]:
        return self.kernel.step(state, target, generator)

    def close_window(self) -> None:
        inverse_mass = self.variance.inverse_mass(self.kernel.inverse_mass)
        if inverse_mass is not None:
            self.kernel = replace(self.kernel, inverse_mass=inverse_mass)
        self.variance = Variance()

    def _search(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> tuple[DualAveraging, int]:
        wanted = self.kernel.desired_acceptance(state.position.shape[1])
        if self.ends and self.done < self.ends[0]:
            wanted = min(wanted, EARLY_ACCEPTANCE)

        def attempt(step_size: Tensor) -> tuple[Tensor, int]:
            kernel = self.with_step_size(step_size)
            _, info = kernel.step(state, target, generator)
            return self.pooled(info, kernel, wanted), info.gradients

        begin = torch.as_tensor(self.kernel.step_size, dtype=state.position.dtype, device=state.position.device)
        step_size, gradients = search_step_size(attempt, begin, wanted)
        self.kernel = self.with_step_size(step_size)
        return DualAveraging(step_size, wanted), gradients

    def with_step_size(self, step_size: Tensor) -> KernelT:
        """The kernel as learned so far, with another step size."""
        return replace(self.kernel, step_size=step_size)

    def pooled(self, info: StepInfo, kernel: KernelT, target_acceptance: float, *, early: bool = False) -> Tensor:
        """The acceptance of a step of all chains, from which the step size is learned."""
        return pooled_acceptance(info, target_acceptance, early=early)

    def finish(self) -> Kernel:
        """The kernel with the averaged step size, as a number."""
        if self.averaging is not None:
            self.kernel = replace(self.kernel, step_size=self.averaging.average)
        self.kernel = replace(self.kernel, step_size=float(self.kernel.step_size))
        return self.kernel

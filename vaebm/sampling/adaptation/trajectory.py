r"""Trajectory length: learned from all chains together by the ChEES criterion.

The change in the estimator of the expected square of a trajectory from $y$ to $y'$ (whitened positions, about their
mean: each chain's own, or the distance between modes that no trajectory crosses would count as spread) is

    $$ C = \tfrac14\, E\left[ \left( |y'|^2 - |y|^2 \right)^2 \right], \qquad
       \frac{\partial C}{\partial \log \tau} = E\left[ \left( |y'|^2 - |y|^2 \right) y' \cdot u'\; t \right] $$

with the end's velocity $u'$ and the time $t$ that the trajectory took. $\log \tau$ climbs $\log(C / \sqrt \tau)$ by
Adam's rule without momentum, chains weighted by their acceptance; the length kept is the average over the second half
of the climb. It starts with the first mass window, from one leapfrog step: $C$ has a maximum at every half period, and
the first is the cheapest. The reference climbs $C$ itself, which is flat for long trajectories on a target that is not
Gaussian; dividing by $\sqrt \tau$ lets the cost decide there, and shortens a Gaussian's trajectory by an eighth only.

Long trajectories run out of the support of a density with walls, at any step size: as long as more than half of them
are refused outright, the length shrinks instead.

Reference: Hoffman, Radul and Sountsov, An adaptive-MCMC scheme for setting trajectory lengths in Hamiltonian Monte
Carlo, AISTATS 2021.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from vaebm.sampling.adaptation.warmup import MIN_ACCEPTANCE, Adjusted, StepSizeWarmUp, pooled_acceptance
from vaebm.sampling.kernel import ChainState, Kernel, LogDensity, RunLength, StepInfo, WarmUp, number
from vaebm.sampling.metropolis import metropolis

RATE = 0.1
DECAY = 0.95
COST = 0.5
MAX_REFUSED = 0.5
MAX_LEAPFROG_STEPS = 64


class Trajectory(NamedTuple):
    """A proposal by integration: its end, the velocity (chain, dim) of the whitened position there, log alpha (chain,).

    It cost as many `gradients` as the integrator made steps; its `time` is one number, or one a chain, (chain, 1).
    """

    end: ChainState
    velocity: Tensor
    log_ratio: Tensor
    gradients: int
    time: float | Tensor


@dataclass(frozen=True, eq=False)
class TrajectoryKernel(Adjusted):
    """A kernel whose step is a trajectory of an integrator with an accept step at its end.

    The number of integrator steps is drawn anew for each trajectory, the same for all chains, uniform within the
    fraction `jitter` around its mean: a trajectory of fixed length can return to where it began.
    """

    kinetic: ClassVar[bool] = True
    run_length: ClassVar[RunLength] = RunLength(steps=20, warmup=100, gradients=500)

    num_leapfrog_steps: float = number(10.0, "mean number of integrator steps in a trajectory", gt=0)
    jitter: float = number(0.3, "the number is uniform within this fraction around its mean", ge=0, le=1)

    @property
    def gradients_per_step(self) -> float:
        return max(1.0, self.num_leapfrog_steps)

    def within(self, gradients: float) -> Self:
        if round(self.num_leapfrog_steps * (1 + self.jitter)) <= gradients or self.num_leapfrog_steps <= 1:
            return self
        return replace(self, num_leapfrog_steps=max(1, math.floor(gradients)) / (1 + self.jitter))

    @abstractmethod
    def propose(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> Trajectory:
        """A trajectory of every chain."""

    def step(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> tuple[ChainState, StepInfo]:
        trajectory = self.propose(state, target, generator)
        return metropolis(state, trajectory.end, trajectory.log_ratio, generator, trajectory.gradients)

    def warm_up(self, steps: int, gradients: float = math.inf) -> WarmUp:
        return TrajectoryWarmUp(self, steps, gradients)


def jittered(mean: float, jitter: float, generator: torch.Generator) -> int:
    """A whole number, at least 1, uniform within the fraction `jitter` around its mean."""
    uniform = float(torch.rand((), device=generator.device, generator=generator)) if jitter else 0.5
    return max(1, round(mean * (1 + jitter * (2 * uniform - 1))))


class TrajectoryWarmUp(StepSizeWarmUp[TrajectoryKernel]):
    """Learns step size, mass and trajectory length."""

    def __init__(self, kernel: TrajectoryKernel, steps: int, gradients: float = math.inf) -> None:
        super().__init__(kernel, steps, gradients)
        self.log_length: float | None = None
        self.centre: Tensor | None = None
        self.square, self.refused = 0.0, 0.0
        self.climbed = 0
        self.lengths: list[float] = []

    def advance(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> tuple[ChainState, StepInfo]:
        if self.variance.mean is not None and self.log_length is None:
            self.log_length = math.log(float(self.kernel.step_size))
        if self.log_length is not None:
            self.kernel = self._of_length(self.kernel, math.exp(self.log_length))
        trajectory = self.kernel.propose(state, target, generator)
        moved, info = metropolis(state, trajectory.end, trajectory.log_ratio, generator, trajectory.gradients)
        if self.log_length is not None:
            seen = len(self.lengths)
            last = state.position if self.centre is None else self.centre
            self.centre = torch.lerp(last, state.position, 1 / (seen + 1))
            self.log_length = self._climb(self.log_length, state, trajectory, info.acceptance, self.centre)
            self.lengths.append(self.log_length)
        return moved, info

    def with_step_size(self, step_size: Tensor) -> TrajectoryKernel:
        kernel = super().with_step_size(step_size)
        return kernel if self.log_length is None else self._of_length(kernel, math.exp(self.log_length))

    def pooled(
        self, info: StepInfo, kernel: TrajectoryKernel, target_acceptance: float, *, early: bool = False
    ) -> Tensor:
        """The acceptance of a trajectory of all chains; once its length is learned, the step size does not set it."""
        own_length = self.log_length is not None and kernel.num_leapfrog_steps > 1
        return pooled_acceptance(info, target_acceptance, early=early, own_length=own_length)

    def _climb(
        self, log_length: float, state: ChainState, trajectory: Trajectory, acceptance: Tensor, mean: Tensor
    ) -> float:
        scale = torch.as_tensor(self.kernel.inverse_mass, dtype=mean.dtype, device=mean.device).sqrt()
        time = torch.as_tensor(trajectory.time, dtype=mean.dtype, device=mean.device).flatten()
        begin, end = (state.position - mean) / scale, (trajectory.end.position - mean) / scale
        change = end.square().sum(dim=1) - begin.square().sum(dim=1)
        refused = float((acceptance < MIN_ACCEPTANCE).to(mean.dtype).mean())
        self.refused = DECAY * self.refused + (1 - DECAY) * refused
        if self.refused > MAX_REFUSED:
            return log_length - RATE
        slopes = change * (end * trajectory.velocity).sum(dim=1) * time - COST * change.square() / 4  # of C / tau^COST
        # A trajectory that blew up has acceptance 0 and no say.
        slopes = torch.where(acceptance > 0, slopes, 0)
        slope = float((acceptance * slopes).sum() / acceptance.sum().clamp(min=torch.finfo(mean.dtype).tiny))
        self.climbed += 1
        self.square = DECAY * self.square + (1 - DECAY) * slope**2
        if self.square == 0:
            return log_length
        return log_length + RATE * slope / math.sqrt(self.square / (1 - DECAY**self.climbed))

    def close_window(self) -> None:
        before = torch.as_tensor(self.kernel.inverse_mass).log().mean()
        super().close_window()
        shift = float(before - torch.as_tensor(self.kernel.inverse_mass).log().mean()) / 2
        if self.log_length is not None:
            self.log_length += shift
            self.lengths = [length + shift for length in self.lengths]

    def finish(self) -> Kernel:
        kernel = super().finish()
        if not self.lengths:
            return kernel
        half = self.lengths[len(self.lengths) // 2 :]
        return self._of_length(self.kernel, math.exp(sum(half) / len(half)), MAX_LEAPFROG_STEPS)

    def _of_length(self, kernel: TrajectoryKernel, length: float, longest: float | None = None) -> TrajectoryKernel:
        if longest is None:  # a bounded warm-up shares out what is left among the steps that are left
            affordable = (self.gradients - self.spent) / max(1, self.steps - self.done)
            longest = max(1.0, min(MAX_LEAPFROG_STEPS, affordable))
        return replace(kernel, num_leapfrog_steps=min(max(length / float(kernel.step_size), 1.0), longest))

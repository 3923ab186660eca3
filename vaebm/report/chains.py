"""Chains, watched: the same run that draws samples, with what it passes through kept at chosen steps.

A watched kernel steps exactly as the kernel inside it and lets a recorder look at the positions; warm-up steps
count, since chains move in them too. So what is shown is what `vaebm sample` does, whatever the kernel.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vaebm.models import NoiseSpaceModel
from vaebm.models.noise_space import ChainSpace, run_chains
from vaebm.sampling.kernel import ChainState, Kernel, LogDensity, StepInfo, WarmUp


@dataclass(frozen=True, eq=False)
class WatchedChains:
    """A run of chains.

    Args:
        steps: at which positions were kept, from 0 (the start) to the end; warm-up included.
        positions: (chain, dim) at each of them.
        warmup: how many of the steps learned the kernel's numbers.
        acceptance: mean over chains and steps after the warm-up.
        diverged: share of chains that met a value which is not finite.
        seconds: that the run took.
    """

    steps: list[int]
    positions: list[Tensor]
    warmup: int
    acceptance: float
    diverged: float
    seconds: float

    @property
    def start(self) -> Tensor:
        """(chain, dim)."""
        return self.positions[0]

    @property
    def end(self) -> Tensor:
        """(chain, dim): samples of the VAEBM."""
        return self.positions[-1]

    def at(self, wanted: Collection[int]) -> list[tuple[int, Tensor]]:
        """Steps and positions, of those of `wanted` that were kept."""
        return [(step, p) for step, p in zip(self.steps, self.positions, strict=True) if step in wanted]


def watch(
    model: NoiseSpaceModel,
    start: Tensor,
    generator: torch.Generator,
    wanted: Collection[int],
    progress: Callable[[int, int], None],
) -> WatchedChains:
    """Runs the recipe's sampler from positions (chain, dim).

    Raises:
        ValueError: the chains cannot start where they should.
    """
    sampler = model.settings.sampler
    recorder = _Recorder(frozenset(wanted))

    def watched(kernel: Kernel, space: ChainSpace) -> Kernel:
        recorder.space = space
        return _WatchedKernel(kernel, recorder)

    started = time.perf_counter()
    chains = run_chains(model, start, generator, sampler, progress, watched)
    seconds = time.perf_counter() - started
    kept = {0: start, **recorder.kept, sampler.warmup + sampler.steps: chains.position}
    return WatchedChains(
        sorted(kept),
        [kept[step].cpu() for step in sorted(kept)],
        sampler.warmup,
        float(chains.acceptance.mean()),
        float(chains.diverged.float().mean()),
        seconds,
    )


def milestones(total: int) -> list[int]:
    """0, 1, 2, 5, 10, 20, 50, ... and the last step.

    >>> milestones(60)
    [0, 1, 2, 5, 10, 20, 50, 60]
    """
    steps = [0, *(digit * 10**power for power in range(len(str(total))) for digit in (1, 2, 5))]
    return [step for step in steps if step < 0.85 * total] + [total]


def film_steps(total: int, frames: int) -> list[int]:
    """Steps of a film, denser at the beginning, where chains move most."""
    return sorted({round(total * (frame / (frames - 1)) ** 2) for frame in range(frames)})


@dataclass
class _Recorder:
    """Counts steps, and keeps positions at those that are wanted."""

    wanted: frozenset[int]
    space: ChainSpace | None = None
    done: int = 0
    kept: dict[int, Tensor] = field(default_factory=dict)

    def see(self, state: ChainState) -> None:
        self.done += 1
        if self.done in self.wanted and self.space is not None:
            self.kept[self.done] = self.space.position(state.position)


@dataclass(frozen=True, eq=False)
class _WatchedKernel:
    """A kernel that is looked at after each step."""

    kernel: Kernel
    recorder: _Recorder

    @property
    def adjusted(self) -> bool:
        return self.kernel.adjusted

    @property
    def gradients_per_step(self) -> float:
        return self.kernel.gradients_per_step

    def init(self, position: Tensor, target: LogDensity) -> ChainState:
        return self.kernel.init(position, target)

    def step(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> tuple[ChainState, StepInfo]:
        moved = self.kernel.step(state, target, generator)
        self.recorder.see(moved[0])
        return moved

    def warm_up(self, steps: int) -> WarmUp:
        return _WatchedWarmUp(self.kernel.warm_up(steps), self.recorder)


@dataclass(frozen=True, eq=False)
class _WatchedWarmUp:
    """The same while the kernel learns."""

    learner: WarmUp
    recorder: _Recorder

    def step(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> tuple[ChainState, StepInfo]:
        moved = self.learner.step(state, target, generator)
        self.recorder.see(moved[0])
        return moved

    def finish(self) -> Kernel:
        return _WatchedKernel(self.learner.finish(), self.recorder)

"""Chains, watched: the run that draws samples, with its positions kept at chosen steps.

An observer looks at the positions; warm-up steps count, since chains move in them too. So what is shown is what `vaebm
sample` does, whatever the kernel.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from vaebm.models import NoiseSpaceModel


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
    kept = {0: start}

    def observe(step: int, position: Tensor) -> None:
        if sampler.warmup + step in wanted:
            kept[sampler.warmup + step] = position

    started = time.perf_counter()
    chains = model.chains(start, generator, sampler, progress, observe)
    seconds = time.perf_counter() - started
    kept[sampler.warmup + sampler.steps] = chains.position
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

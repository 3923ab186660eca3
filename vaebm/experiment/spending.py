r"""Spending: chains of a kernel for a given number of gradient evaluations.

*Learning.* A pilot of a few chains learns the kernel's numbers by its own warm-up, for a small share of the whole
budget; what it cost is shared out among all samples. The mass is then set back to 1, the unit of noise, in which
coordinates already have one scale, and the step size learned once more for it: a recipe can then say all the numbers.

*Chains.* Each then steps until its share is spent, positions being looked at on the way. A kernel of trajectories
makes the last one as long as what is left. As in `sampling.run`, a chain of an unadjusted kernel that meets a value
which is not finite stops there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from vaebm.sampling.kernel import ChainState, Kernel, LogDensity, select

MIN_TRAJECTORIES = 8  # a longer trajectory leaves too few of them in the budget to accept or refuse
STEP_SIZE_STEPS = 19  # a warm-up of fewer than 20 steps learns the step size alone
PILOT_SPLIT = 0.75  # of the pilot's gradients, before the mass is set back

Advance = Callable[[int], None]
"""Told how many gradient evaluations have just been spent."""


class Trace(NamedTuple):
    """Chains that have spent their gradients.

    Attributes:
        position: (chain, dim), where they are.
        marks: gradients spent by each chain, and positions there.
        history: (steps, chain, quantity) of what was watched, or None.
        energies: (steps, chain), minus the log-density, or None.
        acceptance: mean over chains and steps; nan where no step fitted in.
        gradients: spent by each chain.
        steps: that took.
        diverged: share of the chains.
    """

    position: Tensor
    marks: list[tuple[int, Tensor]]
    history: Tensor | None
    energies: Tensor | None
    acceptance: float
    gradients: int
    steps: int
    diverged: float


def learn(
    kernel: Kernel, target: LogDensity, position: Tensor, gradients: int, generator: torch.Generator, advance: Advance
) -> tuple[Kernel, int]:
    """The kernel with numbers learned from a pilot at `position`, and the gradients that each pilot chain spent."""
    first = max(1, round(PILOT_SPLIT * gradients / kernel.gradients_per_step))
    kernel, spent = _warm_up(kernel, first, PILOT_SPLIT * gradients, target, position, generator, advance)
    kernel = _with_unit_mass(kernel)
    left = gradients - spent
    steps = min(STEP_SIZE_STEPS, int(left / kernel.gradients_per_step))
    if steps >= 1:
        kernel, more = _warm_up(kernel, steps, left, target, position, generator, advance)
        spent += more
    return kernel, spent


def _warm_up(
    kernel: Kernel,
    steps: int,
    gradients: float,
    target: LogDensity,
    position: Tensor,
    generator: torch.Generator,
    advance: Advance,
) -> tuple[Kernel, int]:
    learner, state, spent = kernel.warm_up(steps), kernel.init(position, target), 1
    for _ in range(steps):
        state, info = learner.step(state, target, generator)
        spent += info.gradients
        advance(info.gradients * len(position))
        if spent >= gradients:
            break
    return learner.finish(), spent


def _with_unit_mass(kernel: Kernel) -> Kernel:
    inner = getattr(kernel, "kernel", None)  # tempering's
    if inner is not None:
        return cast(Kernel, replace(cast(Any, kernel), kernel=replace(inner, inverse_mass=1.0)))
    return cast(Kernel, replace(cast(Any, kernel), inverse_mass=1.0)) if hasattr(kernel, "inverse_mass") else kernel


def with_room(kernel: Kernel, gradients: int) -> Kernel:
    """The kernel with trajectories short enough that some fit into the gradients."""
    return kernel.within(max(1.0, gradients / MIN_TRAJECTORIES))


def spend(
    kernel: Kernel,
    target: LogDensity,
    position: Tensor,
    gradients: int,
    generator: torch.Generator,
    *,
    marks: Sequence[int] = (),
    watch: Callable[[Tensor], Tensor] | None = None,
    advance: Advance = lambda _: None,
) -> Trace:
    """Steps chains at `position` (chain, dim) until each has spent `gradients`.

    Args:
        marks: where, in gradients, to keep the positions on the way.
        watch: (chain, dim) to (chain, quantity), recorded after every step.
    """
    state, spent = kernel.init(position, target), 1
    stopped = torch.zeros(len(position), dtype=torch.bool, device=position.device)
    diverged, waiting = stopped, sorted(mark for mark in marks if mark < gradients)
    kept: list[tuple[int, Tensor]] = []
    seen: list[Tensor] = []
    energies: list[Tensor] = []
    acceptances: list[Tensor] = []
    while (stepper := _fitting(kernel, gradients - spent)) is not None:
        moved, info = stepper.step(state, target, generator)
        spent += info.gradients
        state = _held(stopped, state, moved) if not kernel.adjusted else moved
        diverged = diverged | info.diverged
        stopped = stopped if kernel.adjusted else diverged
        acceptances.append(info.acceptance.mean())
        if waiting and spent >= waiting[0]:
            kept.append((spent, state.position.clone()))
            waiting = [mark for mark in waiting if mark > spent]
        if watch is not None:
            seen.append(watch(state.position))
            energies.append(-state.log_density)
        advance(info.gradients * len(position))
    return Trace(
        state.position,
        kept,
        torch.stack(seen) if seen else None,
        torch.stack(energies) if energies else None,
        float(torch.stack(acceptances).mean()) if acceptances else float("nan"),
        spent,
        len(acceptances),
        float(diverged.double().mean()),
    )


def _fitting(kernel: Kernel, left: int) -> Kernel | None:
    """The kernel, a shorter trajectory of it, or None where not even that fits into what is left."""
    fitting = kernel.within(left)
    return None if fitting.gradients_per_step > left else fitting


def _held(stopped: Tensor, state: ChainState, moved: ChainState) -> ChainState:
    return select(stopped, state, moved) if bool(stopped.any()) else moved

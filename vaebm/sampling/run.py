"""Run: chains of one kernel on one target, warmed up, counted, observed, and stoppable.

Warm-up steps learn the kernel and are not kept. After it the kernel is fixed, so the chain is a Markov chain. A chain
of an unadjusted kernel that meets a value which is not finite is stopped at its last finite position; an adjusted
kernel rejects such a proposal, and the rejection is counted. Ctrl-C ends the run with what is done, marked
`interrupted`. Without history, memory does not grow with the steps.

A budget bounds the gradient evaluations of each chain, warm-up included. The warm-up gets what the kept steps leave,
and at most half where they would take everything; trajectories become so short that at least eight fit. The budget is
enforced where the target is evaluated, so no kernel can exceed it.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from operator import index

import torch
from torch import Tensor

from vaebm.sampling.kernel import ChainState, Kernel, LogDensity, StepInfo, Unsuitable, evaluate, select
from vaebm.sampling.metropolis import MAX_ROUNDING

MIN_TRAJECTORIES = 8
SEARCH_FRACTION = 0.2  # of a warm-up's budget, for the searches of the step size's order

Observer = Callable[[int, ChainState, StepInfo], None]
"""Called after each step with its number, the chains, and what the step did.

Kept steps count from 1; the steps of a warm-up come before them, up to 0, so `step > 0` tells which are kept. The state
is that after the step, with stopped chains where they stopped. `info.gradients` are the evaluations that the step cost.
"""


@dataclass(frozen=True, eq=False)
class Chains:
    """What a run leaves.

    Attributes:
        state: where the chains are, with all that the kernel needs to go on.
        kernel: as adapted.
        steps: steps done after the warm-up.
        history: (steps // thinning, chain, dim), positions after every `thinning`-th of these steps, or None.
        log_density_history: (steps // thinning, chain), or None.
        acceptance: (chain,), mean acceptance after the warm-up; nan where no step was done.
        gradients: (chain,) int64, gradient evaluations spent, warm-up included.
        divergences: (chain,) int64, steps after the warm-up that met a value which is not finite.
        interrupted: whether Ctrl-C ended the run early.
    """

    state: ChainState
    kernel: Kernel
    steps: int
    history: Tensor | None
    log_density_history: Tensor | None
    acceptance: Tensor
    gradients: Tensor
    divergences: Tensor
    interrupted: bool

    @property
    def position(self) -> Tensor:
        """(chain, dim): where the chains are."""
        return self.state.position

    @property
    def log_density(self) -> Tensor:
        """(chain,): the target there."""
        return self.state.log_density

    @property
    def diverged(self) -> Tensor:
        """(chain,) bool: met a value which is not finite; chains of an unadjusted kernel were stopped there."""
        return self.divergences > 0


def sample_chains(
    target: LogDensity,
    position: Tensor | ChainState,
    kernel: Kernel,
    *,
    steps: int | None = None,
    warmup: int = 0,
    gradients: int | None = None,
    thinning: int = 1,
    generator: torch.Generator,
    keep_history: bool = True,
    observer: Observer | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Chains:
    """Runs chains.

    A run goes on where another ended: with `chains.state` for the position and `chains.kernel` for the kernel, 20 and
    20 steps are the same as 40.

    Args:
        target: (chain, dim) -> (chain,), log-density up to a constant.
        position: (chain, dim), where the chains start; or a state that a run of the same kernel has left.
        kernel: one of `KERNELS`, or any other that keeps the contract.
        steps: steps to keep; None runs as many as `gradients` pay for.
        warmup: steps before them, which adapt what the kernel can adapt.
        gradients: bound on the gradient evaluations of each chain, warm-up included; the run stops before it would
            exceed it.
        thinning: the history keeps every `thinning`-th step.
        generator: on the device of `position`.
        keep_history: whether to keep positions.
        observer: called after each step, those of the warm-up included.
        progress: called after each step with the steps done and, as far as it is known, the steps in all.

    Raises:
        ValueError: a count is out of range, or the chains cannot start (names which, and why).
        Unsuitable: the budget does not pay for a first step, or there are too few dimensions.
    """
    steps = None if steps is None else index(steps)
    if (steps is not None and steps < 0) or warmup < 0:
        raise ValueError(f"steps is {steps} and warmup {warmup}; neither can be negative")
    if thinning < 1:
        raise ValueError(f"thinning is {thinning}; it has to be at least 1")
    if steps is None and gradients is None:
        raise ValueError("neither steps nor gradients says how long the chains run; give at least one of them")
    if not isinstance(kernel, Kernel):
        raise ValueError(f"kernel is {kernel!r}; give a kernel, such as KERNELS['hmc']()")
    going_on = isinstance(position, ChainState)
    budget = _Budget.of(kernel, steps, warmup, gradients, 0 if going_on else 1)
    chains = position.position if isinstance(position, ChainState) else position
    metered = _Metered(target, len(chains), budget.total)
    state = position if isinstance(position, ChainState) else kernel.init(position, metered)
    rows = budget.max_steps // thinning if keep_history else 0
    run = _Run(kernel, metered, budget, state, generator, observer, progress, rows, thinning)
    interrupted = False
    try:
        run.warm_up()
        run.keep()
    except KeyboardInterrupt:
        interrupted = True
    _warn_of_rounding(run.state.log_density)
    return run.chains(interrupted, keep_history=keep_history)


def _warn_of_rounding(log_density: Tensor) -> None:
    """Says so where log-densities are too large for their differences to decide anything."""
    largest = float(log_density.abs().amax()) if len(log_density) else 0.0
    rounding = torch.finfo(log_density.dtype).eps * largest
    if rounding > MAX_ROUNDING:
        warnings.warn(
            f"the target's log-density is about {largest:.0e}, and {log_density.dtype} rounds it by {rounding:.1g}"
            " nats: smaller differences are lost; subtract a constant, or let the target compute in float64",
            stacklevel=3,
        )


class _Run:
    """A run under way."""

    def __init__(
        self,
        kernel: Kernel,
        target: "_Metered",
        budget: "_Budget",
        state: ChainState,
        generator: torch.Generator,
        observer: Observer | None,
        progress: Callable[[int, int], None] | None,
        rows: int,
        thinning: int,
    ) -> None:
        self.kernel, self.target, self.budget, self.state, self.generator = kernel, target, budget, state, generator
        self.observer, self.progress, self.thinning = observer, progress, thinning
        self.history = state.position.new_empty(rows, *state.position.shape)
        self.log_densities = state.log_density.new_empty(rows, len(state.log_density))
        self.warmed, self.done = 0, 0
        self.acceptance = torch.zeros_like(state.log_density)
        self.divergences = torch.zeros(len(state.position), dtype=torch.int64, device=state.position.device)
        self.gradients = torch.full_like(self.divergences, target.spent)
        self.stopped = torch.zeros_like(self.divergences, dtype=torch.bool)

    def warm_up(self) -> None:
        if not self.budget.warmup:
            return
        learner = self.kernel.within(self.budget.warm_up_longest).warm_up(
            self.budget.warmup, self.budget.warm_up_limit - self.target.spent
        )
        self.target.limit = self.budget.warm_up_limit
        try:
            while self.warmed < self.budget.warmup:
                self.state, info = learner.step(self.state, self.target, self.generator)
                self.warmed += 1
                self._tell(self.warmed - self.budget.warmup, info)
        except _Exhausted:
            pass
        finally:
            self.kernel = learner.finish()
            self.gradients.fill_(self.target.spent)
        self.target.limit = self.budget.total

    def keep(self) -> None:
        self.kernel = kernel = self.kernel.within(self.budget.longest(self.target.spent))
        while self.done < self.budget.max_steps and self.target.left >= 1:
            before = self.target.spent
            try:
                moved, info = kernel.within(self.target.left).step(self.state, self.target, self.generator)
            except _Exhausted:
                break
            finally:
                self.gradients += torch.where(self.stopped, 0, self.target.spent - before)
            self.divergences += info.diverged & ~self.stopped
            self.acceptance += torch.where(self.stopped, 0, info.acceptance)
            if not kernel.adjusted:
                # The kernel itself holds a chain in the step in which it diverges.
                moved = select(self.stopped, self.state, moved) if bool(self.stopped.any()) else moved
                self.stopped = self.stopped | info.diverged
            self.state = moved
            self.done += 1
            row = self.done // self.thinning - 1
            if self.done % self.thinning == 0 and row < len(self.history):
                self.history[row], self.log_densities[row] = self.state.position, self.state.log_density
            self._tell(self.done, info)

    def _tell(self, step: int, info: StepInfo) -> None:
        if self.observer is not None:
            self.observer(step, self.state, info)
        if self.progress is not None:
            fitting = self.target.left / self.kernel.gradients_per_step
            expected = min(self.budget.max_steps, fitting if math.isinf(fitting) else self.done + int(fitting))
            self.progress(self.warmed + self.done, (self.budget.warmup if step < 1 else self.warmed) + int(expected))

    def chains(self, interrupted: bool, *, keep_history: bool) -> Chains:
        done, rows = self.done, self.done // self.thinning
        return Chains(
            state=self.state,
            kernel=self.kernel,
            steps=done,
            history=self.history[:rows] if keep_history else None,
            log_density_history=self.log_densities[:rows] if keep_history else None,
            acceptance=self.acceptance / done if done else torch.full_like(self.acceptance, torch.nan),
            gradients=self.gradients,
            divergences=self.divergences,
            interrupted=interrupted,
        )


class _Exhausted(Exception):
    """The next evaluation would exceed the budget."""


class _Metered:
    """A target that counts the gradient evaluations of each chain, and refuses those beyond a limit."""

    def __init__(self, target: LogDensity, chains: int, limit: float) -> None:
        self.target, self.chains, self.limit, self.spent = target, max(1, chains), limit, 0

    @property
    def left(self) -> float:
        return self.limit - self.spent

    def __call__(self, position: Tensor) -> Tensor:
        return self.target(position)

    def value_and_score(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """(row,) and (row, dim); a chain may have several rows."""
        cost = -(-len(position) // self.chains)
        if cost > self.left:
            raise _Exhausted
        self.spent += cost
        return evaluate(self.target, position)


@dataclass(frozen=True)
class _Budget:
    """How gradients are shared out between warm-up and kept steps.

    Of each chain: `total` gradients, infinite without a bound; `warm_up_limit` of them may be spent when the `warmup`
    steps end, each of which costs `warm_up_longest` at the start; `steps` to keep, None for as many as fit, and no more
    than `max_steps`.
    """

    total: float
    warmup: int
    warm_up_limit: float
    warm_up_longest: float
    steps: int | None
    max_steps: int

    @classmethod
    def of(cls, kernel: Kernel, steps: int | None, warmup: int, gradients: int | None, start: int) -> "_Budget":
        if gradients is None:
            assert steps is not None
            return cls(math.inf, warmup, math.inf, math.inf, steps, steps)
        left = index(gradients) - start
        cheapest = math.ceil(kernel.within(1).gradients_per_step)
        if left < (cheapest if steps != 0 else 0):
            raise Unsuitable(
                f"gradients is {gradients}: the start and a first step of {type(kernel).__name__} cost "
                f"{start + cheapest} gradient evaluations; raise the budget"
            )
        kept = left // cheapest if steps is None else min(steps, left // cheapest)
        reserve = max(cheapest, min(left // 2, round(kept * kernel.gradients_per_step))) if kept else 0
        longest = max(1, (left - reserve) // (MIN_TRAJECTORIES * 5))
        cost = kernel.within(longest).gradients_per_step
        warmup = min(warmup, int((1 - SEARCH_FRACTION) * (left - reserve) / cost))
        return cls(gradients, warmup, gradients - reserve, longest, steps, kept)

    def longest(self, spent: int) -> float:
        """Gradients of one kept step, such that several fit into what is left."""
        count = MIN_TRAJECTORIES if self.steps is None else min(MIN_TRAJECTORIES, max(1, self.steps))
        return max(1.0, (self.total - spent) // count) if math.isfinite(self.total) else math.inf

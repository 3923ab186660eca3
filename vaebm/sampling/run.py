"""Run: chains of one kernel on one target, warmed up, counted, and stoppable.

Warm-up steps learn the kernel and are not kept. After it the kernel is fixed, so the chain is a Markov chain. A chain
of an unadjusted kernel that meets a value which is not finite is stopped at its last finite position; an adjusted
kernel rejects such a proposal, and the rejection is counted. Ctrl-C ends the run with what is done, marked
`interrupted`. Without history, memory does not grow with the steps.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vaebm.sampling.kernel import ChainState, Kernel, LogDensity, WarmUp, select


@dataclass(frozen=True, eq=False)
class Chains:
    """What a run leaves.

    Attributes:
        state: where the chains are, with all that the kernel needs to go on.
        kernel: as adapted.
        steps: steps done after the warm-up.
        history: (steps, chain, dim), positions after each of these steps, or None.
        log_density_history: (steps, chain), or None.
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
    position: Tensor,
    kernel: Kernel,
    *,
    steps: int,
    warmup: int = 0,
    generator: torch.Generator,
    keep_history: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Chains:
    """Runs chains.

    Args:
        target: (chain, dim) -> (chain,), log-density up to a constant.
        position: (chain, dim), where the chains start.
        kernel: one of `KERNELS`, or any other that keeps the contract.
        steps: steps to keep.
        warmup: steps before them, which adapt what the kernel can adapt.
        generator: on the device of `position`.
        keep_history: whether to keep all positions.
        progress: called after each step with the steps done and the steps in all.

    Raises:
        ValueError: a count is negative, or the chains cannot start (names which, and why).
    """
    if steps < 0 or warmup < 0:
        raise ValueError(f"steps is {steps} and warmup {warmup}; neither can be negative")
    chains = position.shape[0]
    state = kernel.init(position, target)
    history = position.new_empty(steps, *position.shape) if keep_history else None
    log_densities = state.log_density.new_empty(steps, chains) if keep_history else None
    acceptance = torch.zeros_like(state.log_density)
    gradients = torch.ones(chains, dtype=torch.int64, device=position.device)
    divergences = torch.zeros_like(gradients)
    stopped = torch.zeros_like(gradients, dtype=torch.bool)
    done, interrupted = 0, False
    learner: WarmUp | None = None
    try:
        if warmup:
            learner = kernel.warm_up(warmup)
            for count in range(warmup):
                state, info = learner.step(state, target, generator)
                gradients += info.gradients
                if progress is not None:
                    progress(count + 1, warmup + steps)
            kernel = learner.finish()
        for count in range(steps):
            moved, info = kernel.step(state, target, generator)
            gradients += torch.where(stopped, 0, info.gradients)
            divergences += info.diverged & ~stopped
            acceptance += torch.where(stopped, 0, info.acceptance)
            if not kernel.adjusted:
                # The kernel itself holds a chain in the step in which it diverges.
                state = select(stopped, state, moved) if bool(stopped.any()) else moved
                stopped = stopped | info.diverged
            else:
                state = moved
            if history is not None and log_densities is not None:
                history[count] = state.position
                log_densities[count] = state.log_density
            done = count + 1
            if progress is not None:
                progress(warmup + done, warmup + steps)
    except KeyboardInterrupt:
        interrupted = True
        if learner is not None:
            kernel = learner.finish()
    return Chains(
        state=state,
        kernel=kernel,
        steps=done,
        history=None if history is None else history[:done],
        log_density_history=None if log_densities is None else log_densities[:done],
        acceptance=acceptance / done if done else torch.full_like(acceptance, torch.nan),
        gradients=gradients,
        divergences=divergences,
        interrupted=interrupted,
    )

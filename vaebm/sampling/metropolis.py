r"""Metropolis: the accept step that makes a proposal exact.

A proposal $x \to x'$ is taken with probability $\min(1, \alpha)$, else the chain stays, where $\alpha$ is the ratio
of the flows $p(x')\,q(x', x)$ and $p(x)\,q(x, x')$. The two flows then balance, so $p$ is invariant whatever the
proposal is. A proposal whose ratio is not finite is rejected.

A ratio is a difference of log-densities. Where they are so large that their rounding exceeds a tenth of a nat, a
difference below the rounding says nothing and is taken for 0: chains far from the target could otherwise only stand
still to be accepted.

Reference: Hastings, Monte Carlo sampling methods using Markov chains and their applications, Biometrika 57, 1970.
"""

import math

import torch
from torch import Tensor

from vaebm.sampling.kernel import ChainState, StepInfo, select, sum_over_dim

MAX_ROUNDING = 0.1


def acceptance_probability(log_ratio: Tensor) -> Tensor:
    """min(1, exp(log_ratio)), (chain,); 0 where the ratio is not finite."""
    never = -math.inf
    return log_ratio.nan_to_num(never, never, never).clamp_(max=0).exp_()


def diverged(log_ratio: Tensor) -> Tensor:
    """(chain,) bool, whether the ratio is nan or infinite: three times faster than `isfinite`."""
    return log_ratio - log_ratio != 0


def resolved(log_ratio: Tensor, state: ChainState, proposed: ChainState) -> Tensor:
    """The ratio, less what may be the rounding of its log-densities where that is above a tenth of a nat."""
    largest = torch.maximum(state.log_density.abs(), proposed.log_density.abs())
    rounding = 2 * torch.finfo(largest.dtype).eps * largest
    return torch.where(rounding > MAX_ROUNDING, torch.sign(log_ratio) * (log_ratio.abs() - rounding).relu(), log_ratio)


def outside(proposed: ChainState) -> Tensor:
    """(chain,) bool, whether the target has no density at the proposal.

    Where a log-density is minus infinity because a step was too large, its score or the position is as large.
    """
    size = sum_over_dim(proposed.position.square() + proposed.score.square())
    return proposed.log_density.isneginf() & size.isfinite()


def metropolis(
    state: ChainState, proposed: ChainState, log_ratio: Tensor, generator: torch.Generator, gradients: int = 1
) -> tuple[ChainState, StepInfo]:
    """The accept step of every chain: from `state` to `proposed`, by log alpha (chain,), at a cost of `gradients`."""
    acceptance = acceptance_probability(resolved(log_ratio, state, proposed))
    uniform = torch.rand(acceptance.shape, dtype=acceptance.dtype, device=acceptance.device, generator=generator)
    accepted, beyond = uniform < acceptance, outside(proposed)
    info = StepInfo(acceptance, accepted, diverged(log_ratio) & ~beyond, gradients, beyond)
    return select(accepted, proposed, state), info


def unadjusted(
    state: ChainState, proposed: ChainState, log_ratio: Tensor, gradients: int = 1
) -> tuple[ChainState, StepInfo]:
    """No accept step: `proposed` is taken wherever it is finite, and the probability that was left out is reported."""
    stuck = diverged(log_ratio)
    moved = ~stuck
    acceptance = acceptance_probability(resolved(log_ratio, state, proposed))
    return select(moved, proposed, state), StepInfo(acceptance, moved, stuck, gradients)

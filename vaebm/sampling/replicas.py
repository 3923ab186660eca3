r"""Replicas: the copies of each chain that tempering runs at different temperatures, and how they change places.

After each move neighbours k and k + 1 on the ladder swap positions with probability $\min(1, \alpha)$,

    $$ \log \alpha = (\beta_k - \beta_{k+1}) \left( \phi(x_{k+1}) - \phi(x_k) \right) $$

where $\phi$ is what the inverse temperature $\beta$ multiplies. Even and odd pairs take turns: a replica then tends to
keep its direction, and travels the ladder faster than with random pairs. A round trip leads from the cold end to the
hot one and back.

Reference: Syed, Bouchard-Cote, Deligiannidis and Doucet, Non-reversible parallel tempering, JRSS B 84, 2022.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from vaebm.sampling.kernel import ChainState, StepInfo


class Replicas(NamedTuple):
    """Where the replicas of every chain are, and what they have done.

    Attributes:
        position: (chain, rung, dim).
        log_density: (chain, rung), the untempered target.
        score: (chain, rung, dim), of the untempered target.
        visited: (chain, rung) int8, the end of the ladder that a replica saw last: 0 cold, 1 hot, -1 none.
        round: (chain,) int64, rounds of swaps done.
        attempts: (chain, rung - 1) int64, swaps tried between a rung and the next.
        swaps: (chain, rung - 1), the sum of their probabilities.
        round_trips: (chain,) int64.
    """

    position: Tensor
    log_density: Tensor
    score: Tensor
    visited: Tensor
    round: Tensor
    attempts: Tensor
    swaps: Tensor
    round_trips: Tensor


class Exchange(NamedTuple):
    """Since the start, or since the ladder last changed: mean swap rates (rung - 1,), and round trips (chain,) int64.

    The rate is nan where no swap was tried; a round trip leads from the cold end to the hot one and back.
    """

    swap_rates: Tensor
    round_trips: Tensor


def replicate(state: ChainState, rungs: int) -> Replicas:
    """Replicas that all start where the chains are."""
    chains, device = len(state.position), state.position.device
    return Replicas(
        position=state.position[:, None].repeat(1, rungs, 1),
        log_density=state.log_density[:, None].repeat(1, rungs),
        score=state.score[:, None].repeat(1, rungs, 1),
        visited=torch.full((chains, rungs), -1, dtype=torch.int8, device=device),
        round=torch.zeros(chains, dtype=torch.int64, device=device),
        attempts=torch.zeros(chains, rungs - 1, dtype=torch.int64, device=device),
        swaps=state.log_density.new_zeros(chains, rungs - 1),
        round_trips=torch.zeros(chains, dtype=torch.int64, device=device),
    )


def swap(
    replicas: Replicas, inner: tuple[Tensor, ...], betas: Tensor, phi: Tensor, generator: torch.Generator
) -> tuple[Replicas, tuple[Tensor, ...]]:
    """A round of swaps after the replicas' moves, by betas (rung,) and phi (chain, rung).

    What the inner kernel carries, each (chain * rung, ...), travels with the positions.
    """
    chains, rungs, dim = replicas.position.shape
    device = betas.device
    probability = ((betas[:-1] - betas[1:]) * (phi[:, 1:] - phi[:, :-1])).clamp(max=0).exp()
    tried = (torch.arange(rungs - 1, device=device) + replicas.round[:, None]) & 1 == 0
    uniform = torch.rand(probability.shape, dtype=betas.dtype, device=device, generator=generator)
    swapped = tried & (uniform < probability)
    # Tried pairs do not overlap: a swap sends k to k + 1 and k + 1 to k.
    source = torch.arange(chains * rungs, device=device).reshape(chains, rungs)
    source[:, :-1] += swapped
    source[:, 1:] -= swapped.long()
    rows = source.flatten()

    visited = replicas.visited.flatten().index_select(0, rows).reshape(chains, rungs)
    home = visited[:, 0] == 1
    visited[:, 0] = 0
    visited[:, -1] = torch.where(visited[:, -1] == 0, 1, visited[:, -1])
    moved = Replicas(
        position=replicas.position.flatten(0, 1).index_select(0, rows).reshape(chains, rungs, dim),
        log_density=replicas.log_density.flatten().index_select(0, rows).reshape(chains, rungs),
        score=replicas.score.flatten(0, 1).index_select(0, rows).reshape(chains, rungs, dim),
        visited=visited,
        round=replicas.round + 1,
        attempts=replicas.attempts + tried,
        swaps=replicas.swaps + torch.where(tried, probability, 0),
        round_trips=replicas.round_trips + home,
    )
    return moved, tuple(part.index_select(0, rows) for part in inner)


def unpack(state: ChainState) -> tuple[Replicas, tuple[Tensor, ...]]:
    """The replicas that a state carries, and what the inner kernel carries of them."""
    count = len(Replicas._fields)
    return Replicas(*state.carried[:count]), state.carried[count:]


def without_counts(state: ChainState) -> ChainState:
    """The state with its counts of swaps and round trips back at 0."""
    replicas, inner = unpack(state)
    replicas = replicas._replace(
        visited=torch.full_like(replicas.visited, -1),
        attempts=torch.zeros_like(replicas.attempts),
        swaps=torch.zeros_like(replicas.swaps),
        round_trips=torch.zeros_like(replicas.round_trips),
    )
    return state._replace(carried=(*replicas, *inner))


def cold_info(info: StepInfo) -> StepInfo:
    """Of the cold replica (chain,), out of all (chain, rung); a chain has diverged where any replica has."""
    outside = None if info.outside is None else info.outside[:, 0]
    return StepInfo(info.acceptance[:, 0], info.accepted[:, 0], info.diverged.any(dim=1), info.gradients, outside)


def exchange(state: ChainState) -> Exchange:
    """How well the replicas of a state have travelled."""
    replicas, _ = unpack(state)
    return Exchange(replicas.swaps.sum(dim=0) / replicas.attempts.sum(dim=0), replicas.round_trips)

r"""FactorVAE score: of data that share one factor, does the latent that varies least tell which one it is?

    a vote       a factor k and one of its values at random; 64 rows that have it;
                 argmin_j of Var(z_j over these rows) / Var(z_j over all rows), among active latents (std >= 0.05)
    a classifier V_j = the factor for which latent j is voted for most often, over 10,000 votes
    score        fraction of 5,000 further votes (j, k) with V_j = k

from 1 / K by chance to 1. Votes as in Locatello et al. (ICML 2019, https://arxiv.org/abs/1811.12359), rows drawn with
replacement.

Reference: Kim & Mnih, Disentangling by factorising, ICML 2018, https://arxiv.org/abs/1802.05983.
"""

from typing import SupportsIndex

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaebm.errors import InputError
from vaebm.metrics.arrays import Array, Rows, as_count
from vaebm.metrics.disentanglement.coded_factors import CodedFactors, scored
from vaebm.metrics.measurement import Measurement

ACTIVE = 0.05  # standard deviation of a posterior mean, against 1 of the prior
FRACTION_TESTED = 3  # one vote in so many
VOTES_AT_ONCE = 1000


def factor_vae_score(
    codes: Rows,
    factors: Array,
    *,
    votes: SupportsIndex = 15_000,
    batch_size: SupportsIndex = 64,
    resamples: SupportsIndex = 10,
    seed: int = 0,
) -> Measurement:
    """The score of codes (N, dim), posterior means, and factors (N, K), whole numbers; numpy or torch.

    Args:
        codes: on the scale of the prior, N(0, I).
        factors: which value each factor has; K at least 2.
        votes: in all; two thirds of them make the classifier.
        batch_size: rows that share a factor in a vote.
        resamples: random halves for the standard error.
        seed: of halves and votes.

    Raises:
        InputError: no latent is active, or codes and factors do not belong together
            (metrics/disentanglement/coded_factors.py).
    """
    votes, batch_size = as_count(votes, "votes", 2 * FRACTION_TESTED), as_count(batch_size, "batch_size", 2)
    data = CodedFactors.of(codes, factors, fewest=2)
    active = np.flatnonzero(data.codes.std(0) >= ACTIVE)
    if not len(active):
        raise InputError(
            f"no latent has a standard deviation of {ACTIVE} or more: look for posterior collapse, or give codes on"
            " the scale of the prior"
        )

    def score(part: CodedFactors, generator: torch.Generator) -> dict[str, float]:
        latent, factor = (found.numpy() for found in _votes(part, active, votes, batch_size, generator))
        tested = votes // FRACTION_TESTED
        counts = np.zeros((part.codes.shape[1], part.factors.shape[1]))
        np.add.at(counts, (latent[tested:], factor[tested:]), 1)
        return {"factor_vae_score": float((counts.argmax(1)[latent[:tested]] == factor[:tested]).mean())}

    settings = {"votes": votes, "batch_size": batch_size, "active_latents": active.tolist()}
    return scored(score, data, resamples, seed, settings)["factor_vae_score"]


def _votes(
    data: CodedFactors, active: NDArray[np.int64], votes: int, batch_size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Of each vote the latent that varies least and the factor that was fixed, (votes,) each."""
    z = torch.from_numpy(data.codes[:, active] / data.codes[:, active].std(0))
    factor = torch.randint(data.factors.shape[1], (votes,), generator=generator)
    latent = torch.empty_like(factor)
    for k, column in enumerate(torch.from_numpy(data.factors.T)):
        # Rows in the order of their values: those of one value are neighbours, from `start` on.
        order, counts = column.argsort(stable=True), column.bincount(minlength=data.sizes[k])
        start, present = counts.cumsum(0) - counts, counts.nonzero().squeeze(1)
        for chosen in (factor == k).nonzero().squeeze(1).split(VOTES_AT_ONCE):
            value = present[torch.randint(len(present), (len(chosen), 1), generator=generator)]
            place = torch.rand(len(chosen), batch_size, generator=generator, dtype=z.dtype) * counts[value]
            rows = order[start[value] + place.long()]
            latent[chosen] = torch.from_numpy(active)[z[rows].var(1).argmin(1)]
    return latent, factor

r"""Mutual information gap: how much more the most telling latent says of a factor than the second most telling one.

    MIG = mean_k [ I(z_j1; v_k) - I(z_j2; v_k) ] / H(v_k),     j1, j2 the latents with the two largest I(z_j; v_k)

from 0 to 1. Two definitions of I are in use, and their numbers differ:

    means      z is the posterior mean in 20 bins            Locatello et al., ICML 2019, https://arxiv.org/abs/1811.12359
    samples    z ~ q(z | x), with its exact density          Chen et al., NeurIPS 2018, https://arxiv.org/abs/1802.04942

        I(z_j; v_k) = E [ log q(z_j | v_k) - log q(z_j) ]
        q(z_j) = mean_n N(z_j; mu_nj, sigma_nj),    q(z_j | v) = the same mean over rows n whose factor k is v

The aggregated posterior is that of the given rows; the expectation is over rows and draws.
"""

from typing import SupportsIndex

import numpy as np
import torch
from numpy.typing import NDArray

from vaebm.metrics.arrays import Array, Rows, as_count
from vaebm.metrics.disentanglement.coded_factors import CodedFactors, scored
from vaebm.metrics.disentanglement.mutual_information import binned, factor_entropies, mutual_information
from vaebm.metrics.measurement import Measurement

DRAWS_AT_ONCE = 32  # against 10,000 rows: what fits into a processor's cache


def mig(
    codes: Rows,
    factors: Array,
    *,
    stds: Rows | None = None,
    bins: SupportsIndex = 20,
    draws: SupportsIndex = 1000,
    resamples: SupportsIndex = 10,
    seed: int = 0,
) -> Measurement:
    """The gap of codes (N, dim), posterior means, and factors (N, K), whole numbers; numpy or torch.

    Args:
        codes: posterior means.
        factors: which value each factor has.
        stds: (N, dim), of q(z | x): then the gap is that of samples.
        bins: of each latent, for the definition by means.
        draws: from q, for the definition by samples.
        resamples: random halves for the standard error.
        seed: of halves and draws.

    Raises:
        InputError: codes and factors that do not belong together (metrics/disentanglement/coded_factors.py).
    """
    bins, draws = as_count(bins, "bins", 2), as_count(draws, "draws")
    data = CodedFactors.of(codes, factors, stds)

    def score(part: CodedFactors, generator: torch.Generator) -> dict[str, float]:
        if part.stds is None:
            return {"mig": gap(mutual_information(binned(part.codes, bins), part), part)}
        return {"mig": gap(sampled_information(part, draws, generator), part)}

    settings = {"definition": "means", "bins": bins} if stds is None else {"definition": "samples", "draws": draws}
    return scored(score, data, resamples, seed, settings)["mig"]


def gap(information: NDArray[np.float64], data: CodedFactors) -> float:
    """MIG of I (dim, K)."""
    second, first = np.sort(information, axis=0)[-2:]
    return float(((first - second) / factor_entropies(data)).mean())


def sampled_information(data: CodedFactors, draws: int, generator: torch.Generator) -> NDArray[np.float64]:
    """I(z_j; v_k), (dim, K), over `draws` draws of a row n and z ~ q(z | x_n)."""
    assert data.stds is not None
    # float32 holds a ratio of densities to 1e-6, in half the time.
    means, stds = (torch.from_numpy(values).float() for values in (data.codes, data.stds))
    factors = torch.from_numpy(data.factors)
    rows = torch.randint(len(data), (draws,), generator=generator)
    z = means[rows] + stds[rows] * torch.randn(draws, means.shape[1], generator=generator)
    # For each value of each factor the rows that have it, and how many these are.
    one_hot = torch.nn.functional.one_hot
    member = torch.cat([one_hot(v, size) for v, size in zip(factors.T, data.sizes, strict=True)], dim=1).float()
    count = member.sum(0)
    own = factors[rows] + torch.tensor([0, *np.cumsum(data.sizes)[:-1]])  # columns of `member`, (draws, K)
    information = torch.zeros(means.shape[1], factors.shape[1])
    for j in range(means.shape[1]):
        mean, std = means[:, j], stds[:, j]
        for part in torch.arange(draws).split(DRAWS_AT_ONCE):
            log_q = -0.5 * ((z[part, j, None] - mean) / std).square() - std.log()  # log N up to a constant
            density = (log_q - log_q.max(1, keepdim=True).values).exp()
            given = ((density @ member) / count).gather(1, own[part])  # q(z_j | v_k), up to the same factor
            information[j] += (given.log() - density.mean(1, keepdim=True).log()).sum(0)
    found: NDArray[np.float64] = (information / draws).double().numpy()
    return found

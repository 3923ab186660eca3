r"""Mutual information between each latent and each factor, in nats, from tables of how often values meet.

    H(v) = - sum_b p_b log p_b                 I(z; v) = H(z) + H(v) - H(z, v),      p the fractions in the data

A latent becomes a class by 20 bins of equal width between its smallest and its largest value (Locatello et al., ICML
2019, https://arxiv.org/abs/1811.12359), or by its own values where it is quantised. The estimate is biased upwards, by
about (b - 1)(v - 1) / 2N nats for b bins and v values.
"""

import numpy as np
from numpy.typing import NDArray

from vaebm.metrics.disentanglement.coded_factors import CodedFactors

ROUNDING = 1e-12  # nats that the difference of entropies leaves of independent variables
Classes = NDArray[np.int64]  # (N,) from 0


def entropy(counts: NDArray[np.integer]) -> float:
    """H, of how often each value occurs, in an array of any shape."""
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())


def factor_entropies(data: CodedFactors) -> NDArray[np.float64]:
    """H(v_k), (K,)."""
    return np.array([entropy(np.bincount(column)) for column in data.factors.T])


def binned(codes: NDArray[np.float64], bins: int) -> list[Classes]:
    """Each latent of codes (N, dim) in bins of equal width."""
    return [np.digitize(z, np.histogram_bin_edges(z, bins)[1:-1]).astype(np.int64) for z in codes.T]


def quantised(codes: NDArray[np.float64]) -> list[Classes]:
    """Each latent of codes (N, dim) by its own values."""
    return [np.unique(z, return_inverse=True)[1].astype(np.int64) for z in codes.T]


def mutual_information(latents: list[Classes], data: CodedFactors) -> NDArray[np.float64]:
    """I(z_j; v_k), (dim, K), of latents that are classes."""
    of_latents = np.array([entropy(np.bincount(z)) for z in latents])
    joint = [
        [entropy(np.bincount(z * size + v)) for v, size in zip(data.factors.T, data.sizes, strict=True)]
        for z in latents
    ]
    found: NDArray[np.float64] = of_latents[:, None] + factor_entropies(data) - np.array(joint)
    found[found < ROUNDING] = 0.0
    return found

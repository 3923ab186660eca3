"""Kernel distance (KID): the squared maximum mean discrepancy under a cubic kernel, unbiased.

    k(a, b) = (a . b / dim + 1)^3
    MMD^2 = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)

Both sets are dealt into B disjoint blocks; the value is the mean of the blocks' MMD^2, each unbiased whatever its size
(so it may come out below 0 for equal distributions), and the standard error is their standard deviation / sqrt(B). It
counts the draw of both sets. Blocks take every B-th row: nothing is random, and data sorted by class are spread evenly.

Reference: Binkowski et al., Demystifying MMD GANs, 2018.
"""

import math

import torch
from torch import Tensor

from vaebm.errors import InputError
from vaebm.metrics.arrays import Rows, as_rows, blocks, same_dim
from vaebm.metrics.measurement import Measurement

MAX_BLOCK = 1000
MIN_BLOCKS = 10


def kernel_distance(generated: Rows, reference: Rows) -> Measurement:
    """Kernel distance of generated to reference features, (n, dim) and (m, dim), numpy or torch.

    Raises:
        InputError: fewer than 20 rows, dimensions that differ, or values that are not finite.
    """
    x, y = as_rows(generated, "generated"), as_rows(reference, "reference")
    fewest = min(len(x), len(y))
    same_dim(x, y)
    if fewest < 2 * MIN_BLOCKS:
        raise InputError(
            f"a kernel distance needs at least {2 * MIN_BLOCKS} samples on each side, not {fewest}: draw more"
        )
    blocks = max(MIN_BLOCKS, fewest // MAX_BLOCK)
    pairs = [(x[block::blocks], y[block::blocks]) for block in range(blocks)]
    values = torch.stack(
        [_mean_between_others(a) + _mean_between_others(b) - 2.0 * _sum(a, b) / (len(a) * len(b)) for a, b in pairs]
    )
    value, stderr = values.mean().item(), values.std().item() / math.sqrt(blocks)
    settings = {"dim": x.shape[1], "reference_n": len(y), "blocks": blocks, "stderr_over": "both sets, blocks"}
    return Measurement("kernel_distance", value, stderr, len(x), settings)


def _mean_between_others(x: Tensor) -> Tensor:
    own = (x.square().sum(1) / x.shape[1] + 1.0).pow(3).sum()
    return (_sum(x, x) - own) / (len(x) * (len(x) - 1))


def _sum(a: Tensor, b: Tensor) -> Tensor:
    """Of the kernel over all pairs, some rows at a time: a large reference need not fit into memory squared."""
    sums = [(part @ b.T / a.shape[1] + 1.0).pow(3).sum() for part in blocks(a, len(b))]
    return torch.stack(sums).sum()

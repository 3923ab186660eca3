r"""Memorisation: what fraction of samples repeats training data.

    q = share of samples whose nearest point, of N training and m held-out points, is a held-out one
    f = 1 - q (N + m) / m

To a model that has memorised nothing training and held-out data are alike, and q is m / (N + m), so f is 0, however
blurred or noisy the samples are: each point of both is compared with the same sample. A copy of a training point is
nearest to it, so f is 1 where all samples are copies, and where a fraction of them are and the others are not, f is
that fraction. Below 0 it is chance. A sample that is equally near to both counts for the training data.

The standard error is that over samples, with a jackknife over the held-out points, which are the fewer. A test of the
same question by distances to the training data: Meehan, Chaudhuri & Dasgupta, A non-parametric test to detect
data-copying in generative models, AISTATS 2020, https://arxiv.org/abs/2004.05675
"""

import math

import torch

from vaebm.errors import InputError
from vaebm.metrics.arrays import Array, as_rows, distances, nearest
from vaebm.metrics.measurement import Measurement


def memorised_fraction(samples: Array, train: Array, held_out: Array) -> Measurement:
    """f of samples (n, dim), training data (N, dim) and held-out data (m, dim); n, N >= 2 and m >= 3.

    Raises:
        InputError: fewer points than that, other dimensions, or values that are not finite.
    """
    rows, of_train = as_rows(samples, "samples"), as_rows(train, "train")
    of_held_out = as_rows(held_out, "held_out", at_least=3)
    if not rows.shape[1] == of_train.shape[1] == of_held_out.shape[1]:
        raise InputError(
            f"samples, train and held_out have {rows.shape[1]}, {of_train.shape[1]} and {of_held_out.shape[1]}"
            " dimensions: give the same of all three"
        )
    n, m, count = len(rows), len(of_held_out), len(of_train)
    to_train = nearest(rows, of_train)[0]
    found = [block.topk(2, dim=1, largest=False) for _, block in distances(rows, of_held_out)]
    first, second = torch.cat([part.values for part in found]).unbind(1)
    closest = torch.cat([part.indices for part in found])[:, 0]
    held = (first < to_train).double()
    fraction = 1.0 - float(held.mean()) * (count + m) / m
    over_samples = float(held.var()) / n * ((count + m) / m) ** 2
    # Without held-out point j, the second is the nearest of those samples to which j was.
    change = torch.zeros(m, dtype=torch.float64).index_add_(0, closest, (second < to_train).double() - held)
    without = 1.0 - (held.mean() + change / n) * (count + m - 1) / (m - 1)
    jackknife = float((m - 1) / m * (without - without.mean()).square().sum())
    settings = {"held_out_n": m, "train_n": count, "stderr_over": "samples, and held-out data by jackknife"}
    return Measurement("memorised_fraction", fraction, math.sqrt(over_samples + jackknife), n, settings)

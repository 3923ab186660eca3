"""Modes: which are hit, how cleanly, and in which shares, of a known mixture or of the classes of labelled images.

For modes c_1 ... c_K of a mixture of equal round Gaussians of deviation std, and samples x_1 ... x_n:

    modes_covered        the number of modes with at least one sample within 3 std of them
    within_three_sigma   the fraction of samples within 3 std of their nearest mode (in the plane, in truth, 1 - e^-4.5)
    mode_kl              sum_k p_k log(K p_k), in nats: p_k the fraction of samples nearest to mode k, against 1 / K

For classes, p_k being the fraction of class k of K among n samples by a classifier, and q_k that in the data by labels:

    class_gap       max_k |p_k - q_k|
    modes_covered   the number of classes with p_k > 0
    mode_kl         sum_k p_k log(p_k / q_k), in nats

The classifier's own mistakes are in all of them: those of held-out images, measured in the same way, are the floor.

Standard errors are over the draw of the samples, q held fixed. Of a fraction and of the gap: binomial, of the class
with the largest. Of the count: a class with c hits is missed by another draw with probability about e^-c, so sum_k e^-c
(1 - e^-c) is the variance (a class never hit adds none). Of the divergence: the delta method, var_p[log(p_k / q_k)] /
n; its value is biased upwards by (K - 1) / 2n, and at equal fractions the error is about sqrt(2) too large. The gap is
biased upwards as well, being the largest of K.

Reference: Metz et al., Unrolled generative adversarial networks, 2017, for count and divergence on StackedMNIST.
"""

import math

import torch
from torch import Tensor

from vaebm.errors import InputError
from vaebm.metrics.arrays import Array, Rows, as_classes, as_count, as_rows, nearest
from vaebm.metrics.measurement import Measurement


def class_gap(generated: Array, reference: Array, classes: int) -> Measurement:
    """The largest difference between class fractions of samples' classes (n,) int64 and of data's labels (m,)."""
    counts, q = _counts(generated, reference, classes)
    p = counts / len(generated)
    gap, largest = (p - q).abs().max(0)
    stderr = math.sqrt(float(p[largest] * (1.0 - p[largest])) / len(generated))
    settings = {"classes": classes, "reference_n": len(reference), "largest_of": int(largest)}
    return Measurement("class_gap", gap.item(), stderr, len(generated), settings)


def class_modes(generated: Array, reference: Array, classes: int) -> dict[str, Measurement]:
    """`modes_covered` and `mode_kl` of samples' classes (n,) int64 against data's labels (m,).

    Raises:
        InputError: the data lack a class, so that the divergence may be infinite.
    """
    counts, q = _counts(generated, reference, classes)
    if not q.all():
        raise InputError(
            f"{int((q == 0).sum())} of {classes} classes have no label in the data, from which no divergence is"
            " finite: take more data"
        )
    settings = {"classes": classes, "reference_n": len(reference)}
    return {
        name: Measurement(name, *found, len(generated), settings)
        for name, found in (("modes_covered", covered(counts)), ("mode_kl", divergence(counts, q)))
    }


def covered(counts: Tensor) -> tuple[float, float]:
    """Of hits (K,): how many classes have one, with its standard error."""
    missed = torch.exp(-counts) * (counts > 0)
    return float((counts > 0).sum()), float((missed * (1.0 - missed)).sum().sqrt())


def divergence(counts: Tensor, q: Tensor) -> tuple[float, float]:
    """Of hits (K,) against fractions q (K,), float64: the divergence in nats, with its standard error."""
    n = float(counts.sum())
    hit = counts > 0
    p = counts[hit] / n
    log_ratio = (p / q[hit]).log()
    mean = (p * log_ratio).sum()
    variance = (p * (log_ratio - mean).square()).sum() * n / (n - 1)
    return float(mean), math.sqrt(float(variance) / n)


def _counts(generated: Array, reference: Array, classes: int) -> tuple[Tensor, Tensor]:
    """Hits (K,) of the samples and fractions (K,) of the data, float64."""
    classes = as_count(classes, "classes")
    found, labels = as_classes(generated, classes, "generated"), as_classes(reference, classes, "reference")
    if len(found) < 2 or not len(labels):
        raise InputError(f"a histogram of {len(found)} samples against {len(labels)} labels: give at least 2")
    hits, of_data = (torch.bincount(which, minlength=classes).double() for which in (found, labels))
    return hits, of_data / len(labels)


def mode_measurements(generated: Rows, modes: Rows, std: float) -> dict[str, Measurement]:
    """All three, by name, of samples (n, dim) and modes (K, dim).

    Raises:
        InputError: shapes that do not belong together, values that are not finite, or no positive `std`.
    """
    samples, centres = as_rows(generated, "generated"), as_rows(modes, "modes", at_least=1)
    std = float(std)
    if not 0 < std < math.inf:
        raise InputError(f"std is {std:g}: give a positive number")
    if samples.shape[1] != centres.shape[1]:
        raise InputError(
            f"samples have {samples.shape[1]} dimensions and modes {centres.shape[1]}: give modes of the same data"
        )
    distance, mode = nearest(samples, centres)
    within, n, count = distance <= 3.0 * std, len(samples), len(centres)
    fraction = within.double().mean().item()
    hits, hits_within = (torch.bincount(found, minlength=count).double() for found in (mode, mode[within]))
    found = {
        "modes_covered": covered(hits_within),
        "within_three_sigma": (fraction, math.sqrt(fraction * (1.0 - fraction) / n)),
        "mode_kl": divergence(hits, torch.full_like(hits, 1.0 / count)),
    }
    return {name: Measurement(name, *value, n, {"modes": count, "std": std}) for name, value in found.items()}

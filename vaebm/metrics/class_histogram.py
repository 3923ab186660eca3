"""Class histogram: how often the classes occur among samples, by a classifier, and in the data, by their labels.

With p_k the fraction of class k of K among n samples, and q_k its fraction of the data:

    class_gap       max_k |p_k - q_k|
    modes_covered   the number of classes with p_k > 0
    mode_kl         sum_k p_k log(p_k / q_k), in nats

The classifier's own mistakes are in all of them: those of held-out images, measured in the same way, are the floor.

Standard errors are over the draw of the samples, q held fixed. Of the gap: binomial, of the class with the largest. Of
the count: a class with c hits is missed by another draw with probability about e^-c, so sum_k e^-c (1 - e^-c) is the
variance (a class never hit adds none). Of the divergence: the delta method, var_p[log(p_k / q_k)] / n; its value is
biased upwards by (K - 1) / 2n, and at equal fractions the error is about sqrt(2) too large. The gap is biased upwards
as well, being the largest of K.

Reference: Metz et al., Unrolled generative adversarial networks, 2017, for the last two on StackedMNIST.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vaebm.errors import InputError
from vaebm.metrics.arrays import Array, as_classes, as_count
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

"""Samples against known modes: which are hit, how cleanly, and in what proportions.

For modes c_1 ... c_K of a mixture of equal round Gaussians of deviation std, and samples x_1 ... x_n:

    modes_covered        the number of modes with at least one sample within 3 std of them
    within_three_sigma   the fraction of samples within 3 std of their nearest mode (in the plane, in truth, 1 - e^-4.5)
    mode_kl              sum_k p_k log(K p_k), in nats: p_k the fraction of samples nearest to mode k, against 1 / K

Standard errors are over the draw of the samples. Of the fraction: binomial; of the count and the divergence: those of
`metrics/class_histogram.py`, where the mode is the class.
"""

from __future__ import annotations

import math

import torch

from vaebm.errors import InputError
from vaebm.metrics.arrays import Rows, as_rows, nearest
from vaebm.metrics.class_histogram import covered, divergence
from vaebm.metrics.measurement import Measurement


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


def modes_covered(generated: Rows, modes: Rows, std: float) -> Measurement:
    """How many of the modes (K, dim) have at least one of the samples (n, dim) within 3 `std`."""
    return mode_measurements(generated, modes, std)["modes_covered"]


def within_three_sigma(generated: Rows, modes: Rows, std: float) -> Measurement:
    """The fraction of the samples (n, dim) within 3 `std` of their nearest mode (K, dim)."""
    return mode_measurements(generated, modes, std)["within_three_sigma"]


def mode_kl(generated: Rows, modes: Rows, std: float) -> Measurement:
    """KL divergence in nats from equal fractions of the modes (K, dim) to those of the samples (n, dim)."""
    return mode_measurements(generated, modes, std)["mode_kl"]

"""Samples against known modes: which are hit, how cleanly, and in what proportions.

For modes c_1 ... c_K of a mixture of equal round Gaussians of deviation std, and samples x_1 ... x_n:

    modes_covered        the number of modes with at least one sample within 3 std of them
    within_three_sigma   the share of samples within 3 std of their nearest mode (in the plane, in truth, 1 - e^-4.5)
    mode_kl              sum_k p_k log(K p_k), in nats: p_k the share of samples nearest to mode k, against 1 / K

Standard errors are over the draw of the samples. Of the share: binomial; of the count and the divergence: those of
`metrics/class_histogram.py`, where the mode is the class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vaebm.errors import InputError
from vaebm.metrics.class_histogram import covered, divergence
from vaebm.metrics.measurement import Measurement
from vaebm.metrics.moments import Features, as_rows


def modes_covered(generated: Features, modes: Features, std: float) -> Measurement:
    """How many of the modes (K, dim) have at least one of the samples (n, dim) within 3 `std`."""
    nearest = _Nearest.find(generated, modes)
    hits = torch.bincount(nearest.mode[nearest.distance <= 3.0 * std], minlength=nearest.count)
    return nearest.measurement("modes_covered", *covered(hits.double()), std)


def within_three_sigma(generated: Features, modes: Features, std: float) -> Measurement:
    """The share of the samples (n, dim) within 3 `std` of their nearest mode (K, dim)."""
    nearest = _Nearest.find(generated, modes)
    share = (nearest.distance <= 3.0 * std).double().mean().item()
    return nearest.measurement("within_three_sigma", share, math.sqrt(share * (1.0 - share) / len(nearest.mode)), std)


def mode_kl(generated: Features, modes: Features, std: float) -> Measurement:
    """KL divergence in nats from equal shares of the modes (K, dim) to those of the samples (n, dim)."""
    nearest = _Nearest.find(generated, modes)
    hits = torch.bincount(nearest.mode, minlength=nearest.count).double()
    return nearest.measurement("mode_kl", *divergence(hits, torch.full_like(hits, 1.0 / nearest.count)), std)


def mode_measurements(generated: Features, modes: Features, std: float) -> dict[str, Measurement]:
    """All three, by name."""
    return {
        measure.__name__: measure(generated, modes, std) for measure in (modes_covered, within_three_sigma, mode_kl)
    }


@dataclass(frozen=True, eq=False)
class _Nearest:
    """Of every sample: its nearest of `count` modes, and the distance to it; both (n,)."""

    mode: Tensor
    distance: Tensor
    count: int

    @classmethod
    def find(cls, generated: Features, modes: Features) -> _Nearest:
        samples, centres = as_rows(generated, "generated"), as_rows(modes, "modes")
        if samples.shape[1] != centres.shape[1]:
            raise InputError(
                f"samples have {samples.shape[1]} dimensions and modes {centres.shape[1]}: give modes of the same data"
            )
        distance, mode = torch.cdist(samples, centres).min(1)
        return cls(mode, distance, len(centres))

    def measurement(self, name: str, value: float, stderr: float, std: float) -> Measurement:
        return Measurement(name, value, stderr, len(self.mode), {"modes": self.count, "std": std})

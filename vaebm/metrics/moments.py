"""Mean and covariance of features, gathered chunk by chunk in float64.

    n = n_a + n_b,   delta = mean_b - mean_a
    mean    = mean_a + delta n_b / n
    scatter = scatter_a + scatter_b + delta delta^T n_a n_b / n,        covariance = scatter / (n - 1)

The scatter is about the mean throughout, so nothing cancels, and any way to cut the data gives the same result to
rounding. Reference: T. Chan, G. Golub, R. LeVeque, Updating formulae and a pairwise algorithm for computing sample
variances, 1979.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaebm.errors import InputError

Features = Tensor | NDArray[Any]  # (n, dim)


def as_rows(features: Features, name: str = "features") -> Tensor:
    """Feature rows (n, dim), numpy or torch, as float64 on the CPU.

    Raises:
        InputError: no (n, dim) array of at least two rows of finite numbers; `name` is how the message calls it.
    """
    rows = torch.as_tensor(np.asarray(features) if not isinstance(features, Tensor) else features.detach()).cpu()
    if rows.ndim != 2 or rows.shape[0] < 2 or rows.shape[1] < 1:
        raise InputError(f"{name} has shape {tuple(rows.shape)}: give (n, dim) with n at least 2")
    rows = rows.to(torch.float64)
    if not rows.isfinite().all():
        share = 1.0 - rows.isfinite().all(1).double().mean().item()
        raise InputError(
            f"{share:.2%} of the rows of {name} hold values that are not finite: look for the samples that caused them"
        )
    return rows


def same_dim(generated: Tensor, reference: Tensor) -> None:
    """Refuses rows, or means, whose last axes differ.

    Raises:
        InputError: the two are not of the same features.
    """
    if generated.shape[-1] != reference.shape[-1]:
        raise InputError(
            f"generated has {generated.shape[-1]} dimensions and reference {reference.shape[-1]}: "
            "give the same features of both"
        )


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean (dim,) and scatter (dim, dim) of what was seen."""

    count: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def empty(cls, dim: int) -> Moments:
        """Nothing seen yet."""
        return cls(0, torch.zeros(dim, dtype=torch.float64), torch.zeros(dim, dim, dtype=torch.float64))

    def update(self, chunk: Tensor) -> Moments:
        """With the rows of `chunk` (n, dim) added; n may be 0."""
        if len(chunk) == 0:
            return self
        rows = chunk.detach().cpu().to(torch.float64)
        mean = rows.mean(0)
        centred = rows - mean
        return self.merge(Moments(len(rows), mean, centred.T @ centred))

    def merge(self, other: Moments) -> Moments:
        """Of both together."""
        count = self.count + other.count
        if count == 0:
            return self
        delta = other.mean - self.mean
        return Moments(
            count,
            self.mean + delta * (other.count / count),
            self.scatter + other.scatter + torch.outer(delta, delta) * (self.count * other.count / count),
        )

    @property
    def covariance(self) -> Tensor:
        """(dim, dim), unbiased.

        Raises:
            InputError: fewer than two rows were seen.
        """
        if self.count < 2:
            raise InputError(f"a covariance needs at least 2 samples, not {self.count}: draw more")
        return self.scatter / (self.count - 1)

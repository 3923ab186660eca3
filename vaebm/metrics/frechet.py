r"""Frechet distance between two sets of features: of the Gaussians with their means and covariances.

    F = |m1 - m2|^2 + tr C1 + tr C2 - 2 tr (C1^1/2 C2 C1^1/2)^1/2

It is the squared 2-Wasserstein distance of these Gaussians. The trace of the root is the sum of the singular values of
C1^1/2 C2^1/2, roots taken from eigenvalues clamped at 0: always real, defined for singular covariances, 0 for equal
ones. All in float64.

Standard error, over the draw of the *generated* samples with the reference held fixed, by the delta method. F is
differentiable in (m1, C1), so to first order each sample x contributes its influence

    I(x) = 2 (m1 - m2) . d + d^T (1 - T) d - tr((1 - T) C1),      d = x - m1
    T = C1^-1/2 (C1^1/2 C2 C1^1/2)^1/2 C1^-1/2                    (the linear optimal transport map from 1 to 2)
    stderr = sqrt(var I / n)

with a pseudo-inverse where C1 is singular (no sample leaves its range). What it leaves out: F is biased upwards, the
more the smaller n is against dim^2, so distances compare only at equal n; below n = 2 dim a warning says so.

Means and covariances are gathered chunk by chunk, the scatter about the mean throughout, so that nothing cancels and
any way to cut the data gives the same to rounding (Chan, Golub & LeVeque, Updating formulae and a pairwise algorithm
for computing sample variances, 1979):

    n = n_a + n_b,   delta = mean_b - mean_a,   mean = mean_a + delta n_b / n
    scatter = scatter_a + scatter_b + delta delta^T n_a n_b / n,   covariance = scatter / (n - 1)

References: Dowson & Landau, The Frechet distance between multivariate normal distributions, 1982; Heusel et al., GANs
trained by a two time-scale update rule, 2017.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vaebm.errors import InputError
from vaebm.metrics.arrays import Rows, as_rows, same_dim
from vaebm.metrics.measurement import Measurement


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


def frechet_distance(generated: Rows, reference: Rows) -> Measurement:
    """Frechet distance of generated to reference features, (n, dim) and (m, dim), numpy or torch.

    Raises:
        InputError: shapes that do not belong together, or values that are not finite.
    """
    rows, reference_moments = as_rows(generated, "generated"), _moments(reference)
    same_dim(rows, reference_moments.mean)
    _warn_if_few(len(rows), rows.shape[1])
    moments = Moments.empty(rows.shape[1]).update(rows)
    return Measurement(
        "frechet_distance",
        frechet_from_moments(moments, reference_moments),
        _influence(rows, moments, reference_moments).std().item() / math.sqrt(len(rows)),
        len(rows),
        {
            "dim": rows.shape[1],
            "reference_n": reference_moments.count,
            "stderr_over": "generated samples, delta method",
        },
    )


def repeated_frechet(draws: Sequence[Rows], reference: Rows) -> Measurement:
    """Mean of the Frechet distances of several draws to one reference held fixed, with its standard error over draws.

    Args:
        draws: at least two arrays (n, dim) of equal n, each a draw of its own.
        reference: (m, dim).

    Returns:
        A measurement whose `n` is that of one draw; `settings` has the number of draws and their standard deviation.
    """
    if len(draws) < 2:
        raise InputError(f"a standard error over draws needs at least 2 of them, not {len(draws)}")
    reference_moments = _moments(reference)
    rows = [as_rows(draw, "generated") for draw in draws]
    for draw in rows:
        same_dim(draw, reference_moments.mean)
        if len(draw) != len(rows[0]):
            raise InputError(f"draws of {len(rows[0])} and {len(draw)} samples do not compare: give equal numbers")
    dim = rows[0].shape[1]
    _warn_if_few(len(rows[0]), dim)
    distances = torch.tensor(
        [frechet_from_moments(Moments.empty(dim).update(draw), reference_moments) for draw in rows], dtype=torch.float64
    )
    spread = distances.std().item()
    return Measurement(
        "frechet_distance",
        distances.mean().item(),
        spread / math.sqrt(len(draws)),
        len(rows[0]),
        {
            "dim": dim,
            "reference_n": reference_moments.count,
            "draws": len(draws),
            "spread": spread,
            "stderr_over": "draws",
        },
    )


def frechet_from_moments(generated: Moments, reference: Moments) -> float:
    """The distance itself, from means and covariances."""
    root, reference_root = _root(generated.covariance), _root(reference.covariance)
    trace = generated.covariance.trace() + reference.covariance.trace()
    overlap = torch.linalg.svdvals(root @ reference_root).sum()
    distance = (generated.mean - reference.mean).square().sum() + trace - 2.0 * overlap
    return max(0.0, float(distance))  # rounding alone can bring it below 0


def _influence(rows: Tensor, moments: Moments, reference: Moments) -> Tensor:
    """I(x) of every generated sample, (n,)."""
    eigenvalues, vectors = torch.linalg.eigh(moments.covariance)
    kept = eigenvalues > eigenvalues[-1] * 1e-10
    vectors, scales = vectors[:, kept], eigenvalues[kept].sqrt()
    root, inverse_root = vectors * scales, vectors / scales  # C1^1/2 and C1^-1/2 in the eigenbasis of C1
    transport = inverse_root @ _root(root.T @ reference.covariance @ root) @ inverse_root.T
    deviation = rows - moments.mean
    curvature = deviation.square().sum(1) - ((deviation @ transport) * deviation).sum(1)
    influence: Tensor = 2.0 * deviation @ (moments.mean - reference.mean) + curvature
    return influence


def _root(covariance: Tensor) -> Tensor:
    eigenvalues, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * eigenvalues.clamp(min=0.0).sqrt()) @ vectors.T
    return root


def _moments(features: Rows) -> Moments:
    rows = as_rows(features, "reference")
    return Moments.empty(rows.shape[1]).update(rows)


def _warn_if_few(n: int, dim: int) -> None:
    if n < 2 * dim:
        warnings.warn(
            f"a Frechet distance of {n} samples in {dim} dimensions is mostly bias: "
            f"draw at least {2 * dim}, or compare only at equal n",
            stacklevel=3,
        )

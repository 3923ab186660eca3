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

The influence of the reference is the same with 1 and 2 exchanged. Distances to one reference share it, so that their
difference is surer than either (`difference` in metrics/measurement.py).

References: Dowson & Landau, The Frechet distance between multivariate normal distributions, 1982; Heusel et al., GANs
trained by a two time-scale update rule, 2017.
"""

import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from vaebm.metrics.arrays import Rows, as_rows, same_dim
from vaebm.metrics.measurement import Measurement


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean (dim,) and unbiased covariance (dim, dim) of `count` feature rows, float64, to compare many sets with."""

    count: int
    mean: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, features: Rows, name: str = "features") -> "Moments":
        """Of rows (n, dim), numpy or torch. InputError: `name` has another shape, or values that are not finite."""
        rows = as_rows(features, name)
        mean = rows.mean(0)
        centred = rows - mean
        return cls(len(rows), mean, centred.T @ centred / (len(rows) - 1))


def frechet_distance(generated: Rows, reference: Rows | Moments) -> Measurement:
    """Frechet distance of generated to reference features, (n, dim) and (m, dim), numpy or torch.

    Of a reference given as rows the measurement keeps its influence, too.

    Raises:
        InputError: shapes that do not belong together, or values that are not finite.
    """
    rows = as_rows(generated, "generated")
    known = reference if isinstance(reference, Moments) else Moments.of(reference, "reference")
    same_dim(rows, known.mean)
    n, dim = rows.shape
    if n < 2 * dim:
        warnings.warn(
            f"a Frechet distance of {n} samples in {dim} dimensions is mostly bias: "
            f"draw at least {2 * dim}, or compare only at equal n",
            stacklevel=2,
        )
    moments = Moments.of(rows)
    stderr = _influence(rows, moments, known).std().item() / math.sqrt(n)
    settings = {"dim": dim, "reference_n": known.count, "stderr_over": "generated samples, delta method"}
    found = Measurement("frechet_distance", frechet_from_moments(moments, known), stderr, n, settings)
    if isinstance(reference, Moments):
        return found
    return found.sharing(_influence(as_rows(reference, "reference"), known, moments), stderr)


def frechet_from_moments(generated: Moments, reference: Moments) -> float:
    """The distance itself, from means and covariances."""
    root, reference_root = _root(generated.covariance), _root(reference.covariance)
    trace = generated.covariance.trace() + reference.covariance.trace()
    overlap = torch.linalg.svdvals(root @ reference_root).sum()
    distance = (generated.mean - reference.mean).square().sum() + trace - 2.0 * overlap
    return max(0.0, float(distance))  # rounding alone can bring it below 0


def _influence(rows: Tensor, moments: Moments, reference: Moments) -> Tensor:
    """I(x) of every row, (n,), of the set with `moments` on its distance to the `reference`."""
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

r"""Manifold: whether samples lie where real data do, and whether they reach all of it, by nearest neighbours.

Every point of a set is given the ball that reaches to its k-th nearest neighbour in the set, r_k; the balls together
stand for the set's support. With samples x_1 ... x_n and real data y_1 ... y_m:

    precision = 1/n sum_j 1[x_j in any ball of y]            k = 3       samples that could be real
    recall    = 1/m sum_i 1[y_i in any ball of x]            k = 3       real data that could be samples
    density   = 1/(k n) sum_j sum_i 1[x_j in ball of y_i]    k = 5       1 for samples of the data's distribution
    coverage  = 1/m sum_i 1[any x_j in ball of y_i]          k = 5       real data with samples nearby

Density and coverage take balls about real data alone, since a single stray sample has a ball that holds everything.
Density may exceed 1, where samples crowd into the middle of the data. Coverage at n = m expects 1 - 2^-k of the data's
own distribution. All four depend on n and m: compare at equal ones.

Standard errors are over the draw of one side with the other held fixed. Precision: binomial, over the samples. Recall:
binomial, over the real data. Density: the spread of the samples' counts / sqrt(n). Coverage: the jackknife over the
samples, exact in one pass, since without x_j coverage falls by the fraction of balls that hold no other; on average it
is never too small (Efron & Stein, 1981), and up to 1.7 times too large where nearly all is covered.

A ball is closed: the k-th neighbour, which lies on its surface, is in it.

References: Kynkaanniemi et al., Improved precision and recall metric for assessing generative models, 2019; Naeem et
al., Reliable fidelity and diversity metrics for generative models, 2020.
"""

import math
from typing import Any

import torch
from torch import Tensor

from vaebm.errors import InputError
from vaebm.metrics.arrays import Rows, as_count, as_rows, distances, same_dim
from vaebm.metrics.measurement import Measurement

PRECISION_NEIGHBOURS, DENSITY_NEIGHBOURS = 3, 5


class Manifold:
    """Feature rows (n, dim), numpy or torch, and their balls, found once however many sets are compared with them."""

    def __init__(self, features: Rows, name: str = "features") -> None:
        self.rows, self.name = as_rows(features, name), name
        self._nearest = self.rows.new_empty(len(self.rows), 0)  # distances, by the neighbour's number

    def __len__(self) -> int:
        return len(self.rows)

    def radii(self, neighbours: int) -> Tensor:
        """(n,): distances to the nearest neighbour of that number, others than the point itself."""
        neighbours = as_count(neighbours, "neighbours")
        if neighbours >= len(self):
            raise InputError(
                f"{self.name} has {len(self)} rows, and neighbour {neighbours} of each is needed: give more"
            )
        if neighbours > self._nearest.shape[1]:
            most, found = min(max(neighbours, DENSITY_NEIGHBOURS), len(self) - 1), []
            for rows, block in distances(self.rows, self.rows):
                block[torch.arange(len(block)), torch.arange(rows.start, rows.stop)] = math.inf  # the point itself
                found.append(block.topk(most, dim=1, largest=False).values)
            self._nearest = torch.cat(found)
        return self._nearest[:, neighbours - 1]


def precision_recall(
    generated: Rows | Manifold, reference: Rows | Manifold, neighbours: int = PRECISION_NEIGHBOURS
) -> dict[str, Measurement]:
    """`precision` and `recall` of generated against reference features, (n, dim) and (m, dim), numpy or torch.

    The standard error of precision is over generated samples, that of recall over reference samples.

    Raises:
        InputError: shapes that do not belong together, too few rows, or values that are not finite.
    """
    samples, real = _manifolds(generated, reference)
    radii, real_radii = samples.radii(neighbours), real.radii(neighbours)
    precise, recalled = [], torch.zeros(len(real), dtype=torch.bool)
    for rows, block in distances(samples.rows, real.rows):
        precise.append((block <= real_radii).any(1))
        recalled |= (block <= radii[rows, None]).any(0)
    found: dict[str, Measurement] = {}
    for name, hits, over in (("precision", torch.cat(precise), "generated"), ("recall", recalled, "reference")):
        fraction = hits.double().mean().item()
        stderr = math.sqrt(fraction * (1.0 - fraction) / len(hits))
        found[name] = Measurement(name, fraction, stderr, len(samples), _settings(samples, real, neighbours, over))
    return found


def density_coverage(
    generated: Rows | Manifold, reference: Rows | Manifold, neighbours: int = DENSITY_NEIGHBOURS
) -> dict[str, Measurement]:
    """`density` and `coverage` of generated against reference features, (n, dim) and (m, dim), numpy or torch.

    Both standard errors are over generated samples, the reference held fixed.

    Raises:
        InputError: shapes that do not belong together, too few rows, or values that are not finite.
    """
    samples, real = _manifolds(generated, reference)
    real_radii = real.radii(neighbours)
    held = torch.zeros(2, len(real), dtype=torch.float64)  # of each ball: samples, and the sum of their numbers
    counts = []
    for rows, block in distances(samples.rows, real.rows):
        inside = (block <= real_radii).double()
        counts.append(inside.sum(1))
        numbers = torch.arange(rows.start, rows.stop, dtype=torch.float64)
        held += torch.stack([torch.ones_like(numbers), numbers]) @ inside
    density, n = torch.cat(counts) / neighbours, len(samples)
    alone = torch.bincount(held[1, held[0] == 1].long(), minlength=n).double() / len(real)
    jackknife = math.sqrt((n - 1) / n * (alone - alone.mean()).square().sum().item())
    settings = _settings(samples, real, neighbours, "generated")
    return {
        "density": Measurement("density", density.mean().item(), density.std().item() / math.sqrt(n), n, settings),
        "coverage": Measurement("coverage", (held[0] > 0).double().mean().item(), jackknife, n, settings),
    }


def _manifolds(generated: Rows | Manifold, reference: Rows | Manifold) -> tuple[Manifold, Manifold]:
    samples = generated if isinstance(generated, Manifold) else Manifold(generated, "generated")
    real = reference if isinstance(reference, Manifold) else Manifold(reference, "reference")
    same_dim(samples.rows, real.rows)
    return samples, real


def _settings(samples: Manifold, real: Manifold, neighbours: int, over: str) -> dict[str, Any]:
    sizes = {"dim": samples.rows.shape[1], "reference_n": len(real), "neighbours": neighbours}
    return sizes | {"stderr_over": f"{over} samples"}

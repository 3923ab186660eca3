"""Codes and the factors that their data were made from: what every score of disentanglement looks at.

    codes      z (N, dim), such as posterior means
    factors    v (N, K), whole numbers: column k is which of its values factor k has

The standard error of a score is over rows: the standard deviation of the score over random halves of them. Drawn
without replacement, a half of N varies about the whole as the whole varies about the truth, var(1 / (N/2) - 1 / N) =
var / N. Unlike a bootstrap's, its rows are distinct, so that none is both trained and tested on, and nearest neighbours
are not copies. Reference: [Politis, Romano & Wolf, Subsampling](https://doi.org/10.1007/978-1-4612-1554-7), 1999.
"""

import statistics
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np
import torch
from numpy.typing import NDArray

from vaebm.errors import InputError
from vaebm.metrics.arrays import Array, Rows, as_count, as_rows, as_tensor
from vaebm.metrics.measurement import Measurement

MIN_ROWS = 100
MIN_PER_VALUE = 10  # rows of a factor's value: fewer may all fall into one half
DEAD = 1e-6  # of the largest standard deviation: a latent with less does not vary
TRAIN_FRACTION = 2 / 3  # of the rows, where something is fitted: 10,000 of 15,000 in Locatello et al. (2019)


@dataclass(frozen=True, eq=False)
class CodedFactors:
    """Codes (N, dim) and factors (N, K), whose values are numbered from 0; `sizes` (K,) says how many each has.

    `stds` (N, dim) are the standard deviations of q(z | x) where they are given.
    """

    codes: NDArray[np.float64]
    factors: NDArray[np.int64]
    sizes: tuple[int, ...]
    stds: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, codes: Rows, factors: Array, stds: Rows | None = None, fewest: int = 1) -> "CodedFactors":
        """Checked; `fewest` factors make a score.

        Warns of latents that do not vary.

        Raises:
            InputError: shapes that do not belong together, values that are not finite, factors that are missing,
                constant or no whole numbers, or too few rows.
        """
        z = as_rows(codes, "codes", MIN_ROWS).numpy()
        columns, sizes = _numbered(factors, len(z), fewest)
        if z.shape[1] < 2:
            raise InputError("codes have one latent, and scores compare latents: give codes with at least 2")
        spread = z.std(0)
        dead = np.flatnonzero(spread <= DEAD * spread.max()).tolist()
        if len(dead) == z.shape[1]:
            raise InputError("no latent varies, so there is nothing to score: look for posterior collapse")
        if dead:
            warnings.warn(f"latents {dead} do not vary: they are dead and say nothing of any factor", stacklevel=3)
        if stds is None:
            return cls(z, columns, sizes)
        deviations = as_rows(stds, "stds").numpy()
        if deviations.shape != z.shape or not (deviations > 0).all():
            raise InputError(
                f"stds {deviations.shape} for codes {z.shape}: give a positive one for each value of codes"
            )
        return cls(z, columns, sizes, deviations)

    def __len__(self) -> int:
        return len(self.codes)

    def rows(self, rows: NDArray[np.int64]) -> "CodedFactors":
        """Some of the rows, (n,)."""
        stds = None if self.stds is None else self.stds[rows]
        return CodedFactors(self.codes[rows], self.factors[rows], self.sizes, stds)

    def divided(self, first: int, generator: torch.Generator) -> tuple["CodedFactors", "CodedFactors"]:
        """Two parts at random, the first of that many rows."""
        order = torch.randperm(len(self), generator=generator).numpy()
        return self.rows(order[:first]), self.rows(order[first:])

    def train_and_test(self, generator: torch.Generator) -> tuple["CodedFactors", "CodedFactors"]:
        """Two parts at random, to fit on and to test on."""
        return self.divided(round(TRAIN_FRACTION * len(self)), generator)


def scored(
    score: Callable[[CodedFactors, torch.Generator], Mapping[str, float]],
    data: CodedFactors,
    resamples: SupportsIndex,
    seed: int,
    settings: Mapping[str, Any],
) -> dict[str, Measurement]:
    """What `score` gives, by name, with standard errors over `resamples` random halves."""
    halves, generator = as_count(resamples, "resamples", 2), torch.Generator().manual_seed(seed)
    values = score(data, generator)
    of_halves = [score(data.divided(len(data) // 2, generator)[0], generator) for _ in range(halves)]
    shared = {"seed": seed, "resamples": halves, "stderr_over": "random halves of the rows", **settings}
    return {
        name: Measurement(name, value, statistics.stdev(half[name] for half in of_halves), len(data), dict(shared))
        for name, value in values.items()
    }


def _numbered(factors: Array, n: int, fewest: int) -> tuple[NDArray[np.int64], tuple[int, ...]]:
    """Factors (n, K) as numbers from 0, and how many values each has."""
    given = as_tensor(factors, "factors")
    if given.ndim != 2 or given.shape[0] != n or given.shape[1] < fewest:
        raise InputError(
            f"factors have shape {tuple(given.shape)} for {n:,} codes: give (N, K), a row for each code, K at least"
            f" {fewest}"
        )
    if given.is_floating_point():
        raise InputError(f"factors are {given.dtype}: give whole numbers, which of its values each factor has")
    columns, sizes = [], []
    for k, column in enumerate(given.numpy().T):
        values, numbers, counts = np.unique(column, return_inverse=True, return_counts=True)
        if len(values) < 2:
            raise InputError(f"factor {k} is constant ({values[0]}): leave it out")
        if counts.min() < MIN_PER_VALUE:
            raise InputError(
                f"factor {k} has {counts.min()} rows of value {values[counts.argmin()]}: give at least"
                f" {MIN_PER_VALUE} of each value, so more codes or fewer values"
            )
        columns.append(numbers)
        sizes.append(len(values))
    return np.stack(columns, axis=1), tuple(sizes)

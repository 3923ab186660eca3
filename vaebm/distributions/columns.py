"""Columns of a table: how a row becomes a vector of numbers, and back.

    number      one value y = t(v), and where any are missing a second that is 1 there, with y = 0
    category    one value a category, 1 for the one that the row has and 0 elsewhere; missing is a category of its own

t brings a column to the scale of a standard normal. Its knots are the column's own quantiles: with F the fraction of
training values below v, half of those at v included,

    t(v_k) = Phi^{-1}(F(v_k)),     straight between knots in u = asinh((v - center) / scale), straight on beyond them

Knots are added where the line is farthest from the data until it lies within a standard error of every quantile, or
there are KNOTS; a gap wider than `GAP` of the range has one at either end. u is about v near the center and about
log |v| far out, so beyond the last knot a tail goes on as that of a log-normal law; t has an exact inverse. A column of
few different numbers, each often, is made of these alone (`edges`): a value is then a bin of y, whose edges are
Phi^{-1} of the fraction of values up to it, so that a standard normal gives every value as often as the data do. All of
it is saved with the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import ndtr, ndtri

from vaebm.distributions.gaussian import HALF_LOG_TWO_PI
from vaebm.errors import InputError
from vaebm.registry import Settings
from vaebm.wording import enumerated

Values = NDArray[Any]
"""One column as it was read: float64 with NaN where it is missing, or objects, text or None."""
Table = Mapping[str, Values]
"""Columns by name, equally long."""

MAX_LEVELS, LEAST_OFTEN = 256, 5
"""A column of at most so many numbers, each so often on average, is made of these alone."""
KNOTS, SURE, CLOSEST, GAP = 65, 1.0, 1e-9, 0.05
MAX_DECIMALS, DIGITS = 4, 7  # that are looked for; of a number with more that is made: models compute in float32
TAIL = 1.0  # standard scores before the last knot that decide how a column goes on beyond it


def _knots(u: NDArray[np.float64], scores: NDArray[np.float64], n: int) -> NDArray[np.intp]:
    """Which of the rising points (u, scores) of n values are the knots of a line through them."""
    upto = ndtr(scores)
    stderr = np.sqrt(upto * (1.0 - upto) / n) / np.exp(-0.5 * scores**2 - HALF_LOG_TWO_PI)
    wide = np.flatnonzero(np.diff(u) > GAP * (u[-1] - u[0]))
    places = sorted({0, len(u) - 1, *wide.tolist(), *(wide + 1).tolist()})
    while len(places) < KNOTS:
        error = np.abs(np.interp(u, u[places], scores[places]) - scores) / stderr
        for place in places:  # closer ones are no steps of a line
            error[np.abs(u - u[place]) < CLOSEST] = 0.0
        worst = int(error.argmax())
        if error[worst] < SURE:
            break
        places = sorted([*places, worst])
    return np.array(places)


class NumberColumn(Settings):
    """A column of numbers."""

    kind: Literal["number"] = Field("number", description="a column of numbers")
    name: str = Field(description="name of the column")
    decimals: int | None = Field(
        None, ge=0, description="decimal places that all of them are written with; None where they need too many"
    )
    missing: bool = Field(False, description="whether any are missing")
    center: float = Field(0.0, description="the median of the values")
    scale: float = Field(1.0, gt=0, description="half the distance of the quartiles")
    values: list[float] = Field(min_length=2, description="the knots, rising")
    scores: list[float] = Field(min_length=2, description="their standard scores, rising")
    edges: list[float] | None = Field(
        None, description="between neighbouring values, where the column is made of these alone"
    )

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return 1 + self.missing

    @classmethod
    def fit(cls, name: str, values: NDArray[np.float64], missing: bool) -> NumberColumn:
        """Of training values, finite, two different ones at least."""
        distinct, counts = np.unique(values, return_counts=True)
        low, center, high = np.quantile(values, [0.25, 0.5, 0.75])
        spread = (high - low) / 2 or float(values.std())
        about = {
            "name": name,
            "decimals": next((n for n in range(MAX_DECIMALS + 1) if (distinct == np.round(distinct, n)).all()), None),
            "missing": missing,
            "center": float(center),
            "scale": float(spread),
        }
        upto = counts.cumsum() / len(values)
        scores = ndtri(upto - counts / (2 * len(values)))
        if len(distinct) <= MAX_LEVELS and len(values) >= LEAST_OFTEN * len(distinct):
            edges = ndtri(upto[:-1]).tolist()
            return cls(**about, values=distinct.tolist(), scores=scores.tolist(), edges=edges)
        places = _knots(np.arcsinh((distinct - center) / spread), scores, len(values))
        return cls(**about, values=distinct[places].tolist(), scores=scores[places].tolist())

    def encode(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,), NaN where missing, to (n, width)."""
        gone = np.isnan(values)
        u, knots, scores = self._u(np.where(gone, self.center, values)), *self._line
        low, high = self._slopes
        y = np.interp(u, knots, scores)
        y += np.where(u < knots[0], (u - knots[0]) / low, 0.0) + np.where(u > knots[-1], (u - knots[-1]) / high, 0.0)
        return np.stack([np.where(gone, 0.0, y), gone][: self.width], axis=1)

    def decode(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, width) to (n,), NaN where missing; a column without negative numbers has none."""
        y = x[:, 0]
        if self.edges is not None:
            values = np.array(self.values)[np.searchsorted(self.edges, y)]
        else:
            u, scores = self._line
            low, high = self._slopes
            v = np.interp(y, scores, u)
            v += np.minimum(y - scores[0], 0.0) * low + np.maximum(y - scores[-1], 0.0) * high
            with np.errstate(over="ignore"):
                values = self.center + self.scale * np.sinh(v)
            if self.values[0] >= 0:
                values = np.where(values < 0, self.values[0], values)
            if self.decimals is None:
                values = np.array([float(f"{v:.{DIGITS}g}") for v in values.tolist()])
            else:
                values = np.round(values, self.decimals)
        return np.where(x[:, 1] > 0.5, np.nan, values) if self.missing else values

    def _u(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.arcsinh((values - self.center) / self.scale)

    @cached_property
    def _line(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return self._u(np.array(self.values)), np.array(self.scores)

    @cached_property
    def _slopes(self) -> tuple[float, float]:
        """du / dy beyond the first knot and beyond the last."""
        u, y = self._line
        first = min(int(np.searchsorted(y, y[0] + TAIL)), len(y) - 1)
        last = max(int(np.searchsorted(y, y[-1] - TAIL, "right")) - 1, 0)
        return (u[first] - u[0]) / (y[first] - y[0]), (u[-1] - u[last]) / (y[-1] - y[last])


class CategoryColumn(Settings):
    """A column of names without an order."""

    kind: Literal["category"] = Field("category", description="a column of names")
    name: str = Field(description="name of the column")
    categories: list[str] = Field(min_length=1, description="all that there are")
    missing: bool = Field(False, description="whether any are missing")

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return len(self.categories) + self.missing

    def encode(self, values: Values) -> NDArray[np.float64]:
        """(n,) objects, known names or None, to (n, width)."""
        places = {name: place for place, name in enumerate(self.categories)}
        chosen = np.array([places.get(value, self.width - 1) for value in values], int)
        vectors: NDArray[np.float64] = (chosen[:, None] == np.arange(self.width)).astype(np.float64)
        return vectors

    def decode(self, x: NDArray[np.float64]) -> Values:
        """(n, width) to (n,) objects: the name with the largest value, None where missing."""
        names: Values = np.array([*self.categories, None], object)[x.argmax(1)]
        return names


ColumnSettings = Annotated[NumberColumn | CategoryColumn, Field(discriminator="kind")]


@dataclass(frozen=True)
class Columns:
    """All columns of a table, in order."""

    columns: tuple[NumberColumn | CategoryColumn, ...]

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def width(self) -> int:
        """Numbers in the vector of a row."""
        return sum(column.width for column in self.columns)

    @property
    def places(self) -> list[slice]:
        """Where each column's numbers lie in the vector."""
        ends = np.cumsum([0, *(column.width for column in self.columns)]).tolist()
        return [slice(start, end) for start, end in pairwise(ends)]

    def encode(self, table: Table) -> tuple[NDArray[np.float32], dict[int, str]]:
        """Rows (n, width), and by number why a row cannot be one; such a row holds NaN.

        Raises:
            InputError: a column is not there.
        """
        if lacking := [name for name in self.names if name not in table]:
            raise InputError(f"there is no column {enumerated(lacking)}: give a table with all columns of the model")
        parts, bad = [], dict[int, str]()
        for column in self.columns:
            values, wrong = self._checked(column, table[column.name])
            encoded = column.encode(values)
            encoded[list(wrong)] = np.nan
            parts.append(encoded)
            bad |= {row: reason for row, reason in wrong.items() if row not in bad}
        with np.errstate(over="ignore"):
            return np.concatenate(parts, axis=1).astype(np.float32), bad

    def decode(self, x: NDArray[np.floating[Any]]) -> dict[str, Values]:
        """Rows (n, width) to columns by name: float64 with NaN, or objects with None, where a value is missing."""
        x = np.asarray(x, np.float64).reshape(len(x), self.width)
        return {
            column.name: column.decode(x[:, place]) for column, place in zip(self.columns, self.places, strict=True)
        }

    @staticmethod
    def _checked(column: NumberColumn | CategoryColumn, given: Values) -> tuple[Values, dict[int, str]]:
        """Values that `encode` takes, and by row what is wrong with a value."""
        wrong: dict[int, str] = {}
        if isinstance(column, NumberColumn):
            values, unread = as_numbers(given)
            wrong = {row: f"{column.name} is {given[row]!r}, no number" for row in unread}
            wrong |= {int(row): f"{column.name} is not finite" for row in np.flatnonzero(np.isinf(values))}
            values[list(wrong)] = column.center
            gone = np.isnan(values)
        else:
            values, known = as_names(given), set(column.categories)
            gone = np.array([value is None for value in values], bool)
            for row, value in enumerate(values):
                if value is not None and value not in known:
                    wrong[row] = f"{column.name} is {value!r}, which training did not have"
        if not column.missing:
            wrong |= {
                int(row): f"{column.name} is missing, as it never was in training" for row in np.flatnonzero(gone)
            }
        return values, wrong


def as_numbers(values: Values) -> tuple[NDArray[np.float64], list[int]]:
    """A column as float64 with NaN where it is missing, and the rows that hold no number."""
    if values.dtype.kind in "fiub":
        return values.astype(np.float64), []
    numbers, unread = np.full(len(values), np.nan), []
    for row, value in enumerate(values):
        if value is not None:
            try:
                numbers[row] = float(value)
            except ValueError:
                unread.append(row)
    return numbers, unread


def _name(value: float) -> str:
    return str(int(value)) if value == math.floor(value) else repr(value)


def as_names(values: Values) -> Values:
    """A column as objects, text or None: whole numbers without a point."""
    if values.dtype.kind == "b":
        return np.array([str(value) for value in values.tolist()], object)
    if values.dtype.kind in "fiu":
        return np.array([None if math.isnan(value) else _name(value) for value in values.tolist()], object)
    return values

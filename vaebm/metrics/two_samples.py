"""Two-sample tests of tables: could these rows and those be of one law? On plain arrays.

    a column of numbers       Kolmogorov-Smirnov: D = max |F(v) - G(v)| over values v that are not missing; where any
                              are missing, a test of their shares beside it, and the smaller p-value times two
    a column of categories    chi-square of the two rows of counts; V = half the sum of |differences of shares|
    correlations              the largest |difference| of rank correlations of two columns of numbers
    tails                     the largest |difference| of the quantiles `TAILS`, in standard scores of the reference
    classifier                AUROC of gradient-boosted trees that were trained to tell a half of one table from a half
                              of the other, on the other halves: 0.5 where nothing can be told (Lopez-Paz & Oquab,
                              Revisiting classifier two-sample tests, ICLR 2017, https://arxiv.org/abs/1610.06545)

A column passes where p is at least `LEVEL`. Of many columns of the true law, one in a hundred fails.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtri

from vaebm.metrics.measurement import Measurement

LEVEL = 0.01
TAILS = (0.01, 0.99)
FEWEST_TAIL = 200  # rows, below which a tail is a handful of them
TREES = 60
Column = NDArray[Any]
"""(n,) float64 with NaN where it is missing, or objects, text or None."""


class ColumnTest(NamedTuple):
    """Of one column."""

    name: str
    distance: float  # D or V, from 0 to 1
    p_value: float

    @property
    def passes(self) -> bool:
        return self.p_value >= LEVEL


def column_tests(table: Mapping[str, Column], reference: Mapping[str, Column]) -> list[ColumnTest]:
    """Of each column of two tables, the least likely to be of one law first."""
    found = [_column_test(name, table[name], reference[name]) for name in reference]
    return sorted(found, key=lambda test: (test.p_value, -test.distance))


def correlation_gap(table: Mapping[str, Column], reference: Mapping[str, Column]) -> float | None:
    """None with fewer than two columns of numbers."""
    names = [name for name, values in reference.items() if values.dtype.kind == "f"]
    if len(names) < 2:
        return None
    first, second = (rank_correlations({name: rows[name] for name in names}) for rows in (table, reference))
    return float(np.nanmax(np.abs(first - second)))


def rank_correlations(table: Mapping[str, Column]) -> NDArray[np.float64]:
    """Spearman's, (k, k), of columns of numbers, over the rows where both are there; NaN where one does not vary."""
    columns = list(table.values())
    if not any(np.isnan(column).any() for column in columns):
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.corrcoef([stats.rankdata(column) for column in columns])
    result = np.eye(len(columns))
    for i, first in enumerate(columns):
        for j, second in enumerate(columns[:i]):
            there = ~(np.isnan(first) | np.isnan(second))
            a, b = stats.rankdata(first[there]), stats.rankdata(second[there])
            varies = len(a) > 1 and a.std() > 0 and b.std() > 0
            result[i, j] = result[j, i] = np.corrcoef(a, b)[0, 1] if varies else np.nan
    return result


def tail_gaps(table: Mapping[str, Column], reference: Mapping[str, Column]) -> dict[str, float]:
    """Of each column of numbers with enough rows."""
    found = {}
    for name, values in reference.items():
        if values.dtype.kind != "f":
            continue
        theirs, ours = (np.sort(rows[~np.isnan(rows)]) for rows in (values, table[name]))
        if min(len(theirs), len(ours)) >= FEWEST_TAIL:
            quantiles = np.quantile(ours, TAILS)
            found[name] = max(_score_gap(theirs, q, p) for q, p in zip(quantiles, TAILS, strict=True))
    return found


def classifier_auroc(rows: NDArray[np.floating[Any]], reference: NDArray[np.floating[Any]], seed: int) -> Measurement:
    """Of encoded rows (n, width) against others (m, width); the error is over the rows that are told apart."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    x = np.concatenate([reference, rows])
    label = np.repeat([0, 1], [len(reference), len(rows)])
    trees = HistGradientBoostingClassifier(max_iter=TREES, early_stopping=False, random_state=seed)
    halves = StratifiedKFold(2, shuffle=True, random_state=seed)
    told = cross_val_predict(trees, x, label, cv=halves, method="predict_proba")[:, 1]
    ranks = stats.rankdata(told)
    n, m = len(rows), len(reference)
    area = (ranks[label == 1].sum() - n * (n + 1) / 2) / (n * m)
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)  # Hanley & McNeil, Radiology 1982
    variance = (area * (1 - area) + (n - 1) * (q1 - area**2) + (m - 1) * (q2 - area**2)) / (n * m)
    return Measurement("two_sample_auroc", area, float(np.sqrt(max(variance, 0.0))), n, {"trees": TREES})


def _column_test(name: str, values: Column, reference: Column) -> ColumnTest:
    if reference.dtype.kind != "f":
        return ColumnTest(name, *_of_counts(values, reference))
    ours, theirs = values[~np.isnan(values)], reference[~np.isnan(reference)]
    if not len(ours) or not len(theirs):
        return ColumnTest(name, 1.0, 0.0)
    distance, p_value = stats.ks_2samp(ours, theirs)
    if len(ours) < len(values) or len(theirs) < len(reference):
        apart, p_missing = _of_counts(np.isnan(values).astype(object), np.isnan(reference).astype(object))
        distance, p_value = max(distance, apart), min(1.0, 2 * min(p_value, p_missing))
    return ColumnTest(name, float(distance), float(p_value))


def _of_counts(values: Column, reference: Column) -> tuple[float, float]:
    """V, and the p-value of chi-square."""
    names = sorted({*values.tolist(), *reference.tolist()}, key=str)
    counts = np.array([[int((rows == name).sum()) for name in names] for rows in (values, reference)])
    shares = counts / counts.sum(1, keepdims=True)
    apart = float(np.abs(shares[0] - shares[1]).sum() / 2)
    return apart, 1.0 if len(names) < 2 else float(stats.chi2_contingency(counts, correction=False).pvalue)


def _score_gap(ordered: NDArray[np.float64], value: float, p: float) -> float:
    """How far the standard score of a value among ordered ones is from that of p; a value that repeats has a range."""
    n = len(ordered)
    ends = np.array([np.searchsorted(ordered, value), np.searchsorted(ordered, value, "right")])
    low, high = ndtri(np.clip(ends / n, 0.5 / n, 1 - 0.5 / n))
    return float(max(low - ndtri(p), ndtri(p) - high, 0.0))

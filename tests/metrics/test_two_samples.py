"""Two-sample tests of tables: they pass rows of one law, and find what differs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vaebm.metrics.two_samples import classifier_auroc, column_tests, correlation_gap, tail_gaps

N = 2000


def table(seed: int, **changed: Any) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(N)
    columns = {
        "x": x,
        "y": x + 0.5 * rng.standard_normal(N),
        "gaps": np.where(rng.random(N) < 0.2, np.nan, rng.poisson(2.0, N).astype(float)),
        "names": np.array([None, "a", "b"], object)[rng.choice(3, N, p=[0.1, 0.6, 0.3])],
    }
    return columns | changed


def test_rows_of_one_law_pass() -> None:
    passed = [test.passes for seed in range(20) for test in column_tests(table(seed), table(100 + seed))]
    assert np.mean(passed) > 0.95
    assert correlation_gap(table(0), table(1)) < 0.1
    assert set(tail_gaps(table(0), table(1))) == {"x", "y", "gaps"}
    assert max(tail_gaps(table(0), table(1)).values()) < 0.5


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("x", np.random.default_rng(5).standard_normal(N) + 0.3),
        ("gaps", np.random.default_rng(5).poisson(2.0, N).astype(float)),  # none missing
        ("gaps", np.full(N, np.nan)),
        ("names", np.full(N, "a", object)),
        ("names", np.full(N, "new", object)),
    ],
)
def test_a_column_that_differs_is_found_and_is_the_first(name: str, values: np.ndarray) -> None:
    worst, *others = column_tests(table(0, **{name: values}), table(1))
    assert worst.name == name
    assert not worst.passes
    assert worst.distance > 0.1
    assert all(test.passes for test in others)


def test_a_lost_correlation_and_a_short_tail_are_measured() -> None:
    alone = np.random.default_rng(7).standard_normal(N)
    assert correlation_gap(table(0, y=alone), table(1)) > 0.8
    assert tail_gaps(table(0, x=alone.clip(-1, 1)), table(1))["x"] > 1.0
    assert correlation_gap({"n": table(0)["names"]}, {"n": table(1)["names"]}) is None


def test_trees_tell_apart_what_differs_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    same, other = rng.standard_normal((2, 600, 3))
    assert abs(classifier_auroc(same, other, 0).value - 0.5) < 4 * classifier_auroc(same, other, 0).stderr
    dependent = other.copy()
    dependent[:, 1] = dependent[:, 0]  # the same columns, each by itself
    assert classifier_auroc(dependent, same, 0).value > 0.9

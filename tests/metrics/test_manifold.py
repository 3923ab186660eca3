"""Precision, recall, density and coverage: against loops over the definition, and where the answer is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from vaebm.errors import InputError
from vaebm.metrics import Manifold, Measurement, arrays, density_coverage, precision_recall

Measure = Callable[..., dict[str, Measurement]]


def normal(n: int, dim: int, seed: int) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def all_four(generated: Tensor, reference: Tensor) -> dict[str, Measurement]:
    return precision_recall(generated, reference) | density_coverage(generated, reference)


def radius(points: Tensor, i: int, neighbours: int) -> float:
    return sorted(math.dist(points[i], points[j]) for j in range(len(points)) if j != i)[neighbours - 1]


def by_the_definition(x: Tensor, y: Tensor) -> dict[str, float]:
    """With loops; x are samples, y real data."""
    n, m = len(x), len(y)
    three, five, of_x = ([radius(points, i, k) for i in range(len(points))] for points, k in ((y, 3), (y, 5), (x, 3)))
    between = [[math.dist(x[j], y[i]) for i in range(m)] for j in range(n)]
    return {
        "precision": sum(any(between[j][i] <= three[i] for i in range(m)) for j in range(n)) / n,
        "recall": sum(any(between[j][i] <= of_x[j] for j in range(n)) for i in range(m)) / m,
        "density": sum(between[j][i] <= five[i] for j in range(n) for i in range(m)) / (5 * n),
        "coverage": sum(any(between[j][i] <= five[i] for j in range(n)) for i in range(m)) / m,
    }


@pytest.mark.parametrize("pairs_at_once", [1, 100, 1 << 23])
@pytest.mark.parametrize(("n", "m", "dim"), [(12, 17, 2), (30, 20, 3), (6, 40, 1)])
def test_they_agree_with_loops_whatever_the_blocks(
    pairs_at_once: int, n: int, m: int, dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "PAIRS_AT_ONCE", pairs_at_once)
    x, y = 1.3 * normal(n, dim, 0) + 0.7, normal(m, dim, 1)
    measured = all_four(x, y)
    assert {name: m.value for name, m in measured.items()} == pytest.approx(by_the_definition(x, y), abs=1e-12)
    assert {measured.n for measured in measured.values()} == {n}
    assert {measured.settings["reference_n"] for measured in measured.values()} == {m}
    assert {name: m.settings["neighbours"] for name, m in measured.items()} == {
        "precision": 3, "recall": 3, "density": 5, "coverage": 5
    }  # fmt: skip


@pytest.mark.parametrize("far", [0.0, 1e4])
def test_equal_sets(far: float) -> None:
    x = normal(200, 8, 0) + far  # far from the origin, where squares would cancel
    measured = all_four(x, x.clone())
    assert [measured[name].value for name in ("precision", "recall", "coverage")] == [1.0, 1.0, 1.0]
    assert measured["density"].value == pytest.approx(6 / 5)  # the five neighbours, and the point itself


def test_a_set_of_copies_is_within_its_own_balls() -> None:
    x = normal(5, 3, 0).repeat(8, 1) + 1e3
    assert {m.value for m in precision_recall(x, x.clone()).values()} == {1.0}


def test_sets_far_apart() -> None:
    assert {m.value for m in all_four(normal(50, 4, 0), normal(60, 4, 1) + 100).values()} == {0.0}


def test_equal_distributions() -> None:
    measured = all_four(normal(2000, 2, 0), normal(2000, 2, 1))
    assert measured["precision"].value > 0.97
    assert measured["recall"].value > 0.97
    assert measured["density"].value == pytest.approx(1.0, abs=0.05)
    assert measured["coverage"].value == pytest.approx(1 - 2**-5, abs=0.015)


def modes(n: int, seed: int, count: int = 4) -> Tensor:
    """Of a mixture of four far modes, the first `count` of them."""
    return normal(n, 2, seed) + 100.0 * torch.arange(n)[:, None].remainder(count)


def test_dropped_modes_lower_recall_and_coverage_alone() -> None:
    whole, half = all_four(modes(800, 0), modes(800, 1)), all_four(modes(800, 0, count=2), modes(800, 1))
    assert half["precision"].value > 0.95
    assert half["density"].value == pytest.approx(1.0, abs=0.1)
    for name in ("recall", "coverage"):
        assert half[name].value == pytest.approx(whole[name].value / 2, abs=0.02)


def test_junk_lowers_precision_and_density_alone() -> None:
    real, samples = modes(800, 0), modes(800, 1)
    samples[:200] = normal(200, 2, 2) - 1000.0
    measured, clean = all_four(samples, real), all_four(modes(800, 1), real)
    for name in ("precision", "density"):
        assert measured[name].value == pytest.approx(0.75 * clean[name].value, abs=0.06)
    for name in ("recall", "coverage"):
        assert measured[name].value > 0.9 * clean[name].value


def test_two_outliers_among_the_samples_give_recall_away_but_not_coverage() -> None:
    samples, real = normal(300, 2, 0) * 0.01, normal(300, 2, 1)
    samples[0], samples[1] = 50.0, -50.0
    measured = all_four(samples, real)
    assert measured["recall"].value > 0.95  # their balls hold everything: why coverage is there
    assert measured["coverage"].value < 0.1


def test_the_first_argument_is_the_generated_one() -> None:
    few, many = modes(400, 0, count=2), modes(400, 1)
    assert precision_recall(few, many)["precision"].value > 0.9 > 0.6 > precision_recall(few, many)["recall"].value
    assert precision_recall(many, few)["recall"].value > 0.9 > 0.6 > precision_recall(many, few)["precision"].value
    assert density_coverage(few, many)["coverage"].value < 0.6 < density_coverage(many, few)["coverage"].value


@pytest.mark.parametrize(
    ("measure", "name", "fixed"),
    [
        (precision_recall, "precision", "reference"),
        (precision_recall, "recall", "generated"),
        (density_coverage, "density", "reference"),
        (density_coverage, "coverage", "reference"),
    ],
)
def test_standard_errors_are_calibrated_over_the_draw_that_they_name(measure: Measure, name: str, fixed: str) -> None:
    held = normal(80, 2, 0)
    draws = [
        measure(*((1.4 * normal(80, 2, seed), held) if fixed == "reference" else (held, 1.4 * normal(80, 2, seed))))
        for seed in range(1, 301)
    ]
    values = torch.tensor([draw[name].value for draw in draws])
    claimed = torch.tensor([draw[name].stderr ** 2 for draw in draws]).mean().sqrt()
    if fixed == "reference":
        assert draws[0][name].settings["stderr_over"] == "generated samples"
    # The jackknife is too large where nearly all is covered, and on average never too small (Efron & Stein 1981).
    assert 0.8 < claimed / values.std() < (1.8 if name == "coverage" else 1.3)


def test_the_error_of_coverage_is_the_jackknife() -> None:
    x, y = normal(20, 2, 0), normal(30, 2, 1)
    without = [density_coverage(torch.cat([x[:j], x[j + 1 :]]), y)["coverage"].value for j in range(len(x))]
    values = torch.tensor(without, dtype=torch.float64)
    jackknife = (19 / 20 * (values - values.mean()).square().sum()).sqrt().item()
    assert density_coverage(x, y)["coverage"].stderr == pytest.approx(jackknife, rel=1e-10)


def test_numpy_torch_and_manifolds_give_the_same() -> None:
    x, y = normal(30, 3, 0).float(), normal(40, 3, 1).float()
    kept = Manifold(y, "reference")
    for measure in (precision_recall, density_coverage):
        measured = measure(x, y)
        assert measure(x.numpy(), np.asarray(y)) == measured
        assert measure(x, kept) == measured
        assert measure(Manifold(x), kept) == measured


@pytest.mark.parametrize("neighbours", [1, 4, 9])
def test_balls_to_any_neighbour(neighbours: int) -> None:
    x, y = normal(30, 2, 0), normal(30, 2, 1)
    kept = Manifold(y)
    kept.radii(1)
    radii = [radius(y, i, neighbours) for i in range(30)]
    precise = sum(any(math.dist(x[j], y[i]) <= radii[i] for i in range(30)) for j in range(30)) / 30
    measured = precision_recall(x, kept, neighbours)["precision"]
    assert (measured.value, measured.settings["neighbours"]) == (pytest.approx(precise), neighbours)


def test_wrong_features_are_refused() -> None:
    with pytest.raises(InputError, match="the same features"):
        precision_recall(normal(30, 2, 0), normal(30, 3, 1))
    with pytest.raises(InputError, match="generated has 3 rows, and neighbour 3 of each is needed: give more"):
        precision_recall(normal(3, 2, 0), normal(30, 2, 1))
    with pytest.raises(InputError, match="reference has 5 rows, and neighbour 5"):
        density_coverage(normal(3, 2, 0), normal(5, 2, 1))
    with pytest.raises(InputError, match="not finite"):
        density_coverage(torch.full((9, 2), math.nan), normal(9, 2, 1))

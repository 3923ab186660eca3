"""Scores agree with the published formulas, written again in the plainest way, on codes that are half mixed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import entropy, norm
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_selection import mutual_info_classif
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, mutual_info_score

from vaebm import metrics
from vaebm.metrics.disentanglement.coded_factors import CodedFactors
from vaebm.metrics.disentanglement.dci import importances_and_accuracy
from vaebm.metrics.disentanglement.factor_vae import factor_vae_score
from vaebm.metrics.disentanglement.mig import sampled_information
from vaebm.metrics.disentanglement.sap import accuracies

DRAW = np.random.default_rng(0)
N, SIZES = 1500, (2, 3, 5)
FACTORS = np.stack([DRAW.integers(0, size, N) for size in SIZES], axis=1)
CODES = np.stack(
    [
        FACTORS[:, 0] + 0.3 * DRAW.normal(size=N),
        FACTORS[:, 1] + 0.4 * FACTORS[:, 2] + 0.2 * DRAW.normal(size=N),
        -0.5 * FACTORS[:, 2] + 0.5 * DRAW.normal(size=N),
        DRAW.normal(size=N),
    ],
    axis=1,
)
UNCERTAINTY = np.array([entropy(np.bincount(column)) for column in FACTORS.T])


def agrees(found: float, expected: float) -> None:
    assert found == pytest.approx(expected, abs=1e-3)


def top_two(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """The difference of the two largest in each column."""
    return np.sort(table, axis=0)[-1] - np.sort(table, axis=0)[-2]


def test_mig_of_means() -> None:
    information = np.zeros((4, 3))
    for j in range(4):
        edges = np.linspace(CODES[:, j].min(), CODES[:, j].max(), 21)
        bins = np.clip(np.searchsorted(edges, CODES[:, j], side="right"), 1, 20)
        for k in range(3):
            information[j, k] = mutual_info_score(bins, FACTORS[:, k])
    agrees(metrics.mig(CODES, FACTORS).value, float((top_two(information) / UNCERTAINTY).mean()))


def test_information_of_samples() -> None:
    """Chen et al.: H(z) - H(z | v), of the same mixture, each entropy by quadrature instead of draws."""
    codes, factors, std = CODES[:300, :2], FACTORS[:300, :2], 0.4
    z = np.linspace(-4, 8, 3001)

    def entropy_of(rows: NDArray[np.float64]) -> float:
        q = norm.pdf(z[:, None], rows, std).mean(1)
        return float(-np.trapezoid(q * np.log(q + 1e-300), z))

    data = CodedFactors.of(codes, factors, np.full_like(codes, std))
    found = sampled_information(data, 20_000, torch.Generator().manual_seed(0))
    for j in range(2):
        for k in range(2):
            column = factors[:, k]
            conditional = sum((column == v).mean() * entropy_of(codes[column == v, j]) for v in range(SIZES[k]))
            assert found[j, k] == pytest.approx(entropy_of(codes[:, j]) - conditional, abs=0.02)


def test_dci() -> None:
    """Gains order latents as permutations do, which know nothing of trees; scores follow from the importances."""
    data = CodedFactors.of(CODES, FACTORS)
    train, test = data.train_and_test(torch.Generator().manual_seed(0))
    importances, accuracy = importances_and_accuracy(train, test)
    for k in range(3):
        trees = HistGradientBoostingClassifier(max_depth=3, early_stopping=False)
        trees.fit(train.codes, train.factors[:, k])
        agrees(accuracy[k], float((trees.predict(test.codes) == test.factors[:, k]).mean()))
        permuted = permutation_importance(trees, test.codes, test.factors[:, k], n_repeats=2, random_state=0)
        told = permuted.importances_mean > 0.1  # the latents that matter, by another measure
        assert set(importances[:, k].argsort()[-told.sum() :]) == set(np.flatnonzero(told))
    assert importances.sum(0) == pytest.approx(np.ones(3))
    rows = importances / importances.sum(1, keepdims=True)
    disentangled = [1 - entropy(row, base=3) for row in rows]
    complete = [1 - entropy(column, base=4) for column in importances.T]
    found = metrics.dci(CODES, FACTORS, resamples=2)
    agrees(found["dci_disentanglement"].value, float(np.average(disentangled, weights=importances.sum(1))))
    agrees(found["dci_completeness"].value, float(np.mean(complete)))
    agrees(found["dci_informativeness"].value, float(accuracy.mean()))


def test_a_factor_that_no_tree_splits_is_in_all_latents_alike() -> None:
    few = CodedFactors.of(CODES[:100], np.arange(100)[:, None] % [2, 3], fewest=2)
    train, test = few.divided(30, torch.Generator().manual_seed(0))  # a leaf of theirs has at least 20 rows
    importances, _ = importances_and_accuracy(train, test)
    np.testing.assert_allclose(importances, 1 / CODES.shape[1])


def test_sap() -> None:
    """Of two values: the threshold that minimises the balanced squared hinge loss with penalty, on a fine grid."""
    data = CodedFactors.of(CODES, FACTORS)
    train, test = data.train_and_test(torch.Generator().manual_seed(0))
    found = accuracies(train, test)
    agrees(metrics.sap(CODES, FACTORS, resamples=2).value, float(top_two(found).mean()))
    z, sign = train.codes[:, 0], 2.0 * train.factors[:, 0] - 1
    weight = np.where(sign > 0, len(z) / (2 * (sign > 0).sum()), len(z) / (2 * (sign < 0).sum()))
    best, at = math.inf, (0.0, 0.0)
    for slope in np.linspace(0, 4, 81):
        for offset in np.linspace(-3, 3, 121):  # which is penalised like a weight
            hinge = np.maximum(0, 1 - sign * (slope * z + offset)) ** 2
            loss = 0.5 * (slope**2 + offset**2) + 0.01 * (weight * hinge).sum()
            best, at = min((best, at), (loss, (slope, offset)))
    predicted = at[0] * test.codes[:, 0] + at[1] > 0
    assert found[0, 0] == pytest.approx((predicted == test.factors[:, 0]).mean(), abs=0.01)


def test_factor_vae_score() -> None:
    """One vote at a time; both are of so many votes that chance leaves little."""
    draw, spread = np.random.default_rng(5), CODES.var(0)
    votes = np.zeros((4, 3))
    for _ in range(6000):
        k = draw.integers(3)
        rows = np.flatnonzero(FACTORS[:, k] == draw.integers(SIZES[k]))
        votes[(CODES[draw.choice(rows, 64)].var(0) / spread).argmin(), k] += 1
    expected = votes.max(1).sum() / votes.sum()
    found = factor_vae_score(CODES, FACTORS, resamples=2)
    assert found.value == pytest.approx(expected, abs=5 * math.sqrt(0.25 / 5000 + 0.25 / 6000))


def test_infomec() -> None:
    found = metrics.infomec(CODES, FACTORS, resamples=2)
    seed = int(torch.randint(2**31 - 1, (), generator=torch.Generator().manual_seed(0)))
    table = np.stack([mutual_info_classif(CODES, v, random_state=seed) for v in FACTORS.T]) / UNCERTAINTY[:, None]
    modular = (np.mean(table.max(0) / table.sum(0)) - 1 / 3) / (1 - 1 / 3)
    compact = (np.mean(table.max(1) / table.sum(1)) - 1 / 4) / (1 - 1 / 4)
    agrees(found["infomec_modularity"].value, float(modular))
    agrees(found["infomec_compactness"].value, float(compact))
    told = []
    for k in range(3):
        z = (CODES - CODES.mean(0)) / CODES.std(0)
        model = LogisticRegression(C=1e12, max_iter=2000).fit(z, FACTORS[:, k])
        told.append(1 - log_loss(FACTORS[:, k], model.predict_proba(z)) / UNCERTAINTY[k])
    agrees(found["infomec_explicitness"].value, float(np.mean(told)))

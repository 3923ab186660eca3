"""The detector has PyOD's manner: fit, decision_function, predict, predict_proba; 1 is an outlier."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score

import vaebm
from vaebm.errors import InputError

SHORT = (
    *("threads=1", "vae_stage.iterations=150", "energy_stage.phases.ratio.iterations=5", "code_mixture.components=2"),
    *("energy.image.hidden=[16]", "vae.hidden=[32]", "vae.latent_dim=2"),
)


def points(n: int, seed: int) -> np.ndarray:
    """On a line in three dimensions, in units of a thousand and a thousandth."""
    generator = np.random.default_rng(seed)
    line = generator.normal(size=(n, 1)) @ np.array([[1.0, -1.0, 2.0]]) + 0.1 * generator.normal(size=(n, 3))
    return line * np.array([1000.0, 0.001, 1.0]) + 5.0


def test_points_are_scored_in_the_manner_of_pyod() -> None:
    detector = clone(vaebm.Detector(contamination=0.05, overrides=SHORT, device="cpu"))
    X = points(300, 0)
    assert detector.fit(X, None) is detector
    assert detector.decision_scores_.shape == detector.labels_.shape == (300,)
    assert detector.labels_.sum() == 15
    assert np.array_equal(detector.decision_function(X), detector.decision_scores_)
    new = np.concatenate([points(100, 1), np.random.default_rng(2).normal(size=(100, 3)) * [3000, 0.003, 6] + 5.0])
    truth, score = np.repeat([0, 1], 100), detector.decision_function(new)
    assert roc_auc_score(truth, score) > 0.8
    assert np.array_equal(detector.predict(new), (score > detector.threshold_).astype(int))
    proba = detector.predict_proba(new)
    assert np.allclose(proba.sum(1), 1.0)
    assert np.all(np.diff(proba[np.argsort(score), 1]) >= 0)
    order = np.random.default_rng(3).permutation(200)
    assert np.array_equal(detector.decision_function(new[order]), score[order])


def test_images_are_scored_in_the_range_that_they_were_trained_in() -> None:
    images = load_digits().images[:240] / 8.0 - 1.0
    short = (
        *("threads=1", "vae={kind: mlp, latent_dim: 2, hidden: [16], likelihood: {kind: censored}}"),
        *("vae_stage.iterations=10", "energy.image={kind: residual, stem: 4, widths: [4], halve: [0]}"),
        *(
            "energy_stage.phases={ratio: {kind: density_ratio, iterations: 2}, rounds: null}",
            "code_mixture.components=2",
        ),
    )
    detector = vaebm.Detector(overrides=short, device="cpu").fit(images)
    bright = images[:3].clip(0.0, 1.0)
    whole = detector.decision_function(np.concatenate([images[:5], bright]))
    assert np.array_equal(whole[5:], detector.decision_function(bright))
    assert np.array_equal(detector.decision_function(np.rint((images + 1) * 127.5).astype(np.uint8))[:5], whole[:5])


def test_it_runs_in_pyod_s_own_evaluation(capsys: pytest.CaptureFixture[str]) -> None:
    pyod = pytest.importorskip("pyod.utils.data")
    train, test, _, truth = pyod.generate_data(n_train=300, n_test=100, n_features=3, contamination=0.1, random_state=0)
    detector = vaebm.Detector(contamination=0.1, overrides=SHORT, device="cpu").fit(train)
    pyod.evaluate_print("vaebm", truth, detector.decision_function(test))
    assert "vaebm ROC:" in capsys.readouterr().out
    assert roc_auc_score(truth, detector.decision_function(test)) > 0.9


def test_wrong_input_is_refused() -> None:
    with pytest.raises(InputError, match="contamination"):
        vaebm.Detector(contamination=0.7).fit(points(50, 0))
    with pytest.raises(NotFittedError):
        vaebm.Detector().predict(np.zeros((2, 2)))
    with pytest.raises(InputError, match="finite"):
        vaebm.Detector().fit(np.full((50, 2), np.nan))

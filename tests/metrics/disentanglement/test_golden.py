"""Codes whose scores are known: perfect, permuted, scaled, rotated, redundant, dead, random."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vaebm import metrics
from vaebm.errors import InputError
from vaebm.metrics.disentanglement.dci import completeness, disentanglement
from vaebm.metrics.measurement import Measurement

Codes = NDArray[np.float64]


def grid(*sizes: int, copies: int) -> NDArray[np.int64]:
    """Every combination of factors, so often, in a random order."""
    rows = np.array(list(itertools.product(*map(range, sizes))) * copies)
    return np.random.default_rng(0).permutation(rows)


FACTORS = grid(4, 3, 2, copies=20)  # (480, 3)
A, B, C = FACTORS.astype(float).T
NOISE = np.random.default_rng(1).normal(size=(len(FACTORS), 3))


def every(codes: Codes, factors: NDArray[np.int64] = FACTORS, discrete: bool = True) -> dict[str, Measurement]:
    few = {"resamples": 2}
    return {
        "mig": metrics.mig(codes, factors, **few),
        "sap": metrics.sap(codes, factors, **few),
        "factor_vae_score": metrics.factor_vae_score(codes, factors, votes=600, **few),
        **metrics.dci(codes, factors, **few),
        **metrics.infomec(codes, factors, discrete=discrete, **few),
    }


def close(found: dict[str, Measurement], **expected: float) -> None:
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, abs=1e-6), name


PERFECT = {
    "mig": 1.0,
    "factor_vae_score": 1.0,
    "dci_disentanglement": 1.0,
    "dci_completeness": 1.0,
    "dci_informativeness": 1.0,
    "infomec_modularity": 1.0,
    "infomec_compactness": 1.0,
}


@pytest.mark.parametrize(
    "codes",
    [np.stack([A, B, C], 1), np.stack([C, A, B], 1), np.stack([-3 * A + 7, 100 * B, 0.5 * C - 1], 1)],
    ids=["perfect", "permuted", "scaled"],
)
def test_one_latent_for_each_factor(codes: Codes) -> None:
    found = every(codes)
    close(found, **PERFECT)
    assert found["infomec_explicitness"].value == pytest.approx(1.0, abs=1e-3)  # 100 steps towards the optimum
    assert set(found) == {m.name for m in found.values()}
    assert all(m.n == len(FACTORS) and math.isfinite(m.stderr) for m in found.values())


def test_a_rotation_mixes_two_factors_evenly() -> None:
    """a + b and a - b of two factors with two values: each tells half a bit of either, both all of both."""
    factors = grid(2, 2, copies=100)
    a, b = factors.astype(float).T
    found = every(np.stack([a + b, a - b], 1), factors)
    close(found, mig=0.0, infomec_modularity=0.0, infomec_compactness=0.0, dci_informativeness=1.0)
    assert found["sap"].value < 0.1
    assert found["dci_disentanglement"].value < 0.1


def test_redundant_latents_cost_compactness_and_gaps() -> None:
    found = every(np.stack([A, A, B, C], 1))
    of_a, of_others = 1 / 2, 1.0
    compact = ((of_a + 2 * of_others) / 3 - 1 / 4) / (1 - 1 / 4)
    close(found, mig=2 / 3, infomec_modularity=1.0, infomec_compactness=compact, dci_disentanglement=1.0)
    assert found["factor_vae_score"].value == 1.0


def test_a_dead_latent_is_named_and_changes_nothing() -> None:
    dead = np.stack([A, np.full_like(A, 0.3), B, C], 1)
    with pytest.warns(UserWarning, match=r"latents \[1\] do not vary"):
        found = every(dead)
    close(found, **PERFECT)
    assert found["infomec_modularity"].settings["active_latents"] == [0, 2, 3]
    assert found["factor_vae_score"].settings["active_latents"] == [0, 2, 3]


def test_random_codes_say_nothing() -> None:
    found = every(NOISE, discrete=False)
    for name in ("mig", "sap", "infomec_explicitness"):
        assert found[name].value < 0.05, name
    assert found["dci_disentanglement"].value < 0.2
    assert found["dci_informativeness"].value == pytest.approx((1 / 4 + 1 / 3 + 1 / 2) / 3, abs=0.06)
    assert found["factor_vae_score"].value < 0.5  # by chance 1 / 3


def test_continuous_codes_that_are_nearly_perfect() -> None:
    codes = np.stack([A, B, C], 1) + 0.01 * NOISE
    found = metrics.infomec(codes, FACTORS, resamples=2)
    assert found["infomec_modularity"].value > 0.9
    assert found["infomec_compactness"].value > 0.9
    assert metrics.mig(codes, FACTORS).value > 0.98


def test_sap_of_two_values_is_what_a_threshold_gets_right() -> None:
    """The best latent tells all; the second, right in three rows of four, is at 3/4 on any part."""
    factors = grid(2, 4, copies=1000)
    a, hint = factors[:, :1], np.where(factors[:, 1] == 0, 1 - factors[:, 0], factors[:, 0])
    codes = np.stack([a[:, 0], hint], 1).astype(float)
    assert metrics.sap(codes, a, resamples=2).value == pytest.approx(1 / 4, abs=0.02)
    assert metrics.sap(np.repeat(codes[:, :1], 2, axis=1), a, resamples=2).value == 0.0


def test_dci_of_known_importances() -> None:
    even, one_to_one = np.full((4, 2), 0.25), np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    assert (disentanglement(even), completeness(even)) == pytest.approx((0.0, 0.0), abs=1e-12)
    assert (disentanglement(one_to_one), completeness(one_to_one)) == pytest.approx((1.0, 1.0))
    halves = np.array([[0.5, 0.0], [0.5, 0.0], [0.0, 1.0], [0.0, 0.0]])
    assert (disentanglement(halves), completeness(halves)) == pytest.approx((1.0, 0.75))
    weighted = np.array([[1.0, 0.5], [0.0, 0.5]])  # 3/4 of all importance in the latent that is mixed 2 : 1
    mixed = 1 + (2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3)) / math.log(2)
    assert disentanglement(weighted) == pytest.approx(0.75 * mixed + 0.25)


def test_samples_of_far_posteriors_tell_all_and_wide_ones_nothing() -> None:
    codes = np.stack([A, B, C], 1)
    sharp = metrics.mig(codes, FACTORS, stds=np.full_like(codes, 0.01), resamples=2)
    assert sharp.value == pytest.approx(1.0, abs=0.05)
    assert sharp.settings["definition"] == "samples"
    assert metrics.mig(codes, FACTORS, stds=np.full_like(codes, 100.0), resamples=2).value < 1e-3


def test_the_information_of_samples_is_that_of_the_density() -> None:
    """One factor with two values at -1 and 1, sigma = 1: I(z; v) by quadrature; the other latent says nothing."""
    factors = grid(2, copies=1000)
    codes = np.concatenate([2.0 * factors - 1, 0.0 * factors], 1)
    z = np.linspace(-9, 9, 20_001)
    p = np.exp(-0.5 * (z[:, None] - np.array([-1.0, 1.0])) ** 2) / math.sqrt(2 * math.pi)
    exact = float((0.5 * p * np.log(p / p.mean(1, keepdims=True))).sum() * (z[1] - z[0]))
    with pytest.warns(UserWarning, match="do not vary"):
        found = metrics.mig(codes, factors, stds=np.ones_like(codes), draws=6000, resamples=2)
    assert found.value == pytest.approx(exact / math.log(2), abs=0.02)


def test_the_standard_error_is_that_of_other_data() -> None:
    def codes(seed: int) -> tuple[Codes, NDArray[np.int64]]:
        draw = np.random.default_rng(seed)
        factors = draw.integers(0, 4, (400, 2))
        return factors @ np.array([[1.0, 0.5], [0.2, 1.0]]) + draw.normal(size=(400, 2)), factors

    found = [metrics.mig(*codes(seed), resamples=20) for seed in range(30)]
    spread = float(np.std([m.value for m in found], ddof=1))
    assert 0.6 < float(np.mean([m.stderr for m in found])) / spread < 1.6


def test_a_seed_decides_and_torch_is_as_good() -> None:
    codes, factors = torch.from_numpy(NOISE).float(), torch.from_numpy(FACTORS)
    for score in (metrics.mig, metrics.sap, metrics.factor_vae_score):
        first = score(codes, factors, resamples=2, seed=3)
        assert first == score(codes.numpy(), FACTORS, resamples=2, seed=3)
        assert first != score(codes, factors, resamples=2, seed=4)


Z = np.stack([A, B, C], 1)


@pytest.mark.parametrize("score", [metrics.mig, metrics.sap, metrics.factor_vae_score, metrics.dci, metrics.infomec])
@pytest.mark.parametrize(
    ("codes", "factors", "said"),
    [
        (Z, FACTORS[:-1], r"\(479, 3\) for 480 codes"),
        (Z, FACTORS[:, 0], r"\(480,\)"),
        (Z, None, "factors holds object"),
        (Z, FACTORS[:, :0], "K at least"),
        (Z, FACTORS + 0.5, "whole numbers"),
        (Z, np.stack([FACTORS[:, 0], 0 * FACTORS[:, 0]], 1), "factor 1 is constant"),
        (Z[:99], FACTORS[:99], "at least 100"),
        (Z, np.stack([FACTORS[:, 0], np.arange(480) == 5], 1), "factor 1 has 1 rows of value 1"),
        (np.where(Z == 3, np.nan, Z), FACTORS, "not finite"),
        (Z[:, :1], FACTORS, "at least 2"),
        (0 * Z, FACTORS, "no latent varies"),
    ],
)
def test_wrong_input(score: object, codes: Codes, factors: NDArray[np.int64], said: str) -> None:
    with pytest.raises(InputError, match=said):
        score(codes, factors)  # type: ignore[operator]


def test_more_wrong_input() -> None:
    with pytest.raises(InputError, match="stds"):
        metrics.mig(Z, FACTORS, stds=Z[:, :2] + 1)
    with pytest.raises(InputError, match="positive"):
        metrics.mig(Z, FACTORS, stds=Z)
    with pytest.raises(InputError, match=r"0\.05"):
        metrics.factor_vae_score(0.01 * Z, FACTORS)
    with pytest.raises(InputError, match="latent 0 alone is active"):
        metrics.infomec(Z * np.array([1, 0.01, 0.01]), FACTORS)
    with pytest.raises(InputError, match="resamples"):
        metrics.sap(Z, FACTORS, resamples=1)
    for score in (metrics.dci, metrics.infomec, metrics.factor_vae_score):
        with pytest.raises(InputError, match="K at least 2"):
            score(Z, FACTORS[:, :1])

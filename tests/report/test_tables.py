"""The table fits a narrow terminal, keeps apart what does not compare, and the verdict says what the numbers allow."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from vaebm.evaluation.metric import quantity
from vaebm.evaluation.quantity import decimals, written
from vaebm.metrics.measurement import Measurement
from vaebm.report.subjects import SUBJECTS, in_order
from vaebm.report.tables import columns, measurement_rows, measurements_table
from vaebm.report.verdict import verdict

ImageMeasurements = Callable[..., list[Measurement]]


def shown(measurements: list[Measurement], width: int = 80) -> list[str]:
    from rich.console import Console

    stream = io.StringIO()
    Console(file=stream, width=width).print(measurements_table(measurements))
    return stream.getvalue().splitlines()


def test_the_table_fits_80_columns(
    image_measurements: ImageMeasurements, point_measurements: list[Measurement]
) -> None:
    for measurements in (image_measurements(), point_measurements, []):
        lines = shown(measurements)
        assert max(map(len, lines)) <= 80
        assert not any("…" in line for line in lines)


def test_rows_columns_and_protocol(image_measurements: ImageMeasurements) -> None:
    lines = shown(image_measurements())
    (row,) = [line for line in lines if line.strip().startswith("Fréchet distance ↓")]
    assert row.split()[-5:] == ["12.2", "113.0", "22.4", "19.9", "12.7"]
    below = lines[lines.index(row) + 1]
    assert below.split() == ["classifier", "features", "±0.5", "±1.6", "±0.9", "±0.8", "±0.5"]
    text = " ".join(" ".join(lines).split())
    assert "against 1,437 images of the training split; shown with the pixel noise; seed 0" in text
    assert "n = 360, mean of 20 draws (VAE, VAE + code mixture, VAEBM)" in text
    assert verdict(image_measurements()).sentence.replace("\u00a0", " ") in text.replace("\u00a0", " ")


def test_subjects_stand_in_the_order_of_the_story(image_measurements: ImageMeasurements) -> None:
    rows = measurement_rows(image_measurements())
    assert columns(rows) == ["held_out", "vae", "vae_mixture", "vaebm", "reconstruction"]
    assert in_order({"other", "vaebm", "truth"}) == ["truth", "vaebm", "other"]
    assert len({who.colour for who in SUBJECTS.values()}) == len(SUBJECTS) - 1  # held-out data and truth share theirs


def test_what_is_shown_differently_shares_the_floor_alone(
    image_measurements: ImageMeasurements,
) -> None:
    means = [
        Measurement(m.name, m.value / 2, m.stderr, m.n, m.settings | {"show": "mean"}, m.subject)
        for m in image_measurements()
        if "show" in m.settings and m.name == "frechet_distance"
    ]
    rows = [row for row in measurement_rows([*image_measurements(), *means]) if row.measure.title == "Fréchet distance"]
    assert [row.measurements["vaebm"].value for row in rows] == [19.9, 9.95]
    assert all("held_out" in row.cells for row in rows)
    assert [row.detail for row in rows] == ["classifier features, with pixel noise", "classifier features, means"]
    assert max(map(len, shown([*image_measurements(), *means]))) <= 80
    # The verdict goes by what stands first, and never mixes the two.
    assert verdict([*image_measurements(), *means]) == verdict(image_measurements())
    held_out = image_measurements()[:1]
    assert verdict([*held_out, *means, *image_measurements()[1:]]).measurements["vaebm"].value == 9.95


def test_the_best_of_the_models(image_measurements: ImageMeasurements, point_measurements: list[Measurement]) -> None:
    best = {row.measure.title: row.best for row in measurement_rows([*image_measurements(), *point_measurements])}
    assert best["Fréchet distance"] == "vaebm"
    assert best["within 3 σ of a mode"] == "vaebm"
    assert best["modes covered"] is None  # one model alone
    assert best["ELBO"] is None
    tied = [Measurement("modes_covered", 25.0, 0.0, 9, {}, key) for key in ("vae", "vaebm")]
    assert measurement_rows(tied)[0].best is None


def test_an_unknown_measurement_is_called_by_its_own_words() -> None:
    (row,) = measurement_rows([Measurement("vendi_score", 3.2, 0.1, 10, {}, "vaebm")])
    assert row.title == "vendi score"
    assert quantity("vendi_score").better is None
    assert shown([Measurement("vendi_score", 3.2, 0.1, 10, {}, "a_new_subject")])


@pytest.mark.parametrize(("stderr", "digits"), [(0.81, 1), (0.14, 2), (0.0097, 3), (12.0, 0), (0.95, 1), (1e-70, None)])
def test_digits_follow_the_standard_error(stderr: float, digits: int | None) -> None:
    assert decimals(stderr) == digits


def test_numbers_have_true_minus_signs() -> None:
    assert written(-2.651, 0.0066) == ("−2.651", "0.007")


@pytest.mark.parametrize(
    ("value", "outcome", "numbers"),
    [
        (13.0, "better", ["92%", "13.0\u00a0±\u00a00.8"]),
        (22.0, "same", ["(0.4 ± 1.2)", "nearly all", "113.0"]),
        (30.0, "worse", ["22.4", "30.0", "113.0"]),
    ],
)
def test_verdicts(image_measurements: ImageMeasurements, value: float, outcome: str, numbers: list[str]) -> None:
    found = verdict(image_measurements(value), energy="E(x)", mixture="E(z)")
    assert found.outcome == outcome
    assert found.sentence.startswith("E(x)")
    assert found.sentence.endswith(".")
    assert all(number in found.sentence for number in numbers)
    assert ("cannot be told" in found.sentence) == (value == 13.0)
    assert ("E(z)" in found.sentence) == (outcome != "worse")  # the mixture's part of the difference


def test_what_is_closer_than_the_floor_has_reached_it(image_measurements: ImageMeasurements) -> None:
    assert "is not reached yet" in verdict(image_measurements(22.0)).sentence
    assert "is reached" in verdict(image_measurements(1.0)).sentence


def test_the_verdict_goes_by_the_mixture_first(image_measurements: ImageMeasurements) -> None:
    without = [m for m in image_measurements(50.0) if m.subject != "vae_mixture"]
    assert verdict(image_measurements(50.0)).outcome == "worse"
    assert "better than the plain VAE" in verdict(image_measurements(50.0)).sentence
    assert verdict(without).outcome == "better"


def test_no_verdict_without_both_sides(image_measurements: ImageMeasurements) -> None:
    assert verdict([]).outcome == "unknown"
    assert verdict([m for m in image_measurements() if m.subject == "vaebm"]).outcome == "unknown"


def distances(show: str, start: float, own: float, **settings: object) -> list[Measurement]:
    common = {"features": "classifier", "show": show, **settings}
    return [
        Measurement("frechet_distance", start, 0.1, 360, common, "start"),
        Measurement("frechet_distance", own, 0.1, 360, common, "vaebm"),
    ]


def test_the_verdict_is_of_each_at_its_best_noise_against_the_start() -> None:
    found = verdict([*distances("sample", 9.0, 1.0), *distances("scaled", 1.0, 1.1, noise_scale=0.5)])
    assert (found.outcome, found.measurements["start"].value) == ("same", 1.0)
    assert "pixel noise that serves it best" in found.sentence
    mixture = Measurement(
        "frechet_distance", 0.1, 0.1, 360, {"features": "classifier", "show": "sample"}, "vae_mixture"
    )
    assert verdict([mixture, *distances("sample", 9.0, 1.0)]).outcome == "better"


def test_the_verdict_compares_pairs_where_data_are_shared() -> None:
    shared = {"influence_of_data": [0.5, -0.5] * 10, "own_stderr": 0.01}
    assert verdict(distances("sample", 1.2, 1.1)).outcome == "same"
    assert verdict(distances("sample", 1.2, 1.1, **shared)).outcome == "better"


@pytest.mark.parametrize(
    ("gain", "shift", "said"),
    [
        (0.9, 0.5, ["adds 0.90", "stop short of it"]),
        (-0.9, -0.5, ["takes away 0.90", "lies below", "by 0.50"]),
        (0.05, 0.05, ["adds no log-likelihood", "agrees with"]),
    ],
)
def test_the_verdict_tells_nats_and_law(gain: float, shift: float, said: list[str]) -> None:
    worth = [
        Measurement("energy_gain", gain, 0.05, 360, {"method": "weights"}, "vaebm"),
        Measurement("energy_shift", shift, 0.05, 360, {"method": "weights"}, "vaebm"),
    ]
    sentence = verdict([*distances("sample", 9.0, 1.0), *worth]).sentence
    assert all(words in sentence for words in said)
    assert "optimistic" not in sentence
    annealed = [Measurement("energy_gain", gain, 0.05, 360, {"method": "annealing"}, "vaebm")]
    assert "optimistic" in verdict([*distances("sample", 9.0, 1.0), *annealed]).sentence


def test_a_floor_of_other_numbers_is_no_goal_for_a_biased_distance() -> None:
    few = Measurement("frechet_distance", 1.0, 0.1, 50, {"features": "classifier"}, "held_out")
    assert "held-out" not in verdict([few, *distances("sample", 9.0, 1.0)]).sentence


def test_scales_of_noise_are_told(image_measurements: ImageMeasurements) -> None:
    lines = " ".join(" ".join(shown(distances("scaled", 1.0, 1.1, noise_scale=0.5))).split())
    assert "start of chains 0.5, VAEBM 0.5" in lines

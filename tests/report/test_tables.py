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


def test_the_verdict_goes_by_the_mixture_first(image_measurements: ImageMeasurements) -> None:
    without = [m for m in image_measurements(50.0) if m.subject != "vae_mixture"]
    assert verdict(image_measurements(50.0)).outcome == "worse"
    assert "better than the plain VAE" in verdict(image_measurements(50.0)).sentence
    assert verdict(without).outcome == "better"


def test_no_verdict_without_both_sides(image_measurements: ImageMeasurements) -> None:
    assert verdict([]).outcome == "unknown"
    assert verdict([m for m in image_measurements() if m.subject == "vaebm"]).outcome == "unknown"

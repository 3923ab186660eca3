"""A metric of somebody else's: one class, one line, and it is evaluated, tabled, reported and listed."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from vaebm.cli import main
from vaebm.data import DataSet
from vaebm.errors import InputError
from vaebm.evaluation import METRICS, SCORES, Given, Metric, Quantity, all_quantities, is_shown, quantity, register
from vaebm.experiment.evaluate import evaluate
from vaebm.experiment.run_directory import Run
from vaebm.metrics.measurement import Measurement
from vaebm.models import Model
from vaebm.report.page import write_report
from vaebm.report.tables import measurement_rows, measurements_table

RECIPE = """\
summary: digits, learned in a second
data: {kind: digits}
vae: {kind: mlp, latent_dim: 2, hidden: [8], likelihood: {kind: censored}}
code_mixture: {components: 2, codes: 200}
energy: {image: {kind: residual, stem: 4, widths: [4], halve: [0]}}
sampler: {kind: langevin, step_size: 0.01, steps: 2}
vae_stage: {iterations: 5, batch_size: 16}
energy_stage: {phases: {ratio: {kind: density_ratio, iterations: 3, batch_size: 16}}}
evaluation: {features: pixels, n: 30}
threads: 1
"""


class Brightness(Metric):
    """The mean of the pixels, and of the rows of features."""

    quantities = (Quantity("brightness", "brightness", "the mean of the pixels", "%", "held_out", 100.0),)
    needs = frozenset({"samples"})

    def measure(self, given: Given) -> list[Measurement]:
        of_images = torch.cat(list(given.draws)).mean((1, 2, 3)).double()
        return [Measurement("brightness", of_images.mean(), of_images.std() / len(of_images) ** 0.5, len(of_images))]


class FeatureMean(Metric):
    """The distance of the means of features."""

    quantities = (Quantity("feature_mean", "feature mean", "the distance of the features' means", better="lower"),)
    needs = frozenset({"features"})
    balls = True

    def measure(self, given: Given) -> list[Measurement]:
        rows = torch.cat(given.rows)
        distance = (rows.mean(0) - given.space.reference.mean(0)).norm()
        return [Measurement("feature_mean", distance, 0.0, len(rows))]


class CodeSpread(Metric):
    """The spread of the codes of held-out data, within classes that stand for factors."""

    quantities = (Quantity("code_spread", "code spread", "the spread of the codes"),)
    needs = frozenset({"codes"})

    def applies(self, subject: str, data: DataSet, model: Model) -> bool:
        return subject == "vae" and data.test.labels is not None

    def measure(self, given: Given) -> list[Measurement]:
        assert len(given.codes) == len(given.data.test)
        return [Measurement("code_spread", given.codes.std(), 0.0, len(given.codes), {"split": "test"})]


@pytest.fixture
def mine() -> Iterator[None]:
    known = list(METRICS)
    for metric in (Brightness(), FeatureMean(), CodeSpread()):
        register(metric)
    yield
    METRICS[:] = known


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from vaebm.experiment.train import train

    folder = tmp_path_factory.mktemp("toy")
    (folder / "toy.yaml").write_text(RECIPE)
    return train(folder / "toy.yaml", folder / "run", device="cpu").path


@pytest.mark.usefixtures("mine")
def test_a_toy_metric_works_throughout(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["brightness", "feature_mean", "code_spread"]
    assert main(["evaluate", str(trained), "--only", ",".join(names), "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert "brightness" in printed
    assert "feature mean ↓" in printed
    run = Run.open(trained)
    found = {(m.name, m.subject): m for m in run.measurements() if m.settings.get("show") != "scaled"}
    subjects = {"held_out", "reconstruction", "vae", "vae_mixture", "start", "vaebm"}
    assert set(found) == {(n, s) for n in names[:2] for s in subjects} | {("code_spread", "vae")}
    assert found["brightness", "held_out"].value == pytest.approx(
        float(run.data().test.all().mean()), abs=5 * found["brightness", "held_out"].stderr
    )
    on_features = found["feature_mean", "vae"].settings
    assert (on_features["features"], on_features["reference_n"], on_features["show"]) == ("pixels", 30, "sample")
    assert "show" not in found["code_spread", "vae"].settings
    assert [m for m in evaluate(run, only=names) if (m.name, m.subject) in found] == run.measurements()
    row = next(row for row in measurement_rows(run.measurements()) if row.measure.name == "brightness")
    value, stderr = row.cells["vae"]
    assert value == f"{100 * found['brightness', 'vae'].value:.{len(stderr.partition('.')[2])}f}".replace("-", "−")
    assert quantity("feature_mean").arrow == "↓"
    said = re.sub(r"<[^>]*>", " ", write_report(run).read_text())
    for word in ("feature mean", "code spread", "brightness", value):
        assert word in said
    with pytest.raises(InputError, match="did you mean 'brightness'"):
        evaluate(run, only=["brigthness"])
    help_status = main(["evaluate", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert help_status == 0
    for metric in (Brightness, FeatureMean, CodeSpread):
        assert metric.quantities[0].name in text
        assert metric.quantities[0].phrase in text
    assert "frechet_distance" in text


def test_what_is_known_of_the_built_in_ones() -> None:
    known = all_quantities()
    assert list(known)[:2] == ["frechet_distance", "kernel_distance"]
    assert all(q.title and q.phrase.startswith("the ") for q in known.values())
    nats = {"log_likelihood", "log_likelihood_lower", "log_z", "elbo", "energy_gain", "energy_shift"}
    of_codes = {name for score in SCORES for name in score.names}
    assert {n for n in known if not is_shown(n)} == nats | of_codes | {"seconds_per_thousand", "few_label_accuracy"}
    assert is_shown("a_name_of_a_later_version")
    assert {q.better for q in known.values()} == {"lower", "higher", "held_out", None}


def test_a_table_of_a_metric_without_a_direction_has_no_best() -> None:
    from rich.console import Console

    rows = [Measurement("log_z", value, 0.1, 9, {}, who) for value, who in ((1.0, "vae"), (2.0, "vaebm"))]
    assert measurement_rows(rows)[0].best is None
    stream: Any = io.StringIO()
    Console(file=stream, width=80).print(measurements_table(rows))
    assert "log Z" in stream.getvalue()

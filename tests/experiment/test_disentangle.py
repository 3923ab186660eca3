"""Scores of a run's codes in measurements.json, and what data without factors are told."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vaebm import metrics
from vaebm.errors import InputError
from vaebm.evaluation import SCORES, Given
from vaebm.experiment.disentangle import NAMES, disentangle
from vaebm.experiment.run_directory import Run
from vaebm.experiment.train import train
from vaebm.models import CEBMSettings

trees = importlib.import_module("vaebm.metrics.disentanglement.dci")  # whose name the function has, too

SPRITES = """\
summary: sprites of 8 x 8 pixels, learned in a second
data: {kind: sprites, size: 8}
vae: {kind: mlp, latent_dim: 3, hidden: [16], likelihood: {kind: bernoulli}}
code_mixture: {components: 2, codes: 200}
energy: {latent: {kind: mixture}}
vae_stage: {iterations: 40, batch_size: 32, objective: {kind: beta, beta: 0.01}}
threads: 1
"""


@pytest.fixture(scope="module")
def sprites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sprites")
    (folder / "sprites.yaml").write_text(SPRITES)
    return train(folder / "sprites.yaml", folder / "run", device="cpu").path


def test_scores_are_measurements_of_the_run(sprites: Path) -> None:
    run = Run.open(sprites)
    (found,) = disentangle(run, only=["mig"])
    assert found in run.measurements()
    model, test = run.model(), run.data().test
    codes = model.encode(test.all()).detach()
    assert test.factors is not None
    expected = metrics.mig(codes, test.factors)
    assert (found.name, found.subject, found.n) == ("mig", "vaebm", 2000)
    assert found.value == pytest.approx(expected.value, abs=1e-6)
    assert found.settings["split"] == "test"
    assert 0 <= found.settings["of_samples"] <= 1
    again = disentangle(run, only=["mig", "sap"])
    assert again[0] == found
    stored = json.loads((sprites / "measurements.json").read_text())
    assert [m["name"] for m in stored] == ["mig", "sap"]


def test_every_name_of_the_interface_is_a_score() -> None:
    assert (
        *("mig", "dci_disentanglement", "dci_completeness", "dci_informativeness", "sap", "factor_vae_score"),
        *("infomec_modularity", "infomec_compactness", "infomec_explicitness"),
    ) == NAMES


def test_every_score_gives_what_it_says(sprites: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(trees.TREES, "max_iter", 2)
    run = Run.open(sprites)
    data = run.data()
    few = replace(data, splits={**data.splits, "test": data.test.subset(torch.arange(0, 2000, 4))})
    for score in SCORES:
        found = score.measure(Given("vaebm", few, run.model(), 0))
        assert tuple(m.name for m in found) == score.names


def test_a_conjugate_model_has_codes_though_its_vae_has_none(sprites: Path) -> None:
    data = Run.open(sprites).data()
    settings = CEBMSettings.model_validate({"latent_dim": 3, "network": {"widths": [4], "hidden": [8]}})
    model = settings.build(data.shape, torch.Generator().manual_seed(0)).eval()
    few = replace(data, splits={**data.splits, "test": data.test.subset(torch.arange(0, 2000, 4))})
    (found,) = SCORES[0].measure(Given("cebm", few, model, 0))
    assert few.test.factors is not None
    assert found.value == metrics.mig(model.encode(few.test.all()).detach(), few.test.factors).value


def test_without_factors_there_is_nothing_to_score(digits_run: Run, sprites: Path) -> None:
    with pytest.raises(InputError, match="factors of digits are not known"):
        disentangle(digits_run)
    with pytest.raises(InputError, match="did you mean 'mig'"):
        disentangle(Run.open(sprites), only=["migg"])

"""A few hundred images: what is chosen for them, that the best weights are kept, and what is said of repeats."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vaebm.data.collection import parts_by_name
from vaebm.experiment.evaluate import evaluate
from vaebm.experiment.run_directory import METRICS
from vaebm.experiment.train import folder_recipe, train
from vaebm.progress import silent
from vaebm.report.page import write_report

SMALL = [
    *("vae.latent_dim=3", "vae.widths=[4]", "energy.image.widths=[4]", "energy.image.halve=[]", "energy.image.stem=4"),
    *("vae_stage.iterations=6", "vae_stage.batch_size=8", "energy_stage.batch_size=8", "sampler.steps=2"),
    *("vae_stage.validate_every=2", "energy_stage.phases.ratio.iterations=3", "code_mixture.codes=100", "threads=1"),
    *("energy_stage.phases.rounds=null", "code_mixture.components=2", "logging.every=1", "evaluation.n=30"),
]


def photos(folder: Path, count: int) -> Path:
    folder.mkdir()
    generator = np.random.default_rng(0)
    for i in range(count):
        Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.mark.parametrize(("count", "validation"), [(99, 0), (100, 10), (400, 40), (999, 100), (1000, 50)])
def test_of_few_images_a_larger_part_is_for_validation(count: int, validation: int) -> None:
    parts = parts_by_name([f"{i}.png" for i in range(count)])
    assert len(parts.get("validation", ())) == validation
    assert sum(map(len, parts.values())) == count
    assert len(set().union(*parts.values())) == count


def test_few_images_get_what_few_images_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    progress = silent()
    monkeypatch.setattr(progress, "say", said.append, raising=False)
    few, _ = folder_recipe(photos(tmp_path / "few", 150), [], progress)
    assert few.vae_stage.validate_every > 0
    assert few.energy_stage.phases["ratio"].validate_every > 0
    assert few.energy.image.widths == [16, 32, 64]
    assert any("120 training images are few" in sentence for sentence in said)
    own, _ = folder_recipe(tmp_path / "few", ["vae_stage.validate_every=0", "energy.image.widths=[8,8]"], progress)
    assert (own.vae_stage.validate_every, own.energy.image.widths) == (0, [8, 8])
    flat, _ = folder_recipe(tmp_path / "few", ["energy.image={kind: mlp}"], progress)
    assert flat.energy.image.kind == "mlp"
    monkeypatch.setattr("vaebm.experiment.train.FEW", 120)
    many, _ = folder_recipe(tmp_path / "few", [], progress)
    assert (many.vae_stage.validate_every, many.energy.image.widths) == (0, [32, 64, 128])


def test_repeats_are_measured_and_shown(tmp_path: Path) -> None:
    run = train(photos(tmp_path / "photos", 120), tmp_path / "run", overrides=[*SMALL, "data.flip=true"], device="cpu")
    rows = [json.loads(line) for line in (run.path / METRICS).read_text().splitlines()]
    assert sum("validation_elbo" in row for row in rows) == 3
    found = {m.subject: m for m in evaluate(run, only=["memorised_fraction"])}
    assert set(found) == {"held_out", "vae", "vae_mixture", "start", "vaebm"}
    assert found["vaebm"].settings["held_out_n"] == 12
    assert found["vaebm"].settings["train_n"] == 96
    page = write_report(run).read_text()
    assert "Samples and the closest training images" in page
    assert "Training images are closest as often as" in page

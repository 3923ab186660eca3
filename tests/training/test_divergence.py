"""A run that diverges and may not return is given up at once, keeps its last good model, and says so when asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import vaebm
from vaebm.cli import main
from vaebm.errors import Diverged
from vaebm.experiment.inspect import inspect_run
from vaebm.experiment.run_directory import Run
from vaebm.experiment.train import train

RECIPE = """\
data: {kind: gaussians, side: 2, train_size: 400, test_size: 200}
vae: {kind: mlp, latent_dim: 2, hidden: [8], likelihood: {kind: gaussian}}
code_mixture: {components: 2, codes: 200}
energy: {image: {kind: mlp, hidden: [16, 16]}}
sampler: {kind: langevin, step_size: 0.01, steps: 2}
vae_stage: {iterations: 5, batch_size: 16}
energy_stage:
  batch_size: 16
  learning_rate: 10
  phases: {divergence: {kind: contrastive_divergence, iterations: 500, warmup_iterations: 0}}
divergence_monitor: {rollbacks: 0}
logging: {every: 1}
checkpoint: {every_seconds: 0}
threads: 1
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "wild.yaml"
    path.write_text(RECIPE)
    return path


@pytest.mark.parametrize("kind", ["contrastive_divergence", "ratio_rounds"])
def test_the_last_good_model_is_kept(kind: str, recipe: Path, tmp_path: Path) -> None:
    overrides = [f"energy_stage.phases.divergence.kind={kind}"]
    if kind == "ratio_rounds":
        overrides += ["divergence_monitor.energy_gap=1e-6", "energy_stage.phases.divergence.chains=32"]
    with pytest.raises(Diverged, match=r"divergence.* \d+.*energy gap.*limit"):
        train(recipe, tmp_path / "run", device="cpu", overrides=overrides)
    run = Run.open(tmp_path / "run")
    newest = max((run.path / "checkpoints").iterdir())
    state = json.loads((newest / "state-0.json").read_text())["state"]
    rows = run.history()
    assert state["iteration"] == rows[-1]["iteration"]  # of the last iteration that passed the monitor
    assert run.events()[-1]["event"] == "diverged"
    model = vaebm.load(run.path)
    assert all(bool(value.isfinite().all()) for value in model.state_dict().values())
    assert bool(model.sample(4).isfinite().all())


def test_asked_again_it_says_what_happened_and_trains_nothing(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    words = ["train", str(recipe), "--out", str(run), "--only-train", "--quiet", "--device", "cpu"]
    assert main(words) == 3
    first = capsys.readouterr()
    assert first.out == ""
    assert "diverged in divergence" in first.err
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for again in (words, ["train", str(run), "--quiet"]):
        assert main(again) == 3
        said = capsys.readouterr()
        assert said.out == ""
        assert len(said.err.splitlines()) == 1
        assert str(run) in said.err
        assert "--out" in said.err  # where to train anew
        assert first.err.removeprefix("vaebm: ").strip() in said.err
        assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    lines = inspect_run(Run.open(run)).sentences
    assert any("diverged in divergence" in line for line in lines)
    assert not any("not finished" in line for line in lines)


def test_without_its_model_it_may_be_tried_again(recipe: Path, tmp_path: Path) -> None:
    """As after a kill between the event and the model: the same end, and told once."""
    with pytest.raises(Diverged) as first:
        train(recipe, tmp_path / "run", device="cpu")
    (tmp_path / "run" / "model").rename(tmp_path / "kept")
    assert Run.open(tmp_path / "run").diverged is None
    with pytest.raises(Diverged) as second:
        train(recipe, tmp_path / "run", device="cpu")
    assert str(first.value) == str(second.value)
    run = Run.open(tmp_path / "run")
    assert [event["event"] for event in run.events()].count("diverged") == 1
    kept = (tmp_path / "kept" / "model.safetensors").read_bytes()
    assert (run.path / "model" / "model.safetensors").read_bytes() == kept


def test_a_loss_that_is_not_finite(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"vae.*not finite"):
        train(
            recipe,
            tmp_path / "run",
            device="cpu",
            overrides=["vae_stage.learning_rate=1e30", "vae_stage.iterations=50"],
        )
    model = vaebm.load(tmp_path / "run")
    assert not any(bool(torch.isnan(value).any()) for value in model.state_dict().values())

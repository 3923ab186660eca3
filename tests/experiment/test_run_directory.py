"""The directory of a run: made once, kept whole, and never mixed up with another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from vaebm.errors import InputError
from vaebm.experiment.recipe import load_recipe
from vaebm.experiment.run_directory import Run
from vaebm.experiment.train import train
from vaebm.models import VAEBM


def test_it_holds_what_it_should(points_run: Run) -> None:
    kept = {"recipe.yaml", "data.json", "environment.json", "metrics.jsonl", "checkpoints", "model"}
    assert {path.name for path in points_run.path.iterdir()} == kept
    assert {path.name for path in (points_run.path / "model").iterdir()} >= {"config.json", "model.safetensors"}
    config = json.loads((points_run.path / "model" / "config.json").read_text())
    assert config["data_shape"] == [2]
    assert config["vae"]["kind"] == "mlp"
    assert config["sampler"]["steps"] == 2


def test_the_saved_recipe_is_complete_and_the_same(points_recipe: Path, tmp_path: Path) -> None:
    recipe = load_recipe(points_recipe)
    run = Run.create(tmp_path / "run", recipe)
    assert Run.open(run.path).recipe == recipe
    text = (run.path / "recipe.yaml").read_text()
    for default in ("divergence_monitor:", "energy_gap: 200.0", "keep: 3", "betas:", "temperature: 1.0"):
        assert default in text


def test_precision_is_settled_when_the_run_is_made(points_recipe: Path, tmp_path: Path) -> None:
    run = train(points_recipe, tmp_path / "run", device="cpu", overrides=["precision=auto"])
    assert run.recipe.precision in ("float32", "bfloat16")
    assert "precision: auto" not in (run.path / "recipe.yaml").read_text()
    assert train(points_recipe, tmp_path / "run", device="cpu", overrides=["precision=auto"]).path == run.path


def test_another_recipe_is_refused(points_recipe: Path, points_run: Run) -> None:
    for override, said in [
        ("seed=3", "seed is 0 there, 3 here"),
        ("vae.hidden=[9]", r"vae.hidden is \[8\] there, \[9\] here"),
        ("energy.latent=null", r"energy.latent is \{'kind': 'mixture'\} there, None here"),
        (
            "energy_stage.phases.more={kind: importance}",
            r"energy_stage.phases.more is None there, \{.*'kind': 'importance'.*\} here",
        ),
    ]:
        with pytest.raises(InputError, match=rf"holds a run of another recipe \({said}\): choose another --out, or"):
            train(points_recipe, points_run.path, device="cpu", overrides=[override])
    assert train(points_recipe, points_run.path, device="cpu", overrides=["summary=in other words"]).is_complete


def test_a_directory_with_something_else_is_refused(points_recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "diary").mkdir()
    (tmp_path / "diary" / "1.txt").write_text("Dear diary")
    for name in ("diary", "diary/1.txt"):
        with pytest.raises(InputError, match="exists and is no run: choose another --out, or an empty directory"):
            train(points_recipe, tmp_path / name, device="cpu")
    (tmp_path / "empty").mkdir()
    assert Run.create(tmp_path / "empty", load_recipe(points_recipe)).path == tmp_path / "empty"


def test_a_run_is_resumed_by_its_name_alone(points_run: Run, tmp_path: Path) -> None:
    for words in ({"overrides": ["seed=1"]}, {"out": tmp_path / "elsewhere"}):
        with pytest.raises(InputError, match="is a run and keeps its recipe"):
            train(points_run.path, device="cpu", **words)
    assert train(points_run.path, points_run.path, device="cpu").path == points_run.path


def test_a_complete_run_is_left_alone(points_run: Run) -> None:
    before = {path: path.read_bytes() for path in points_run.path.rglob("*") if path.is_file()}
    said: list[str] = []

    class Listening:
        say = said.append

    train(points_run.path, device="cpu", progress=Listening())  # type: ignore[arg-type]
    assert said == [f"{points_run.path} is complete: nothing left to train."]
    assert {path: path.read_bytes() for path in points_run.path.rglob("*") if path.is_file()} == before


def test_a_complete_run_needs_its_data_no_more(photos_run: Run) -> None:
    recipe = (photos_run.path / "recipe.yaml").read_text()
    root = next(line for line in recipe.splitlines() if "root:" in line)
    (photos_run.path / "recipe.yaml").write_text(recipe.replace(root, "  root: /nowhere"))
    assert train(photos_run.path, device="cpu").is_complete


@pytest.mark.parametrize("file", ["recipe.yaml", "nothing"])
def test_what_is_no_run(file: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no run .*: train one with `vaebm train digits --out"):
        Run.open(tmp_path / "lost")
    (tmp_path / "run").mkdir()
    with pytest.raises(InputError, match=r"is no run, it has no recipe.yaml: name a directory that"):
        Run.open(tmp_path / "run")


def test_a_damaged_log_is_read_up_to_the_damage(points_run: Run) -> None:
    whole = points_run.history()
    assert [row["iteration"] for row in whole] == [5, 10, 5, 10]
    with (points_run.path / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "rat')
    assert points_run.history() == whole
    assert [event["event"] for event in points_run.events()] == ["stage", "stage", "complete"]
    (points_run.path / "metrics.jsonl").unlink()
    assert points_run.history() == points_run.events() == []


def test_damaged_measurements(points_run: Run) -> None:
    assert points_run.measurements() == []
    for text in ("[{", "{}1", '[{"name": 3}]', '[{"name": "a", "value": "x"}]', "3", "\xff"):
        (points_run.path / "measurements.json").write_text(text, encoding="latin-1")
        with pytest.raises(InputError, match=r"measurements.json is damaged: delete it and run `vaebm evaluate"):
            points_run.measurements()


def test_the_model_is_saved_whole_or_not_at_all(points_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    model = points_run.model()
    before = (points_run.path / "model" / "model.safetensors").read_bytes()

    def refuse(*arguments: Any, **keywords: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(type(model), "save_pretrained", refuse)
        with pytest.raises(OSError, match="No space"):
            points_run.save_model(model)
    assert (points_run.path / "model" / "model.safetensors").read_bytes() == before
    (points_run.path / ".model-draft").mkdir()
    points_run.save_model(model)
    assert (points_run.path / "model" / "model.safetensors").read_bytes() == before
    assert not (points_run.path / ".model-draft").exists()


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_damaged_model_is_saved_again_from_the_checkpoints(file: str, points_run: Run) -> None:
    path = points_run.path / "model" / file
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError) as refusal:
        points_run.model()
    assert str(path) in str(refusal.value)
    assert str(refusal.value).endswith(
        f"save the model again, as `vaebm train {points_run.path}` does once {points_run.path / 'model'} is deleted"
    )
    for part in (points_run.path / "model").iterdir():
        part.unlink()
    (points_run.path / "model").rmdir()
    train(points_run.path, device="cpu")
    assert path.read_bytes() == whole


def test_data_are_read_before_anything_is_written(points_recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="/nowhere"):
        train(points_recipe, tmp_path / "run", device="cpu", overrides=["data={kind: folder, root: /nowhere}"])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("vae.likelihood={kind: bernoulli}", r"vae\.likelihood\.kind"),
        ("energy.image={kind: residual}", "energy.image.kind=residual needs images"),
        ("vae={kind: conv}", "vae.kind=conv needs images"),
        (
            "energy_stage.phases.more={kind: contrastive_divergence, buffer: 9, batch_size: 10}",
            "energy_stage.phases.more.buffer is 9, less than a batch of 10: raise it, or set it to 0",
        ),
        ("logging.tracker=aim", "logging.tracker=aim needs a package that is not installed"),
    ],
)
def test_what_cannot_be_built_leaves_no_directory(
    override: str, sentence: str, points_recipe: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=sentence):
        train(points_recipe, tmp_path / "run", device="cpu", overrides=[override])
    assert not (tmp_path / "run").exists()


def test_compiling_does_not_change_what_is_trained(
    points_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VAEBM, "compile_nets", lambda self: None)  # the compiler itself takes a minute
    said: list[str] = []

    class Listening:
        def __init__(self) -> None:
            from vaebm.progress import silent

            self.task = silent().task

        say = staticmethod(said.append)

    plain = train(points_recipe, tmp_path / "plain", device="cpu")
    quick = train(points_recipe, tmp_path / "q", device="cpu", overrides=["compile=true"], progress=Listening())
    weights = [run.model().state_dict() for run in (plain, quick)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert any(line.startswith("torch.compile took ") for line in said)

"""A run is not lost: not with its data, not to another process, another machine, another folder or an odd name."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vaebm.cli import main
from vaebm.cli.failures import explain
from vaebm.data import FolderSettings
from vaebm.errors import InputError
from vaebm.experiment import recipe as recipes
from vaebm.experiment.evaluate import evaluate
from vaebm.experiment.recipe import Recipe, load_recipe
from vaebm.experiment.run_directory import Run, load
from vaebm.experiment.sample import write_samples
from vaebm.experiment.train import folder_recipe, train
from vaebm.metrics.measurement import Measurement
from vaebm.models import saved
from vaebm.progress import silent
from vaebm.report.page import write_report


def root_of(recipe: Recipe) -> str:
    assert isinstance(recipe.data, FolderSettings)
    return recipe.data.root


def forget(run: Run) -> Path:
    """The run as it is when its data have been moved away; where they are now."""
    moved = run.path.parent / "elsewhere"
    shutil.copytree(root_of(run.recipe), moved)
    text = (run.path / "recipe.yaml").read_text()
    (run.path / "recipe.yaml").write_text(text.replace(root_of(run.recipe), "/nowhere"))
    return moved


def unfinish(run: Run) -> None:
    shutil.rmtree(run.path / "model")


def of_pixels(run: Run, *overrides: str) -> list[Measurement]:
    return evaluate(run, only=["pixels_between_ends"], subjects=["held_out"], n=4, overrides=list(overrides))


# The data.


def test_what_the_model_alone_can_do_needs_no_data(photos_run: Run, tmp_path: Path) -> None:
    forget(photos_run)
    out = write_samples(photos_run.path, 3, tmp_path / "s.npz")
    with np.load(out) as arrays:
        assert arrays["images"].shape == (3, 8, 10, 3)
    assert load(photos_run.path).data_shape == (3, 8, 10)


def test_the_data_can_be_said_to_lie_elsewhere(photos_run: Run) -> None:
    moved = forget(photos_run)
    here = f"data.root={moved}"
    with pytest.raises(InputError, match="nowhere"):
        of_pixels(Run.open(photos_run.path))
    assert of_pixels(Run.open(photos_run.path), here)
    run = Run.open(photos_run.path)
    unfinish(run)
    with pytest.raises(InputError, match="nowhere"):
        train(run.path, device="cpu")
    assert train(run.path, device="cpu", overrides=[here]).is_complete
    with pytest.raises(InputError, match="seed=3"):
        train(run.path, device="cpu", overrides=["seed=3"])


def test_verbs_of_the_model_as_it_was_trained_are_told_where_the_data_lie(photos_run: Run, tmp_path: Path) -> None:
    moved = forget(photos_run)
    words = ["encode", str(photos_run.path), "--input", "test", "--out", str(tmp_path / "z.npz"), "--quiet"]
    assert main([*words, f"data.root={moved}"]) == 0
    assert main(words) == main([*words, "seed=1"]) == 2
    words = ["score", str(photos_run.path), "--input", "train", "--reference", "train", "--quiet"]
    assert main([*words, "--out", str(tmp_path / "s.csv"), f"data.root={moved}"]) == 0


def test_where_the_data_lie_is_kept_as_a_whole_path(photos_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = forget(photos_run)
    monkeypatch.chdir(moved.parent)
    recipe = load_recipe("folder", ["data.root=elsewhere"])
    assert root_of(recipe) == str(moved)
    monkeypatch.setenv("HOME", str(moved.parent))
    assert root_of(load_recipe("folder", ["data.root=~/elsewhere"])) == str(moved)


def add_images(folder: Path) -> None:
    for i in range(5):
        shutil.copy(folder / f"0{i}.png", folder / f"more{i}.png")


def resize_images(folder: Path) -> None:
    for path in folder.iterdir():
        with Image.open(path) as image:
            image.resize((12, 12)).save(path)


def change_an_image(folder: Path) -> None:
    Image.fromarray(np.zeros((8, 10, 3), np.uint8)).save(folder / "00.png")


@pytest.mark.parametrize(
    ("change", "said"), [(add_images, "count"), (resize_images, "shape"), (change_an_image, "sha256")]
)
def test_other_data_are_noticed(change: Any, said: str, photos_run: Run) -> None:
    moved = forget(photos_run)
    change(moved)
    with pytest.raises(InputError, match=rf"not as they were \({said} of the"):
        of_pixels(photos_run, f"data.root={moved}")
    unfinish(photos_run)
    before = {path: path.read_bytes() for path in photos_run.path.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=rf"not as they were \({said} of the"):
        train(photos_run.path, device="cpu", overrides=[f"data.root={moved}"])
    assert {path: path.read_bytes() for path in photos_run.path.rglob("*") if path.is_file()} == before


def test_no_output_is_put_among_the_data(photos_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = forget(photos_run)
    monkeypatch.chdir(moved)
    for words in ({}, {"out": "run"}, {"out": moved / "a" / "run"}):
        with pytest.raises(InputError, match="would lie among the images"):
            train(".", device="cpu", **words)
    assert not [path for path in moved.iterdir() if path.is_dir()]


# Processes and machines.


def test_one_process_at_a_time(points_recipe: Path, points_run: Run, tmp_path: Path) -> None:
    with points_run.locked():
        for work in (lambda: of_pixels(points_run), lambda: write_report(points_run)):
            with pytest.raises(InputError, match=f"in use by process {os.getpid()}"):
                work()
        unfinish(points_run)
        with pytest.raises(InputError, match=f"in use by process {os.getpid()}"):
            train(points_run.path, device="cpu")
    (tmp_path / "new").mkdir()
    new = Run(tmp_path / "new", points_run.recipe)
    with new.locked(), pytest.raises(InputError, match="in use"):
        train(points_recipe, new.path, device="cpu")
    assert train(points_recipe, new.path, device="cpu").is_complete
    assert not (new.path / ".lock").exists()


def test_what_the_command_leaves_open_is_the_runs(
    points_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(points_recipe, tmp_path / "run", device="cpu", overrides=["precision=auto", "threads=1"])
    unfinish(first)
    other = "float32" if first.recipe.precision == "bfloat16" else "bfloat16"
    monkeypatch.setattr(recipes, "has_bfloat16", lambda device: other == "bfloat16")
    again = train(points_recipe, tmp_path / "run", device="cpu", overrides=["precision=auto"])
    assert again.is_complete
    assert again.recipe == first.recipe
    with pytest.raises(InputError, match=f"precision is '{first.recipe.precision}' there"):
        train(points_recipe, tmp_path / "run", device="cpu", overrides=[f"precision={other}"])


def test_everything_can_be_read_by_whom_the_umask_lets(points_recipe: Path, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        run = train(points_recipe, tmp_path / "run", device="cpu")
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in run.path.rglob("*") if path.is_file()}
    assert set(modes.values()) == {0o644}, modes


def test_weights_that_may_not_be_read_are_named(points_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = points_run.path / "model" / "model.safetensors"
    opened = Path.open

    def refuse(path: Path, *arguments: Any, **keywords: Any) -> Any:
        if path == weights:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **keywords)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError) as caught:
        saved.load_model(points_run.path)
    assert explain(caught.value)[1].startswith(f"no permission for {weights}:")
    assert "/Data/Set" in explain(OSError("Cannot map /Data/Set"))[1]


def test_a_checkout_that_is_not_installed_works(
    points_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    given: list[set[str]] = []

    def savez(file: object, **arrays: Any) -> None:  # an older NumPy would store all that it is given
        given.append(set(arrays))

    monkeypatch.setattr(np, "savez_compressed", savez)
    write_samples(points_run.path, 3, tmp_path / "s.npz")
    assert given == [{"points"}]


# Names.


@pytest.mark.parametrize(
    "name", ["price ${x}", "a\u00a0b", "\U0001f431", "back\\slash", "photos #2", "2024", "1e5", "a: b"]
)
def test_a_folder_of_any_name_trains(name: str, photos_run: Run, tmp_path: Path) -> None:
    folder = forget(photos_run).rename(tmp_path / name)
    recipe, data = folder_recipe(folder, [], silent())
    assert (recipe.name, root_of(recipe)) == (name, str(folder))
    assert Run.open(Run.create(tmp_path / "run", recipe, data).path).recipe == recipe
    assert root_of(load_recipe("folder", [f"data.root={folder}"])) == str(folder)
    assert load_recipe("folder", [f"name={name}", "data.root=x"]).name == name


@pytest.mark.parametrize(("text", "value"), [("1e3", 1000), ("1_000", 1000), ("010", 10), ("1.0E3", 1000), ("'7'", 7)])
def test_numbers_as_people_write_them(text: str, value: int) -> None:
    assert load_recipe("digits", [f"vae_stage.iterations={text}"]).vae_stage.iterations == value
    assert load_recipe("digits", ["vae_stage.learning_rate=.5e-3"]).vae_stage.learning_rate == 0.5e-3


def test_what_is_no_recipe_is_said_to_be_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.zeros(3))
    with pytest.raises(InputError, match=r"x.npy holds values of shape \(3,\): give a table of shape \(n, dim\)"):
        train("x.npy", device="cpu")
    (tmp_path / "x.pt").write_bytes(b"x")
    with pytest.raises(InputError, match=r"x.pt is a file, but .*\.npz"):
        train("x.pt", device="cpu")


def test_a_folder_does_not_hide_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    with pytest.raises(InputError, match="seed is -1"):
        train("digits", device="cpu", overrides=["seed=-1"])
    with pytest.raises(InputError, match="is empty"):
        train("./digits", device="cpu")


def test_a_key_that_several_stages_have_is_offered_by_all_its_paths() -> None:
    with pytest.raises(InputError) as caught:
        load_recipe("digits", ["learning_rate=1e-4"])
    assert "vae_stage.learning_rate or energy_stage.learning_rate" in str(caught.value)


def test_a_home_directory_is_meant_by_its_sign(
    points_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    run = train("~/points.yaml", "~/runs/x", device="cpu")
    assert run.path == tmp_path / "runs" / "x"
    assert train("~/runs/x", device="cpu").path == run.path
    assert not (tmp_path / "~").exists()

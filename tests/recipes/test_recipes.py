"""Every recipe that comes with the package is read, written, built, trained three steps a stage, and sampled from."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from vaebm.data import DataSet, PublishedSettings
from vaebm.energy import TotalEnergy
from vaebm.experiment.catalogue import FOLDER, Tree, list_recipes, names, read_recipe
from vaebm.experiment.inspect import inspect_recipe
from vaebm.experiment.recipe import Recipe, load_recipe, validate
from vaebm.experiment.train import build_model, build_stages, train
from vaebm.progress import silent
from vaebm.training import vae as vae_stage
from vaebm.training.engine import Engine
from vaebm.training.loop import Training
from vaebm.training.monitor import DivergenceMonitor

STEPS = 3


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipes") / "photos"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for i in range(30):
        Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="session")
def recipe_of(photos: Path) -> Callable[[str], Recipe]:
    return lambda name: load_recipe(name, [f"data.root={photos}"] if name == "folder" else [])


@pytest.fixture(scope="session")
def data_of() -> Callable[[Recipe], DataSet]:
    """Data of a recipe: of a published set noise of its shape."""

    def data(recipe: Recipe) -> DataSet:
        return recipe.data.stand_in(40) if isinstance(recipe.data, PublishedSettings) else recipe.data.load()

    return data


def narrowed(value: Any) -> Any:
    """The same recipe with little of everything: widths, iterations, chains, data."""
    if isinstance(value, list):
        return [narrowed(item) for item in value]
    if not isinstance(value, dict):
        return value
    small: Tree = {}
    for key, item in value.items():
        if key in ("hidden", "widths") and isinstance(item, list):
            small[key] = [4] * len(item)
        elif key == "groups":
            small[key] = [1] * len(item)
        elif key in LEAST and isinstance(item, int):
            small[key] = min(item, LEAST[key])
        else:
            small[key] = narrowed(item)
    return small


LEAST = (
    {
        "stem": 4,
        "latent_dim": 4,
        "latents": 2,
        "cells": 1,
        "expansion": 2,
        "fourier_features": 4,
        "components": 2,
        "codes": 200,
    }
    | {"iterations": STEPS, "rounds": 1, "iterations_per_round": STEPS, "restart_steps": 2, "chains": 16}
    | {"batch_size": 8, "buffer": 64, "steps": 2, "warmup": 2, "proposals": 2, "negatives": 2}
    | {"train_size": 200, "test_size": 100}
)


def test_there_are_some() -> None:
    assert {"digits", "gaussians25", "folder"} <= set(names())
    assert len([path for path in FOLDER.rglob("*") if path.is_file()]) == len(names())


@pytest.mark.parametrize("name", names())
def test_it_is_read_and_written_without_loss(name: str) -> None:
    recipe = load_recipe(name, ["data.root=photos"] if name == "folder" else [])
    again = validate(yaml.safe_load(recipe.to_yaml()), name)
    assert again == recipe
    assert again.to_yaml() == recipe.to_yaml()
    assert recipe.name == name


@pytest.mark.parametrize("name", names())
def test_its_file_says_only_what_exists(name: str) -> None:
    """Neither a key that is dropped by `extends`, nor one that repeats in the file."""
    text = (FOLDER / f"{name}.yaml").read_text()
    assert text.startswith("summary: ")
    assert text.isascii()
    _, tree = read_recipe(name)
    assert yaml.safe_load(yaml.safe_dump(tree)) == tree


@pytest.mark.parametrize("recipe", list_recipes(), ids=lambda recipe: recipe.name)
def test_its_summary_is_one_line(recipe: Any) -> None:
    assert re.fullmatch(r"\S.{10,130}\S", recipe.summary)
    assert not recipe.summary.endswith(".")


@pytest.mark.parametrize("name", names())
def test_it_trains_and_samples(
    name: str, recipe_of: Any, data_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vae_stage, "RECALIBRATION_BATCHES", 2)
    recipe = validate(narrowed(recipe_of(name).model_dump(mode="json")), name)
    engine = Engine("cpu", recipe.seed, None, tmp_path)
    recipe = recipe.for_device(engine.device)
    data = data_of(recipe)
    model = build_model(recipe, data, engine.device)
    guard = DivergenceMonitor(recipe.divergence_monitor)
    stages = build_stages(Training(model, data.train, engine, silent(), recipe.seed), recipe)
    assert len({stage.name for stage in stages}) == len(stages)
    for stage in stages:
        before = {key: value.clone() for key, value in model.state_dict().items()}
        stage.begin()
        for iteration in range(STEPS):
            guard.check(stage.name, stage.step(iteration))
        stage.end()
        assert any(not torch.equal(value, before[key]) for key, value in model.state_dict().items())
    for subject in ("vaebm", "vae", "vae_mixture"):
        x = model.sample(3, subject=subject)
        assert x.shape == (3, *data.shape)
        assert bool(x.isfinite().all())


# A paper's NVAE has a hundred million weights: `vaebm inspect` builds those.
@pytest.mark.parametrize("name", [name for name in names() if name != "folder" and not name.startswith("paper/")])
def test_it_builds_at_full_width(name: str, recipe_of: Any, data_of: Any) -> None:
    recipe = recipe_of(name)
    data = data_of(recipe)
    model = build_model(recipe, data, torch.device("cpu"))
    assert isinstance(model.energy_net, TotalEnergy)
    x = data.test.batch(torch.arange(2)).x
    with torch.no_grad():
        assert model.log_density(x, model.encode(x)).shape == (2,)


def test_the_smallest_recipe_can_be_inspected(tmp_path: Path) -> None:
    recipe = validate(narrowed(load_recipe("gaussians25").model_dump(mode="json")), "gaussians25")
    assert inspect_recipe(recipe, device="cpu").to_json()["recipe"] == "gaussians25"


def test_a_preset_follows_the_pictures(tmp_path: Path) -> None:
    """Censored where pixels saturate, Gaussian where they do not, and an override has the last word."""
    generator = np.random.default_rng(0)
    small = [
        "vae.widths=[4]",
        "vae.latent_dim=2",
        "energy.image=null",
        "energy_stage.phases={}",
        "vae_stage.iterations=1",
    ]
    small += ["code_mixture={components: 2, codes: 100}", "vae_stage.batch_size=4"]
    for name, low, high, kind in [("ink", 0, 2, "censored"), ("soft", 50, 200, "gaussian")]:
        folder = tmp_path / name
        folder.mkdir()
        for i in range(20):
            pixels = generator.integers(low, high, (8, 8), dtype=np.uint8) * (255 if kind == "censored" else 1)
            Image.fromarray(pixels).save(folder / f"{i}.png")
        run = train(folder, tmp_path / f"{name}-run", device="cpu", overrides=small)
        assert (run.recipe.vae.likelihood.kind, run.recipe.name) == (kind, name)
        assert run.recipe.vae.likelihood.model_dump()["scale"] == "pixel"
    forced = train(folder, tmp_path / "forced", device="cpu", overrides=[*small, "vae.likelihood.kind=bernoulli"])
    assert forced.recipe.vae.likelihood.kind == "bernoulli"
    scaled = train(folder, tmp_path / "scaled", device="cpu", overrides=[*small, "vae.likelihood.scale=global"])
    likelihood = scaled.recipe.vae.likelihood.model_dump()
    assert (likelihood["kind"], likelihood["scale"]) == ("gaussian", "global")

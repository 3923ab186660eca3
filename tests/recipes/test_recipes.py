"""Every recipe that comes with the package is read, written, built, trained three steps a stage, and sampled from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from pydantic import BaseModel, Field, create_model

from vaebm.data import DataSet, PublishedSettings
from vaebm.energy import TotalEnergy
from vaebm.experiment.catalogue import FOLDER, list_recipes, names, read_recipe
from vaebm.experiment.inspect import inspect_recipe
from vaebm.experiment.recipe import Recipe, load_recipe, validate
from vaebm.experiment.recipe import recipe_of as recipe_of_kind
from vaebm.experiment.train import build_model, table_recipe, train
from vaebm.models import MODELS
from vaebm.progress import silent
from vaebm.registry import Registry
from vaebm.training import vae as vae_stage
from vaebm.training.engine import Engine
from vaebm.training.monitor import DivergenceMonitor
from vaebm.training.stage import Training
from vaebm.vae.mlp import MLPSettings

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
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipes") / "rows.csv"
    generator = np.random.default_rng(0)
    lines = [f"{generator.normal():.3f},{generator.poisson(2.0)},{'ab'[i % 2]}" for i in range(60)]
    path.write_text("\n".join(["size,count,kind", *lines]))
    return path


@pytest.fixture(scope="session")
def recipe_of(photos: Path, rows: Path) -> Callable[[str], Recipe]:
    def recipe(name: str) -> Recipe:
        if name == "table":
            return table_recipe(rows, [], silent())[0].model_copy(update={"name": name})
        return load_recipe(name, [f"data.root={photos}"] if name == "folder" else [])

    return recipe


@pytest.fixture(scope="session")
def data_of() -> Callable[[Recipe], DataSet]:
    """Data of a recipe: of a published set noise of its shape."""

    def data(recipe: Recipe) -> DataSet:
        return recipe.data.stand_in(40) if isinstance(recipe.data, PublishedSettings) else recipe.data.load()

    return data


SIZES = {
    "hidden": 4,
    "widths": 4,
    "width": 4,
    "stem": 4,
    "latent_dim": 4,
    "fourier_features": 4,
    "expansion": 2,
    "latents": 2,
    "groups": 1,
    "cells": 1,
    "blocks": 1,
    "couplings": 2,
    "bins": 4,
    "components": 2,
    "codes": 200,
    "iterations": STEPS,
    "rounds": 1,
    "iterations_per_round": STEPS,
    "restart_steps": 2,
    "steps": 2,
    "warmup": 2,
    "batch_size": 8,
    "chains": 16,
    "buffer": 64,
    "negatives": 2,
    "members": 2,
    "importance_samples": 2,
    "train_size": 200,
    "test_size": 100,
}
"""What decides how much work a recipe is, by key, and how little of it does."""

OTHERS = {
    *(
        "seed",
        "threads",
        "every",
        "validate_every",
        "every_iterations",
        "keep",
        "window",
        "rollbacks",
    ),  # numbers of a run
    *(
        "n",
        "draws",
        "statistics_n",
        "reference_n",
        "gradients",
    ),  # of measurements, which are not made here, and a bound
    *(
        "bits",
        "size",
        "side",
        "shape",
        "validation",
        "levels",
        "halve",
        "padding",
        "split",
        "decimals",
    ),  # the form of data and nets
    *("warmup_iterations", "kl_zero_iterations", "kl_warmup_iterations", "replay_ramp_iterations"),  # within iterations
}
"""Whole numbers that do not."""


def narrowed(value: Any) -> Any:
    """The same recipe with little of everything: widths, iterations, chains, data."""
    if isinstance(value, list):
        return [narrowed(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: narrowed(item) if isinstance(item, dict) or key not in SIZES else least(SIZES[key], item)
        for key, item in value.items()
    }


def least(size: int, value: Any) -> Any:
    """At most `size`, or as many of that as there are."""
    return [min(size, item) for item in value] if isinstance(value, list) else value and min(size, value)


def settings_below(annotation: Any, seen: set[type[BaseModel]] | None = None) -> Iterator[type[BaseModel]]:
    """All settings that a value of this type may hold, at any depth, each once: a part may hold parts of its kind."""
    seen = set() if seen is None else seen
    if isinstance(annotation, Registry):
        for part in annotation.values():
            yield from settings_below(annotation.settings(part), seen)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in seen:
        seen.add(annotation)
        yield annotation
        for field in annotation.model_fields.values():
            for part in (field.annotation, *field.metadata):
                yield from settings_below(part, seen)
    for part in get_args(annotation):
        yield from settings_below(part, seen)


def whole_numbers(recipe: type[BaseModel]) -> set[str]:
    """Keys anywhere in a recipe whose values are whole numbers, or lists of them."""

    def holds_one(annotation: Any) -> bool:
        return annotation is int or (
            get_origin(annotation) is not Literal and any(map(holds_one, get_args(annotation)))
        )

    return {
        key
        for settings in settings_below(recipe)
        for key, field in settings.model_fields.items()
        if holds_one(field.annotation)
    }


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_every_setting_is_described(kind: str) -> None:
    """In three words at least; `kind` chooses the settings that it stands in, and their docstring may say what."""

    def words(settings: type[BaseModel], name: str) -> int:
        texts = [settings.model_fields[name].description, settings.__doc__ if name == "kind" else None]
        return max(len((text or "").split()) for text in texts)

    silent_ones = {
        f"{settings.__name__}.{name}"
        for settings in settings_below(recipe_of_kind(kind))
        for name in settings.model_fields
        if words(settings, name) < 3
    }
    assert silent_ones == set()


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_every_whole_number_is_known_as_a_size_or_as_none(kind: str) -> None:
    """A new size that is not in `SIZES` would be trained at full width here, and nobody would see why it is slow."""
    found = whole_numbers(recipe_of_kind(kind))
    assert found - SIZES.keys() - OTHERS == set(), "put it into SIZES, or into OTHERS if it decides no work"
    assert not SIZES.keys() & OTHERS


def test_no_size_is_left_over() -> None:
    found = set().union(*(whole_numbers(recipe_of_kind(kind)) for kind in MODELS))
    assert (SIZES.keys() | OTHERS) - found == set()


def test_a_new_size_is_found_wherever_it_is() -> None:
    class Deep(BaseModel):
        depth: Annotated[list[int], Field(min_length=1)] | None = None
        kind: Literal[3] = 3
        rate: float = 1.0

    class Wide(BaseModel):
        phases: dict[str, MLPSettings | Deep | None] = {}

    assert whole_numbers(create_model("New", __base__=Recipe, wide=(Wide, Wide()))) - SIZES.keys() - OTHERS == {"depth"}


def test_there_are_some() -> None:
    assert {"digits", "gaussians25", "folder"} <= set(names())
    assert len([path for path in FOLDER.rglob("*") if path.is_file()]) == len(names())


@pytest.mark.parametrize("name", names())
def test_it_is_read_and_written_without_loss(name: str) -> None:
    recipe = load_recipe(name, ["data.root=photos"] if name in ("folder", "table") else [])
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
    monitor = DivergenceMonitor(recipe.divergence_monitor)
    stages = recipe.training_settings().stages(Training(model, data.train, engine, silent(), recipe.seed))
    assert len({stage.name for stage in stages}) == len(stages)
    for stage in stages:
        before = {key: value.clone() for key, value in model.state_dict().items()}
        stage.begin()
        for iteration in range(STEPS):
            monitor.check(stage.name, stage.step(iteration))
        stage.end()
        assert any(not torch.equal(value, before[key]) for key, value in model.state_dict().items())
    for subject in model.subjects[:3]:
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
    assert inspect_recipe(recipe, device="cpu").numbers["recipe"] == "gaussians25"


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

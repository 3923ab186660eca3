"""`vaebm recipes NAME`: one recipe, complete."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from vaebm.experiment.catalogue import list_recipes
from vaebm.experiment.recipe import load_recipe


def test_a_recipe_is_printed_complete(command: Any, tmp_path: Path) -> None:
    """What is printed can be saved and trained: it means the same without the file it extends, or any default."""
    done = command("recipes", "digits-paper")
    assert done.status == 0
    summary = next(recipe.summary for recipe in list_recipes() if recipe.name == "digits-paper")
    first, *rest = done.out.splitlines()
    assert first.startswith("#")
    assert summary in first
    assert yaml.safe_load("\n".join(rest)) == load_recipe("digits-paper").model_dump(mode="json")
    copy = tmp_path / "copy.yaml"
    copy.write_text(done.out)
    assert load_recipe(copy) == load_recipe("digits-paper")


def test_overrides_and_json(command: Any) -> None:
    done = command("recipes", "gaussians25", "--json", "seed=7", "sampler.kind=hmc")
    printed = json.loads(done.out)
    assert (printed["seed"], printed["sampler"]["kind"], printed["name"]) == (7, "hmc", "gaussians25")
    assert "seed: 7\n" in command("recipes", "gaussians25", "seed=7").out


def test_a_recipe_file(command: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: gaussians25\nsummary: mine\nseed: 3\n")
    printed = yaml.safe_load(command("recipes", str(tmp_path / "mine.yaml")).out)
    assert (printed["name"], printed["summary"], printed["seed"]) == ("mine", "mine", 3)


@pytest.mark.parametrize(("words", "hint"), [(["digitz"], "'digits'"), (["digits", "vae.latentdim=3"], "latent_dim")])
def test_what_does_not_exist_is_answered_by_the_nearest(words: list[str], hint: str, command: Any) -> None:
    done = command("recipes", *words)
    assert (done.status, done.out) == (2, "")
    assert hint in done.err

"""Recipes as files: extension, merging by kind, overrides, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vaebm.errors import InputError
from vaebm.experiment.catalogue import list_recipes, merge, names, override_tree, overrides_tree, read_recipe
from vaebm.experiment.recipe import load_recipe


def write(folder: Path, **recipes: str) -> None:
    for name, text in recipes.items():
        (folder / f"{name}.yaml").write_text(text)


@pytest.mark.parametrize(
    ("override", "tree"),
    [
        ("seed=1", {"seed": 1}),
        ("a.b.c=x", {"a": {"b": {"c": "x"}}}),
        ("rate=1e-4", {"rate": 1e-4}),
        ("rate=.5", {"rate": 0.5}),
        ("hidden=[1, 2]", {"hidden": [1, 2]}),
        ("sampler={kind: mala, steps: 3}", {"sampler": {"kind": "mala", "steps": 3}}),
        ("term=null", {"term": None}),
        ("term=", {"term": None}),
        ("on=true", {"on": True}),
        ("summary=a=b", {"summary": "a=b"}),
        ("summary='1'", {"summary": "1"}),
    ],
)
def test_an_override_is_read_as_yaml(override: str, tree: dict[str, Any]) -> None:
    assert override_tree(override) == tree


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("seed", "override 'seed' has no value: write key=value, such as seed=1"),
        ("=1", "override '=1' has no value"),
        ("a=[1", "the value of override 'a=[1' cannot be read: write it as in YAML"),
    ],
)
def test_an_override_that_cannot_be_read(override: str, sentence: str) -> None:
    with pytest.raises(InputError) as refusal:
        override_tree(override)
    assert str(refusal.value).startswith(sentence)


def test_merging() -> None:
    base = {"a": 1, "part": {"x": 1, "y": {"z": 2}}, "list": [1, 2], "none": None}
    over = {"part": {"y": {"w": 3}}, "list": [3], "none": {"k": 1}, "new": 4}
    merged = {"a": 1, "part": {"x": 1, "y": {"z": 2, "w": 3}}, "list": [3], "none": {"k": 1}, "new": 4}
    assert merge(base, over) == merged
    assert base["part"] == {"x": 1, "y": {"z": 2}}
    assert merge(base, {"part": None})["part"] is None


def test_another_kind_drops_what_belonged_to_the_first() -> None:
    base = {"sampler": {"kind": "langevin", "step_size": 0.1, "steps": 5}}
    assert merge(base, {"sampler": {"kind": "mala"}}) == {"sampler": {"kind": "mala"}}
    assert merge(base, {"sampler": {"kind": "langevin", "steps": 6}})["sampler"]["step_size"] == 0.1
    assert merge(base, {"sampler": {"steps": 6}})["sampler"] == {"kind": "langevin", "step_size": 0.1, "steps": 6}


def test_the_order_of_overrides_of_one_part_does_not_matter() -> None:
    words = ["sampler.steps=7", "sampler.kind=mala", "seed=1"]
    assert overrides_tree(words) == overrides_tree(words[::-1])
    for order in (words, words[::-1]):
        sampler = load_recipe("digits", order).sampler
        assert (sampler.kind, sampler.steps) == ("mala", 7)
    assert load_recipe("digits", ["seed=1", "seed=2"]).seed == 2  # the last word counts


def test_extends(tmp_path: Path) -> None:
    write(
        tmp_path,
        grandparent="summary: first\nseed: 1\nvae: {kind: mlp, hidden: [8]}\n",
        parent="extends: grandparent\nsummary: second\nvae: {latent_dim: 3}\n",
        child="extends: parent\nvae: {kind: conv}\nsampler: {kind: mala}\n",
        digits_child="extends: digits\nseed: 5\n",
    )
    name, tree = read_recipe(tmp_path / "parent.yaml")
    assert name == "parent"
    assert tree == {"summary": "second", "seed": 1, "vae": {"kind": "mlp", "hidden": [8], "latent_dim": 3}}
    _, tree = read_recipe(tmp_path / "child.yaml", ["seed=2"])
    assert tree == {"summary": "second", "seed": 2, "vae": {"kind": "conv"}, "sampler": {"kind": "mala"}}
    assert load_recipe(tmp_path / "digits_child.yaml").seed == 5  # of the package, where none lies beside
    with pytest.raises(InputError, match=r"there is no recipe file .*lost.yaml"):
        read_recipe(tmp_path / "lost.yaml")


def test_extending_in_a_circle(tmp_path: Path) -> None:
    write(tmp_path, a="extends: b\n", b="extends: c\n", c="extends: a\n", me="extends: me\n")
    for name in ("a", "me"):
        with pytest.raises(InputError, match=f"{name}.yaml extends itself: remove one `extends`"):
            read_recipe(tmp_path / f"{name}.yaml")


def test_a_recipe_beside_may_have_the_name_of_one_that_comes_with_the_package(tmp_path: Path) -> None:
    write(tmp_path, digits="extends: digits\n", mine="extends: digits\n")
    with pytest.raises(InputError, match="extends itself"):
        read_recipe(tmp_path / "digits.yaml")


def test_the_list() -> None:
    recipes = list_recipes()
    assert [recipe.name for recipe in recipes] == names()
    assert {"digits", "gaussians25"} <= set(names())
    for recipe in recipes:
        assert recipe.summary.strip() == recipe.summary != ""
        assert "\n" not in recipe.summary
        assert len(recipe.summary) < 140


WRONG = [
    ("sead=1", "there is no key sead: did you mean seed?"),
    ("vae.latent_dims=1", "there is no key vae.latent_dims: did you mean vae.latent_dim?"),
    ("vae.likelihood.scal=pixel", "there is no key vae.likelihood.scal: did you mean vae.likelihood.scale?"),
    ("energy.image.stam=3", "there is no key energy.image.stam: did you mean energy.image.stem?"),
    ("sampler.step_sise=3", "there is no key sampler.step_sise: did you mean sampler.step_size?"),
    (
        "energy_stage.phases.ratio.iteration=3",
        "there is no key energy_stage.phases.ratio.iteration: did you mean energy_stage.phases.ratio.iterations?",
    ),
    ("energy_stage.latent.iteration=3", "there is no key energy_stage.latent.iteration: did you mean"),
    ("zzzzzz=3", "there is no key zzzzzz: remove it"),
    ("checkpoint.zzzzzz=3", "there is no key checkpoint.zzzzzz: remove it"),
    ("seed=x", "seed is 'x': input should be a valid integer"),
    ("seed=-1", "seed is -1: input should be greater than or equal to 0"),
    ("seed=1.5", "seed is 1.5: input should be a valid integer"),
    ("seed=", "seed is None: input should be a valid integer"),
    ("vae_stage.learning_rate=0", "vae_stage.learning_rate is 0: input should be greater than 0"),
    ("vae_stage=3", "vae_stage is 3: input should be a valid dictionary"),
    ("vae.hidden=[8, x]", "vae.hidden.1 is 'x': input should be a valid integer"),
    ("vae.kind=gan", "vae.kind is 'gan': it is one of 'mlp', 'conv'"),
    ("sampler.kind=nuts", "sampler.kind is 'nuts': it is one of 'langevin', "),
    ("sampler={steps: 3, kind: null}", "sampler.kind is missing: it is one of 'langevin', 'underdamped', "),
    ("energy_stage.phases.more={iterations: 3}", "energy_stage.phases.more.kind is missing: set it"),
    ("energy.joint={kind: conv}", "energy.joint.kind is 'conv': it is one of 'mlp', 'residual'"),
    ("energy.joint={kind: residual, halve: [7]}", "energy.joint is {'kind': 'residual'"),
    ("energy.image.halve=[7]", "energy.image is {'kind': 'residual'"),
    ("show=both", "show is 'both': input should be 'sample', 'mean' or 'denoised'"),
    ("energy_stage.phases.ratio.betas=[0.9]", "energy_stage.phases.ratio.betas.1 is missing: set it"),
    (
        "code_mixture={components: 60, codes: 100}",
        "code_mixture is {'components': 60, 'codes': 100}: codes is 100, but",
    ),
    (
        "energy_stage.phases.ratio.betas=[0.9, 1.0]",
        "energy_stage.phases.ratio.betas.1 is 1.0: input should be less than 1",
    ),
    ("energy_stage.learning_rate=inf", "energy_stage.learning_rate is inf: input should be a finite number"),
]


@pytest.mark.parametrize(("override", "sentence"), WRONG, ids=[override for override, _ in WRONG])
def test_what_is_said_of_a_wrong_value(override: str, sentence: str) -> None:
    with pytest.raises(InputError) as refusal:
        load_recipe("digits", [override])
    assert str(refusal.value).startswith(f"recipe digits: {sentence}")
    assert "\n" not in str(refusal.value)


def test_a_missing_part(tmp_path: Path) -> None:
    write(tmp_path, bare="summary: nothing\n", odd="extends: digits\nvae: {1: 2}\n", number="3: 4\nextends: digits\n")
    with pytest.raises(InputError, match=r"bare.yaml: .* is missing: set it"):
        load_recipe(tmp_path / "bare.yaml")
    with pytest.raises(InputError, match=r"odd.yaml: .*vae.1"):
        load_recipe(tmp_path / "odd.yaml")
    with pytest.raises(InputError, match=r"number.yaml: there is no key 3: remove it"):
        load_recipe(tmp_path / "number.yaml")


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2\n", "just words", "a: ${b}\n", "\x00", "a: 1\na: 2\n"])
def test_no_recipe_at_all(text: str, tmp_path: Path) -> None:
    write(tmp_path, bad=text)
    with pytest.raises(InputError, match=r"bad.yaml"):
        load_recipe(tmp_path / "bad.yaml")


def test_the_name_is_the_files_unless_the_recipe_says_another(tmp_path: Path) -> None:
    write(tmp_path, mine="extends: digits\n", named="extends: digits\nname: other\n")
    assert load_recipe(tmp_path / "mine.yaml").name == "mine"
    assert load_recipe(tmp_path / "named.yaml").name == "other"

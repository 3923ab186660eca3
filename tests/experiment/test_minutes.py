"""Recipes cut to the time: by rates that are known, and by those of this machine."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vaebm.errors import InputError
from vaebm.experiment import minutes
from vaebm.experiment.minutes import Rates, fitted, measured_rates, training_seconds
from vaebm.experiment.recipe import Recipe, load_recipe
from vaebm.experiment.run_directory import Run
from vaebm.experiment.train import default_minutes, folder_recipe, planned, train
from vaebm.progress import silent

SMALL = ["vae.widths=[4, 4]", "energy.image.stem=4", "energy.image.widths=[4]", "energy.image.halve=[]"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("minutes") / "faces"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for i in range(40):
        Image.fromarray(generator.integers(0, 256, (40, 32), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], list[tuple[int, ...]]]:
    """`rates(s)`: a step on 32 x 40 pixels takes s seconds, other sizes in proportion to their pixels."""

    def known(seconds: float) -> list[tuple[int, ...]]:
        asked: list[tuple[int, ...]] = []

        def of(recipe: Recipe, shape: tuple[int, ...], device: str | None) -> Rates:
            asked.append(shape)
            step = seconds * shape[1] * shape[2] / (32 * 40)
            return Rates({"vae": step, "ratio": step, "rounds": step}, step / 100)

        monkeypatch.setattr(minutes, "measured_rates", of)
        return asked

    return known


def test_training_is_iterations_times_steps_and_chains_times_gradients() -> None:
    phases = {
        "ratio": {"kind": "density_ratio", "iterations": 30},
        "rounds": {
            "kind": "ratio_rounds",
            "rounds": 3,
            "iterations_per_round": 5,
            "chains": 100,
            "restart_fraction": 0.5,
            "restart_steps": 4,
            "sampler": {"kind": "langevin", "steps": 7},
        },
        "short": {"kind": "contrastive_divergence", "iterations": 10, "sampler": {"kind": "langevin", "steps": 9}},
    }
    recipe = load_recipe("folder", ["data.root=x", "vae_stage.iterations=200", f"energy_stage.phases={phases}"])
    found = training_seconds(recipe, Rates({"vae": 0.5, "ratio": 0.1, "rounds": 0.2, "short": 0.3}, 0.001))
    # The pool begins with 4 steps; in each of two further rounds half of it does so again, the other half takes 7.
    of_pool, of_short = 100 * (4 + 2 * (0.5 * 4 + 0.5 * 7)), recipe.energy_stage.batch_size * 10 * 9
    assert found == pytest.approx(200 * 0.5 + 30 * 0.1 + 15 * 0.2 + 10 * 0.3 + 0.001 * (of_pool + of_short))
    doubled = minutes._scaled(recipe, 2.0, 1.0, Rates({}, 0.001))
    assert [doubled.energy_stage.phases[name].iterations for name in phases] == [60, 30, 20]


def test_what_fits_stays_whole_and_at_most_doubles(
    images: Path, rates: Callable[[float], list[tuple[int, ...]]]
) -> None:
    asked = rates(1e-4)
    recipe, data = folder_recipe(images, [], silent())
    chosen, same = fitted(recipe, data, 30, "cpu", silent())
    assert asked == [(1, 40, 32)]
    assert same is data
    assert chosen.vae_stage.iterations == 2 * recipe.vae_stage.iterations
    assert chosen.minutes == 30


def test_the_time_is_kept_by_iterations_then_by_size(
    images: Path, rates: Callable[[float], list[tuple[int, ...]]]
) -> None:
    recipe, data = folder_recipe(images, [], silent())
    for step, sizes in ((0.4, 1), (5.0, None)):
        asked = rates(step)
        chosen, there = fitted(recipe, data, 30, "cpu", silent())
        assert sizes in (None, len(asked))
        assert there.shape == asked[-1]
        assert (there.shape == (1, 40, 32)) == (sizes == 1)
        spent = training_seconds(chosen, minutes.measured_rates(chosen, there.shape, "cpu"))
        assert 0.5 * 30 * 60 < spent < 0.85 * 30 * 60
        assert chosen.evaluation.n is not None


def test_a_time_that_is_too_short_says_which_would_do(
    images: Path, rates: Callable[[float], list[tuple[int, ...]]]
) -> None:
    rates(100.0)
    recipe, data = folder_recipe(images, [], silent())
    with pytest.raises(InputError, match="too short: give about"):
        fitted(recipe, data, 2, "cpu", silent())
    with pytest.raises(InputError, match="at least 2"):
        fitted(recipe, data, 1, "cpu", silent())
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="positive"):
            fitted(recipe, data, wrong, "cpu", silent())


def test_arrays_keep_their_size(tmp_path: Path, rates: Callable[[float], list[tuple[int, ...]]]) -> None:
    asked = rates(1.0)
    path = tmp_path / "a.npz"
    np.savez(path, images=np.random.default_rng(0).integers(0, 256, (40, 40, 32, 1), dtype=np.uint8))
    recipe, data = folder_recipe(path, [], silent())
    chosen, _ = fitted(recipe, data, 30, "cpu", silent())
    assert asked == [(1, 40, 32)]
    assert chosen.vae_stage.iterations < recipe.vae_stage.iterations


def test_a_folder_gets_its_minutes_unless_it_is_said_how_large_or_how_long() -> None:
    assert default_minutes([]) == default_minutes(["seed=1"]) == 30
    assert default_minutes(["data.size=16"]) is default_minutes(["vae_stage.iterations=9"]) is None


def test_the_rates_are_of_every_stage_of_this_machine(images: Path) -> None:
    found = measured_rates(load_recipe("folder", ["data.root=x", *SMALL]), (1, 12, 8), "cpu")
    assert found.steps.keys() == {"vae", "ratio", "rounds"}
    assert all(0 < seconds < 5 for seconds in found.steps.values())
    assert 0 < found.gradient < 1


def test_points_are_measured_as_points() -> None:
    recipe = load_recipe("gaussians25", ["vae.hidden=[8]", "energy.image.hidden=[8]", "code_mixture.components=1"])
    found = measured_rates(recipe, (2,), "cpu")
    assert {"vae", "ratio"} <= found.steps.keys()
    assert found.gradient > 0


def test_a_run_keeps_what_was_chosen(
    images: Path, tmp_path: Path, rates: Callable[[float], list[tuple[int, ...]]]
) -> None:
    rates(1e-4)
    shorter = [*SMALL, "vae_stage.iterations=3", "energy_stage.phases.ratio.iterations=2"]
    shorter += ["energy_stage.phases.rounds=null", "code_mixture.components=1"]
    first = train(images, tmp_path / "run", overrides=shorter, minutes=2, device="cpu")
    assert first.recipe.vae_stage.iterations == 6
    rates(1e-2)  # the machine is slower today
    again = train(images, tmp_path / "run", overrides=shorter, minutes=2, device="cpu")
    assert again.recipe == Run.open(tmp_path / "run").recipe == first.recipe
    with pytest.raises(InputError, match="keeps its recipe"):
        train(tmp_path / "run", minutes=3, device="cpu")
    with pytest.raises(InputError, match="seed is 0 there, 1 here"):
        train(images, tmp_path / "run", overrides=[*shorter, "seed=1"], minutes=2, device="cpu")


def test_inspecting_says_what_training_would_do(images: Path, rates: Callable[[float], list[tuple[int, ...]]]) -> None:
    rates(5.0)
    recipe = planned(str(images), [], None, "cpu", silent())
    assert recipe.minutes == 30
    assert recipe.data.model_dump()["size"] is not None
    assert planned(str(images), ["data.size=16"], None, "cpu", silent()).minutes is None
    assert planned("digits", [], None, "cpu", silent()).minutes is None
    with pytest.raises(InputError, match="leave it away"):
        planned("cebm/digits", [], 1, "cpu", silent())
    with pytest.raises(InputError, match="positive"):
        planned(str(images), [], 0, "cpu", silent())
    with pytest.raises(InputError, match="positive"):
        train(images, minutes=0, device="cpu")

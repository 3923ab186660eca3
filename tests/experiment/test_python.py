"""The Python names: train with overrides of any form, load, sample, energy, log_density, encode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vaebm
from vaebm import VAEBM
from vaebm.errors import InputError


def test_overrides_as_dicts_and_dotted(points_recipe: Path, tmp_path: Path) -> None:
    run = vaebm.train(
        points_recipe,
        out=tmp_path / "run",
        device="cpu",
        quiet=True,
        seed=3,
        vae={"hidden": [6], "likelihood": {"kind": "gaussian", "initial_scale": 0.3}},
        energy={"latent": None},
        sampler={"step_size": 1e-05, "steps": 4, "kind": "mala"},
        **{"vae_stage.iterations": 2, "energy_stage.phases.ratio.iterations": 2, "summary": "it's 100 % {mine}: yes"},
    )
    recipe = run.recipe
    assert run.path == tmp_path / "run"
    assert recipe.seed == 3
    assert recipe.vae.model_dump()["hidden"] == [6]
    assert recipe.vae.likelihood.model_dump()["initial_scale"] == 0.3
    assert recipe.energy.latent is None
    sampler = recipe.sampler.model_dump()
    assert (sampler["kind"], sampler["step_size"], sampler["steps"]) == ("mala", 1e-05, 4)
    assert recipe.vae_stage.iterations == 2
    ratio = recipe.energy_stage.phases["ratio"]
    assert ratio is not None
    assert ratio.iterations == 2
    assert recipe.summary == "it's 100 % {mine}: yes"
    assert run.is_complete


def test_wrong_overrides(points_recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no key vae.hiden: did you mean vae.hidden?"):
        vaebm.train(points_recipe, tmp_path / "run", quiet=True, vae={"hiden": [6]})
    with pytest.raises(InputError, match="seed is 'one'"):
        vaebm.train(points_recipe, tmp_path / "run", quiet=True, seed="one")
    assert not (tmp_path / "run").exists()


def test_progress_is_on_standard_error(points_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vaebm.train(str(points_recipe), str(tmp_path / "run"), device="cpu")
    said = capsys.readouterr()
    assert said.out == ""
    assert "400 training, 10,000 validation and 200 held-out points" in said.err
    assert "vae: 10 iterations in " in said.err


def test_a_model_of_points(trained_points: Path) -> None:
    model = vaebm.load(trained_points)
    assert isinstance(model, VAEBM)
    assert not model.training
    x = model.sample(5, seed=1)
    assert (x.shape, x.dtype) == ((5, 2), torch.float32)
    assert torch.equal(x, model.sample(5, seed=1))
    assert not torch.equal(x, model.sample(5, seed=2))
    z = model.encode(x)
    assert z.shape == (5, 2)
    assert model.energy(x, z).shape == model.log_density(x, z).shape == (5,)
    joint = model.vae.log_joint(x, z)
    assert torch.allclose(model.log_density(x, z), joint - model.energy(x, z), atol=1e-4)
    with pytest.raises(InputError, match="n is"):
        model.sample(0)


def test_a_model_of_images(trained_digits: Path) -> None:
    model = vaebm.load(trained_digits)
    for show in ("sample", "mean", "denoised"):
        images = model.sample(3, show=show)
        assert images.shape == (3, 1, 8, 8)
        assert float(images.min()) >= 0
        assert float(images.max()) <= 1
    for subject in ("vae", "vae_mixture"):
        assert model.sample(3, subject=subject).shape == (3, 1, 8, 8)


def test_z_may_be_left_out_where_no_term_needs_it(points_recipe: Path, tmp_path: Path, trained_points: Path) -> None:
    small: dict[str, Any] = {"vae_stage.iterations": 1, "energy_stage.phases.ratio.iterations": 1}
    vaebm.train(points_recipe, tmp_path / "run", device="cpu", quiet=True, energy={"latent": None}, **small)
    model = vaebm.load(tmp_path / "run")
    x = model.sample(4)
    assert model.energy(x).shape == (4,)
    with pytest.raises(ValueError, match="pass z"):
        vaebm.load(trained_points).energy(x)


def test_a_saved_folder_is_a_model(trained_points: Path, tmp_path: Path) -> None:
    model = vaebm.load(trained_points)
    model.save_pretrained(tmp_path / "saved")
    again = VAEBM.from_pretrained(tmp_path / "saved")
    assert torch.equal(model.sample(4), again.sample(4))
    assert torch.equal(model.sample(4), VAEBM.from_pretrained(trained_points / "model").sample(4))


def test_every_door_knows_runs_and_models(trained_points: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = vaebm.load(trained_points).sample(4)
    doors = [
        vaebm.load(trained_points / "model"),
        vaebm.load(str(trained_points), device=torch.device("cpu")),
        VAEBM.from_pretrained(trained_points, device=torch.device("cpu")),
        VAEBM.from_pretrained(str(trained_points / "model"), device="cpu"),
        vaebm.Run.open(trained_points / "model").model(torch.device("cpu")),
        vaebm.Run.open(vaebm.Run.open(trained_points)).model(),
    ]
    monkeypatch.setenv("HOME", str(trained_points.parent))
    doors += [vaebm.load(f"~/{trained_points.name}"), vaebm.Run.open(f"~/{trained_points.name}").model()]
    for model in doors:
        assert torch.equal(model.sample(4), expected)


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "tpu:0"])
def test_a_device_that_does_not_exist_is_named(trained_points: Path, device: str) -> None:
    for door in (vaebm.load, VAEBM.from_pretrained):
        with pytest.raises(InputError, match=device) as refusal:
            door(trained_points, device=device)
        assert "damaged" not in str(refusal.value)


def test_doors_name_each_other(trained_points: Path, tmp_path: Path, points_run: Any) -> None:
    vaebm.load(trained_points).save_pretrained(tmp_path / "alone")
    with pytest.raises(InputError, match=r"vaebm\.load"):
        vaebm.Run.open(tmp_path / "alone")
    (points_run.path / "model").rename(points_run.path / "away")
    with pytest.raises(InputError, match="vaebm train"):
        VAEBM.from_pretrained(points_run.path)


def test_a_home_directory_is_expanded_when_saving(
    trained_points: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    vaebm.load(trained_points).save_pretrained("~/saved")
    assert (tmp_path / "saved" / "config.json").is_file()
    assert not (tmp_path / "~").exists()


def test_numbers_of_other_libraries_are_overrides(points_recipe: Path, tmp_path: Path) -> None:
    more: dict[str, Any] = {
        "vae_stage.iterations": np.int32(1),
        "energy_stage.phases.ratio.iterations": torch.tensor(1),
    }
    run = vaebm.train(
        points_recipe,
        tmp_path / "run",
        device="cpu",
        quiet=True,
        seed=np.random.default_rng(0).integers(10),
        vae={"hidden": np.array([6, 7])},
        sampler={"step_size": np.float32(0.25)},
        **more,
    )
    assert (run.recipe.seed, run.recipe.vae.hidden, run.recipe.sampler.step_size) == (8, [6, 7], 0.25)


def test_a_model_in_another_precision_is_saved_in_it(trained_points: Path, tmp_path: Path) -> None:
    model = vaebm.load(trained_points).double()
    model.save_pretrained(tmp_path / "double")
    again = vaebm.load(tmp_path / "double")
    assert again.dtype == torch.float64
    assert torch.equal(again.sample(3), model.sample(3))


def test_loading_what_is_not_there(tmp_path: Path, points_run: Any) -> None:
    with pytest.raises(InputError, match="there is no run"):
        vaebm.load(tmp_path / "lost")
    (points_run.path / "model").rename(points_run.path / "away")
    with pytest.raises(InputError, match="has no model yet: finish it with `vaebm train"):
        vaebm.load(points_run.path)


def test_a_folder_of_images_is_trained_on(trained_photos: Path) -> None:
    run = vaebm.Run.open(trained_photos)
    assert run.recipe.name == "photos"
    assert run.recipe.data.kind == "folder"
    assert run.recipe.vae.likelihood.kind == "gaussian"  # none of their pixels is quite black or white
    assert vaebm.load(trained_photos).sample(2).shape == (2, 3, 8, 10)

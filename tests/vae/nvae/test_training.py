"""Both stages on an NVAE, end to end: trained, resumed, saved, sampled, encoded, measured and inspected."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import vaebm
from vaebm.cli import main
from vaebm.experiment.inspect import inspect_recipe
from vaebm.experiment.recipe import load_recipe
from vaebm.experiment.run_directory import Run
from vaebm.experiment.train import build_model, train
from vaebm.nn.batch_norm import batch_norm_layers
from vaebm.progress import silent
from vaebm.training.engine import Engine
from vaebm.training.loop import Loop
from vaebm.training.stage import Training
from vaebm.vae.nvae.model import NVAE

RECIPE = """\
summary: every stage of an NVAE on digits, in seconds
data: {kind: digits}
vae: {kind: nvae, widths: [4, 6], groups: [1, 2], latents: 2, likelihood: {kind: censored, scale: pixel}}
code_mixture: {components: 2, codes: 200}
energy: {image: {kind: residual, stem: 4, widths: [4, 6], halve: [0]}, latent: {kind: correction, hidden: [8]}}
sampler: {kind: mala, step_size: 0.01, steps: 2, warmup: 2}
init: {importance_samples: 2}
vae_stage: {iterations: 6, batch_size: 16, optimizer: adamax, spectral: 0.01, kl_warmup_iterations: 3}
energy_stage:
  batch_size: 16
  latent: {iterations: 3, batch_size: 16}
  phases:
    ratio: {kind: density_ratio, iterations: 3}
    rounds: {kind: ratio_rounds, rounds: 2, iterations_per_round: 2, chains: 32, restart_steps: 3}
logging: {every: 1}
threads: 1
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny-nvae.yaml"
    path.write_text(RECIPE)
    return path


def weights(run: Run) -> dict[str, torch.Tensor]:
    return run.model("cpu").state_dict()


@pytest.mark.parametrize("norm", ["weight", "batch"])
def test_it_trains_in_both_stages_and_serves_every_command(recipe: Path, tmp_path: Path, norm: str) -> None:
    run = train(recipe, tmp_path / "run", device="cpu", overrides=[f"vae.norm={norm}"])
    rows = run.history()
    assert {"kl_z1", "kl_z2", "kl_z3", "elbo"} <= rows[0].keys()
    assert [row["stage"] for row in rows if row["iteration"] == 1] == ["vae", "latent_energy", "ratio", "rounds"]

    model = vaebm.load(run.path)
    assert isinstance(model.vae, NVAE)
    assert not any(module.training for module in model.modules())
    assert model.mixture.means.shape == (2, model.vae.code_dim)
    x = run.data().test.batch(torch.arange(5)).x
    z = model.encode(x)
    assert z.shape == (5, model.vae.latent_dim)
    assert model.log_density(x, z).isfinite().all()
    for subject in ("vaebm", "vae", "vae_mixture"):
        for show in ("sample", "mean", "denoised"):
            shown = model.sample(3, subject=subject, show=show)
            assert shown.shape == (3, 1, 8, 8)
            assert shown.isfinite().all()
            assert torch.equal(shown, model.sample(3, subject=subject, show=show))

    assert main(["sample", str(run.path), "--n", "3", "--out", str(tmp_path / "samples.npz"), "--quiet"]) == 0
    assert main(["evaluate", str(run.path), "--n", "40", "--quiet", "--only", "elbo,frechet_distance"]) == 0
    assert {m["name"] for m in json.loads((run.path / "measurements.json").read_text())} == {"elbo", "frechet_distance"}
    assert main(["inspect", str(run.path)]) == 0
    assert inspect_recipe(load_recipe(recipe), device="cpu").numbers["noise_dim"] == model.noise.dim


@pytest.mark.parametrize("norm", ["weight", "batch"])
@pytest.mark.parametrize("iterations", [3, 7])
def test_a_stopped_run_goes_on_to_the_same_weights(
    recipe: Path, tmp_path: Path, norm: str, iterations: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [f"vae.norm={norm}", "checkpoint.every_seconds=0"]
    whole = train(recipe, tmp_path / "whole", device="cpu", overrides=overrides)
    check, seen = Loop._check, 0

    def stop(loop: Loop, where: str, figures: dict[str, float]) -> None:
        nonlocal seen
        seen += 1
        if seen > iterations:
            raise KeyError("power cut")
        check(loop, where, figures)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_check", stop)
        with pytest.raises(KeyError, match="power cut"):
            train(recipe, tmp_path / "cut", device="cpu", overrides=overrides)
    again = train(tmp_path / "cut", device="cpu")
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(again)[name]), name


def test_statistics_of_batch_norms_are_those_of_the_averaged_weights(recipe: Path, tmp_path: Path) -> None:
    settings = load_recipe(recipe, ["vae.norm=batch", "vae_stage.batch_size=200", "vae_stage.ema_decay=0.5"])
    data, engine = settings.data.load(), Engine("cpu", 0, None, tmp_path)
    model = build_model(settings, data, engine.device)
    stage = settings.training_settings().stages(Training(model, data.train, engine, silent(), 0))[0]
    stage.begin()
    assert model.vae.training
    for iteration in range(6):
        stage.step(iteration)
    stage.end()
    assert not model.vae.training
    assert isinstance(model.vae, NVAE)
    stem = model.vae.tower.stem
    found = stem.running_mean.clone(), stem.running_var.clone()
    with torch.no_grad():
        y = torch.nn.functional.conv2d(data.train.all(), stem.weight, None, padding=1).transpose(0, 1).flatten(1)
    # 50 batches of 200 out of 1,237 images: within a few standard errors of the whole set's.
    assert ((found[0] - y.mean(1)).abs() < 0.05 * y.std(1)).all()
    torch.testing.assert_close(found[1], y.var(1), rtol=0.05, atol=0.0)
    assert all(layer.momentum < 0.1 for layer in batch_norm_layers(model))


def test_the_spectral_penalty_keeps_layers_flat(recipe: Path, tmp_path: Path) -> None:
    def norm(spectral: float) -> float:
        settings = load_recipe(recipe, [f"vae_stage.spectral={spectral}", "vae_stage.learning_rate=0.02"])
        data, engine = settings.data.load(), Engine("cpu", 0, None, tmp_path)
        model = build_model(settings, data, engine.device)
        stage = settings.training_settings().stages(Training(model, data.train, engine, silent(), 0))[0]
        stage.begin()
        for iteration in range(6):
            stage.step(iteration)
        assert isinstance(model.vae, NVAE)
        ways = [layer for layer in model.vae.modules() if hasattr(layer, "normalised_weight")]
        return float(sum(torch.linalg.matrix_norm(w.normalised_weight().flatten(1), 2).detach() for w in ways))

    assert norm(30.0) < 0.99 * norm(0.0)

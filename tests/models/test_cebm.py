"""Conjugate energy-based models: the latents are integrated out exactly, and the family does what every family does."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import vaebm
from vaebm.cli import main
from vaebm.errors import InputError, Preempted
from vaebm.experiment.train import train
from vaebm.models import CEBM, CEBMSettings
from vaebm.models.draw_settings import DrawSettings
from vaebm.training.monitor import DivergenceMonitor
from vaebm.vae.codeless import CodelessVAE

RECIPE = """\
kind: cebm
summary: every estimator on digits, in seconds
data: {kind: digits}
latent_dim: 6
network: {widths: [4, 6], hidden: [8]}
bias: {kind: mixture, components: 3}
noise_std: 0.1
sampler: {kind: langevin, step_size: 0.01, steps: 2}
energy_stage:
  batch_size: 16
  phases:
    denoising: {kind: denoising, iterations: 3}
    ratio: {kind: density_ratio, iterations: 3, score_matching: {noise_std: 0.2}, validate_every: 2}
    rounds: {kind: ratio_rounds, rounds: 2, iterations_per_round: 2, chains: 32, restart_steps: 3}
    divergence: {kind: contrastive_divergence, iterations: 3, buffer: 64, replay_prob: 0.9, replay_ramp_iterations: 2}
    importance: {kind: importance, iterations: 3}
logging: {every: 1}
evaluation: {n: 30}
threads: 1
"""
BIASES: list[dict[str, Any]] = [{"kind": "gaussian"}, {"kind": "mixture", "components": 3, "initial_spread": 2.0}]


def built(bias: dict[str, Any], latent_dim: int = 2, shape: tuple[int, ...] = (2,), **settings: Any) -> CEBM:
    network = {"widths": [] if len(shape) == 1 else [4, 4], "hidden": [8]}
    given = {"latent_dim": latent_dim, "network": network, "bias": bias, **settings}
    return CEBMSettings.model_validate(given).build(shape, torch.Generator().manual_seed(0)).eval()


def points(n: int = 5) -> Tensor:
    return 3 * torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def grid(limit: float, count: int) -> tuple[Tensor, float]:
    """Points of the plane, and the area of each."""
    axis = torch.linspace(-limit, limit, count, dtype=torch.float64)
    return torch.cartesian_prod(axis, axis), float(axis[1] - axis[0]) ** 2


@pytest.mark.parametrize("bias", BIASES)
def test_energy_and_posterior_are_those_of_quadrature_over_z(bias: dict[str, Any]) -> None:
    model, x = built(bias).double(), points()
    z, cell = grid(12.0, 601)
    joint = torch.stack([model.energy(row.expand(len(z), 2), z) for row in x])  # E(x, z)
    weight = (-joint).exp()
    torch.testing.assert_close(model.energy(x), -(weight.sum(1) * cell).log(), rtol=0, atol=1e-6)
    mean = (weight / weight.sum(1, keepdim=True)) @ z
    torch.testing.assert_close(model.encode(x), mean, rtol=0, atol=1e-6)
    density = model.posterior(x[:1]).log_prob(z[:1]).exp()
    torch.testing.assert_close(density, weight[0, :1] / weight[0].sum() / cell, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("bias", BIASES)
def test_low_energy_is_likely(bias: dict[str, Any]) -> None:
    """The density is r(x) exp(-E(x)): log_density with z, marginalised, is log_density without, up to the base."""
    model, x = built(bias, base={"scale": 2.0}).double(), points()
    base = torch.distributions.Normal(0.0, 2.0).log_prob(x).sum(1)
    torch.testing.assert_close(model.log_density(x), base - model.energy(x))
    z, cell = grid(12.0, 601)
    marginal = torch.stack([model.log_density(row.expand(len(z), 2), z).exp().sum() * cell for row in x])
    torch.testing.assert_close(model.log_density(x), marginal.log(), rtol=0, atol=1e-6)


def test_chains_in_noise_space_have_the_density_of_data_space() -> None:
    model = built(BIASES[1], base={"scale": 2.0})
    eps = points().float()
    x, z = model.generate(eps)
    assert z.shape == (len(eps), 0)
    torch.testing.assert_close(x, 2.0 * eps)
    expected = model.log_density(x) + 2 * math.log(2.0)  # the Jacobian of x = 2 eps
    torch.testing.assert_close(model.noise_log_density(eps), expected)


def test_without_codes_all_noise_moves_alike() -> None:
    model = built(BIASES[0])
    model.update_settings(DrawSettings(latent_step_scale=3.0))
    assert model.moves.inverse_mass() == 1.0


def test_clusters_are_the_components_that_data_belong_to() -> None:
    model, x = built(BIASES[1]), points(50).float()
    responsibilities = model.posterior(x).log_weights.exp()
    assert responsibilities.shape == (50, 3)
    assert torch.equal(model.assign(x), responsibilities.argmax(1))
    assert set(built(BIASES[0]).assign(x).tolist()) == {0}


def test_the_base_without_codes_is_a_gaussian() -> None:
    base = CodelessVAE((1, 2, 3), 0.5)
    mean, scale = torch.linspace(-1, 1, 6).reshape(1, 2, 3), torch.linspace(0.1, 2, 6).reshape(1, 2, 3)
    base.set_moments(mean, scale)
    x = torch.randn(4, 1, 2, 3, generator=torch.Generator().manual_seed(0))
    expected = torch.distributions.Normal(mean, scale).log_prob(x).sum((1, 2, 3))
    z = base.encode(x)
    torch.testing.assert_close(base.log_joint(x, z), expected)
    noise = base.decode(z).gaussian.transport_inverse(x)
    torch.testing.assert_close(base.generate(noise, z)[0], x)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cebm") / "small.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def run(recipe: Path) -> vaebm.Run:
    return train(recipe, recipe.with_name("run"), device="cpu")


def weights(path: Path) -> bytes:
    return (path / "model" / "model.safetensors").read_bytes()


def test_every_estimator_trains_it_after_the_base(run: vaebm.Run) -> None:
    stages = list(dict.fromkeys(row["stage"] for row in run.history()))
    assert stages == ["base", "denoising", "ratio", "rounds", "divergence", "importance"]
    model, x = run.model(), run.data().train.all()
    assert isinstance(model, CEBM)
    assert isinstance(model.vae, CodelessVAE)
    torch.testing.assert_close(model.vae.mean, x.mean(0), rtol=0, atol=1e-5)
    torch.testing.assert_close(model.vae.scale, x.std(0, correction=0).clamp(min=0.1), rtol=0, atol=1e-5)
    assert len(model.conjugate.bias.mean) == 3


def test_it_is_resumed_to_the_bit(
    recipe: Path, run: vaebm.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed_after(steps: int) -> Callable[..., None]:
        left = iter(range(steps))

        def check(*_: object) -> None:
            if next(left, None) is None:
                raise Preempted("killed")

        return check

    again = partial(train, recipe, tmp_path / "cut", device="cpu", overrides=["checkpoint.every_seconds=0"])
    for steps in (1, 3, 4, 5, 3):
        with monkeypatch.context() as patched:
            patched.setattr(DivergenceMonitor, "check", killed_after(steps))
            with pytest.raises(Preempted):
                again()
    again()
    assert weights(tmp_path / "cut") == weights(run.path)


def test_it_is_saved_loaded_and_sampled(run: vaebm.Run, tmp_path: Path) -> None:
    model = CEBM.from_pretrained(run.path)
    for subject in CEBM.subjects:
        x = model.sample(4, seed=1, subject=subject)
        assert x.shape == (4, 1, 8, 8)
        assert torch.equal(x, vaebm.load(run.path).sample(4, seed=1, subject=subject))
    assert not torch.equal(model.sample(4, seed=1, show="denoised"), model.sample(4, seed=1))
    out = tmp_path / "samples.npz"
    assert main(["sample", str(run.path), "--n", "2", "--out", str(out), "--quiet"]) == 0
    assert np.load(out, allow_pickle=False)["images"].shape == (2, 8, 8, 1)


def test_it_is_measured_and_its_page_speaks_of_no_vae(run: vaebm.Run) -> None:
    measured = vaebm.evaluate(run)
    assert {m.subject for m in measured} == {"held_out", "start", "cebm"}
    names = {(m.name, m.subject) for m in measured}
    assert {("energy_gain", "cebm"), ("energy_shift", "cebm"), ("frechet_distance", "start")} <= names
    accuracies = [m for m in measured if m.name == "few_label_accuracy"]
    found = {(m.subject, m.settings["representation"], m.settings["labels"]) for m in accuracies}
    assert found == {
        (subject, representation, labels)
        for subject, representation in (("held_out", "pixels"), ("cebm", "posterior_mean"))
        for labels in (1, 10, 100, "all")
    }
    page = vaebm.write_report(run).read_text()
    said = re.sub(r"<[^>]*>", "", page)
    assert "10 labels a class" in said
    assert not re.search(r"\bVAE", said)
    assert vaebm.evaluate(run) == measured  # nothing is measured twice


def test_what_it_costs_is_told(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(recipe), "energy_stage.phases={ratio: null, rounds: null, importance: null}"]) == 0
    assert "denoising" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["bias.components=5000"], "bias.components is 5000"),
        (["data={kind: gaussians}"], "network.widths"),
        (["bias.kind=mixtur"], "mixtur"),
        (["vae.latent_dim=2"], "vae"),
        (["energy_stage.phases.divergence.buffer=3"], "buffer"),
    ],
)
def test_a_wrong_recipe_is_refused(recipe: Path, tmp_path: Path, overrides: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        train(recipe, tmp_path / "none", device="cpu", overrides=overrides)
    assert not (tmp_path / "none").exists()


def test_wrong_arguments_are_refused() -> None:
    model = built(BIASES[0], shape=(1, 8, 8))
    x = torch.zeros(2, 1, 8, 8)
    for call in (
        lambda: model.energy(torch.zeros(2, 1, 9, 9)),
        lambda: model.energy(None),
        lambda: model.encode(torch.zeros(2, 3)),
        lambda: model.log_density(x, torch.zeros(2, 5)),
        lambda: model.log_density(x, torch.zeros(3, 2)),
        lambda: CEBMSettings().build((1, 8, 8), torch.Generator(), vae=CodelessVAE((1, 8, 8), 1.0)),
    ):
        with pytest.raises(InputError):
            call()


def test_it_carries_a_graph_where_it_is_asked_for() -> None:
    model, x = built(BIASES[1]), points().float()
    assert not model.energy(x).requires_grad
    (gradient,) = torch.autograd.grad(model.energy(x.requires_grad_()).sum(), x)
    assert gradient.isfinite().all()

"""Data and decoder that carry noise where the energy looks at them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from vaebm.comparison.data_noise import data_noise
from vaebm.distributions.gaussian import standard_log_prob
from vaebm.distributions.likelihood import GaussianLikelihood
from vaebm.errors import InputError
from vaebm.experiment.train import train
from vaebm.models import VAEBM, VAEBMSettings

RECIPE = """\
summary: an energy on digits with noise
data: {kind: digits}
vae: {kind: conv, latent_dim: 3, widths: [4, 8], likelihood: {kind: gaussian}}
vae_stage: {iterations: 3, batch_size: 16}
code_mixture: {components: 2, codes: 200}
energy: {image: {kind: residual, stem: 4, widths: [4, 6], halve: [0]}, latent: {kind: mixture}, noise_std: %s}
sampler: {kind: langevin, step_size: 0.1, steps: 2}
energy_stage:
  batch_size: 16
  phases:
    denoising: {kind: denoising, iterations: 3, spectral: 0.01}
    rounds:
      {kind: ratio_rounds, rounds: 2, iterations_per_round: 2, chains: 32, restart_steps: 3, denoising: 1.0}
show: denoised
logging: {every: 1}
threads: 1
"""
NOISE = 0.4


def settings(likelihood: str = "gaussian", input_: str = "sample") -> VAEBMSettings:
    energy = {"image": {"kind": "residual", "stem": 4, "widths": [4, 8], "halve": [0]}, "input": input_}
    return VAEBMSettings.model_validate(
        {
            "vae": {"kind": "conv", "widths": [8, 8], "latent_dim": 4, "likelihood": {"kind": likelihood}},
            "energy": {**energy, "noise_std": NOISE},
            "sampler": {"kind": "langevin", "steps": 3, "step_size": 0.01},
        }
    )


@pytest.fixture
def model() -> VAEBM:
    model = settings().build((1, 8, 8), torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        model.energy_net.terms["image"].out.weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
    return model


def test_the_decoders_variance_grows_by_that_of_the_noise(model: VAEBM) -> None:
    eps = torch.randn(5, model.noise.dim, generator=torch.Generator().manual_seed(2))
    eps_x, eps_z = model.noise.unpack(eps)
    assert eps_x is not None
    decoded = model.vae.decode(eps_z)
    assert isinstance(decoded, GaussianLikelihood)
    scale = (decoded.gaussian.scale.square() + NOISE**2).sqrt()
    x, z = model.generate(eps)
    torch.testing.assert_close(x, decoded.gaussian.mean + scale * eps_x)
    torch.testing.assert_close(model.render(eps, "sample", torch.Generator()), x)
    torch.testing.assert_close(model.render(eps, "mean", torch.Generator()), decoded.gaussian.mean)
    log_pixels = torch.distributions.Normal(decoded.gaussian.mean, scale).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(model.log_density(x, z), standard_log_prob(z) + log_pixels - model.energy(x, z))
    torch.testing.assert_close(model.noise_log_density(eps), standard_log_prob(eps) - model.energy(x, z))


def test_data_get_the_same_noise(model: VAEBM) -> None:
    noisy = model.add_noise(torch.zeros(4000, 1, 8, 8), torch.Generator().manual_seed(3))
    assert float(noisy.std()) == pytest.approx(NOISE, rel=0.01)


def test_chains_that_start_from_data_start_from_data_with_noise(model: VAEBM) -> None:
    x = torch.rand(300, 1, 8, 8, generator=torch.Generator().manual_seed(4)) * 2 - 1
    with torch.no_grad():
        added = model.decode(data_noise(model, x, torch.Generator().manual_seed(5))) - x
    assert float(added.mean()) == pytest.approx(0.0, abs=0.02)
    assert float(added.std()) == pytest.approx(NOISE, rel=0.02)


def test_denoised_is_tweedies_estimate_at_that_noise(model: VAEBM) -> None:
    """x~ + s^2 d/dx~ log h(x~, z), with h by automatic differentiation."""
    eps = torch.randn(5, model.noise.dim, generator=torch.Generator().manual_seed(6))
    x, z = (part.detach() for part in model.generate(eps))
    x.requires_grad_()
    (score,) = torch.autograd.grad(model.log_density(x, z).sum(), x)
    shown = model.render(eps, "denoised", torch.Generator())
    torch.testing.assert_close(shown, (x + NOISE**2 * score).detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("likelihood", "input_"), [("censored", "sample"), ("gaussian", "mean")])
def test_what_noise_does_not_go_with_is_refused(likelihood: str, input_: str) -> None:
    with pytest.raises(InputError, match=r"energy\.noise_std"):
        settings(likelihood, input_).build((1, 8, 8), torch.Generator())


def test_a_recipe_trains_and_shows_denoised_samples(tmp_path: Path) -> None:
    recipe = tmp_path / "noisy.yaml"
    recipe.write_text(RECIPE % NOISE)
    run = train(recipe, tmp_path / "run", device="cpu")
    logged = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert any(row["stage"] == "rounds" and row.get("denoising", 0) > 0 for row in logged if "stage" in row)
    assert run.model("cpu").sample(3, seed=0).isfinite().all()


def test_score_matching_without_noise_is_refused(tmp_path: Path) -> None:
    recipe = tmp_path / "sharp.yaml"
    recipe.write_text(RECIPE % 0)
    with pytest.raises(InputError, match=r"energy\.noise_std"):
        train(recipe, tmp_path / "run", device="cpu")

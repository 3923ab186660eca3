"""An energy on the decoder's means: a function of the codes, for every likelihood."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vaebm.distributions.gaussian import standard_log_prob
from vaebm.errors import InputError
from vaebm.experiment.train import train
from vaebm.models import VAEBM, VAEBMSettings

LIKELIHOODS = ["gaussian", "censored", "bernoulli", "logistic_mixture"]
RECIPE = """\
summary: an energy on digits, or on the decoder's means of them
data: {kind: digits}
vae: {kind: conv, latent_dim: 3, widths: [4, 8], likelihood: {kind: %s}}
vae_stage: {iterations: 3, batch_size: 16}
code_mixture: {components: 2, codes: 200}
energy: {image: {kind: residual, stem: 4, widths: [4, 6], halve: [0]}, latent: {kind: mixture}, input: %s}
sampler: {kind: langevin, step_size: 0.01, steps: 2}
energy_stage:
  batch_size: 16
  phases:
    ratio: {kind: density_ratio, iterations: 3}
    rounds: {kind: ratio_rounds, rounds: 2, iterations_per_round: 2, chains: 32, restart_steps: 3}
threads: 1
"""


def settings(likelihood: str, **more: object) -> VAEBMSettings:
    return VAEBMSettings.model_validate(
        {
            "vae": {"kind": "conv", "widths": [8, 8], "latent_dim": 4, "likelihood": {"kind": likelihood}},
            "energy": {"image": {"kind": "residual", "stem": 4, "widths": [4, 8], "halve": [0]}, "input": "mean"},
            "sampler": {"kind": "langevin", "steps": 3, "step_size": 0.01},
            **more,
        }
    )


def build(likelihood: str) -> VAEBM:
    model = settings(likelihood).build((1, 8, 8), torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        model.energy_net.terms["image"].net.out.weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
    return model


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_target_is_the_prior_less_the_energy_of_the_mean(likelihood: str) -> None:
    model = build(likelihood)
    assert model.noise.dim == 4
    eps = torch.randn(5, 4, generator=torch.Generator().manual_seed(2)).requires_grad_()
    energy = model.energy_net.terms["image"].net(model.vae.decode(eps).center)
    value = model.noise_log_density(eps)
    torch.testing.assert_close(value, standard_log_prob(eps) - energy)
    (score,) = torch.autograd.grad(value.sum(), eps)
    assert score.isfinite().all()
    assert score.std() > 0
    x = 2 * torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(3)) - 1
    torch.testing.assert_close(model.energy(x, eps), energy)  # whatever x is
    torch.testing.assert_close(model.energy(None, eps), energy)


def test_x_alone_has_no_such_energy() -> None:
    with pytest.raises(ValueError, match="pass z"):
        build("gaussian").energy(torch.zeros(1, 1, 8, 8))


def test_the_released_target_needs_pixel_noise() -> None:
    with pytest.raises(InputError, match="target=release"):
        settings("gaussian", target="release").build((1, 8, 8), torch.Generator())


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_it_learns_from_means_of_data(likelihood: str, tmp_path: Path) -> None:
    recipe = tmp_path / "means.yaml"
    recipe.write_text(RECIPE % (likelihood, "mean"))
    model = train(recipe, tmp_path / "run", device="cpu").model("cpu")
    samples = model.sample(3, seed=0)
    assert samples.shape == (3, 1, 8, 8)
    assert samples.isfinite().all()
    assert not torch.equal(samples, model.sample(3, seed=0, subject="vae_mixture"))


@pytest.mark.parametrize("likelihood", ["bernoulli", "logistic_mixture"])
def test_decoders_without_a_gradient_are_refused(likelihood: str) -> None:
    image = {"kind": "residual", "stem": 4, "widths": [4, 8], "halve": [0]}
    with pytest.raises(InputError, match=r"energy\.input=mean"):
        settings(likelihood, energy={"image": image}).build((1, 8, 8), torch.Generator())

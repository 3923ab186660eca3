"""Balancing of KL divergences between groups, and that it ends with the warm-up."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vaebm.distributions.likelihood import GaussianSettings
from vaebm.experiment.recipe import load_recipe
from vaebm.experiment.train import build_model
from vaebm.progress import silent
from vaebm.training.engine import Engine
from vaebm.training.stage import Training
from vaebm.vae import MLPSettings, NVAESettings, elbo
from vaebm.vae.objectives.elbo import FLOOR, balancing_weights

KL = {"z1": torch.tensor([1.0, 3.0]), "z2": torch.tensor([40.0, 40.0]), "z3": torch.tensor([0.0, 0.0])}
SIZES = {"z1": 4, "z2": 16, "z3": 16}


def test_weights_are_divergences_a_latent_with_mean_1() -> None:
    each = torch.tensor([2.0 / 4, 40.0 / 16, 0.0]) + FLOOR
    weights = balancing_weights(KL, SIZES)
    torch.testing.assert_close(weights, each / each.mean())
    assert float(weights.mean()) == pytest.approx(1.0)
    assert weights[1] > weights[0] > weights[2] > 0


def test_groups_used_alike_are_weighted_alike() -> None:
    torch.testing.assert_close(
        balancing_weights({"z1": torch.tensor([2.0]), "z2": torch.tensor([8.0])}, {"z1": 4, "z2": 16}), torch.ones(2)
    )
    idle = {name: torch.zeros(3) for name in KL}
    torch.testing.assert_close(balancing_weights(idle, SIZES), torch.ones(3))


def test_they_weigh_the_bound_but_take_no_gradient() -> None:
    settings = NVAESettings(widths=[4, 6], groups=[1, 2], latents=2, likelihood=GaussianSettings())
    vae = settings.build((1, 4, 4), torch.Generator().manual_seed(0))
    x = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
    plain = elbo(vae, x, torch.Generator().manual_seed(2), kl_weight=0.3)
    balanced = elbo(vae, x, torch.Generator().manual_seed(2), kl_weight=0.3, balanced=True)
    weights = balancing_weights(plain.kl, vae.group_sizes)
    assert not weights.requires_grad
    expected = plain.log_likelihood - 0.3 * sum(w * kl for w, kl in zip(weights, plain.kl.values(), strict=True))
    torch.testing.assert_close(balanced.value, expected)
    assert torch.equal(balanced.log_likelihood, plain.log_likelihood)


def test_one_group_has_nothing_to_balance() -> None:
    vae = MLPSettings(hidden=[4]).build((3,), torch.Generator().manual_seed(0))
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    plain, balanced = (elbo(vae, x, torch.Generator().manual_seed(2), 0.5, balanced=b).value for b in (False, True))
    assert torch.equal(plain, balanced)


@pytest.mark.parametrize("balancing", [True, False])
def test_it_lasts_as_long_as_the_warm_up(tmp_path: Path, balancing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe(
        "digits",
        [
            "vae={kind: nvae, widths: [4, 4], groups: [1, 1], latents: 1}",
            "vae_stage={iterations: 8, batch_size: 8, kl_warmup_iterations: 4}",
            f"vae_stage.objective={{kind: elbo, balancing: {balancing}}}",
        ],
    )
    data, engine = recipe.data.load(), Engine("cpu", 0, None, tmp_path)
    training = Training(build_model(recipe, data, engine.device), data.train, engine, silent(), 0)
    stage = recipe.training_settings().stages(training)[0]
    used: list[bool] = []

    def watched(*arguments: object, balanced: bool) -> object:
        used.append(balanced)
        return elbo(*arguments, balanced=balanced)  # type: ignore[arg-type]

    monkeypatch.setattr("vaebm.vae.objectives.elbo.elbo", watched)
    stage.begin()
    shares = [stage.step(iteration)["kl_weight"] for iteration in range(6)]
    assert shares == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert used == [balancing and share < 1 for share in shares]

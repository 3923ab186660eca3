"""Positions in noise space that give data back."""

from __future__ import annotations

import pytest
import torch

from vaebm.comparison.data_noise import data_noise
from vaebm.experiment.recipe import load_recipe
from vaebm.experiment.train import build_model

IMAGES = ("vae.hidden=[16]", "energy.image.stem=4", "energy.image.widths=[4,4]", "vae.latent_dim=4")


@pytest.mark.parametrize("likelihood", ["gaussian", "censored"])
def test_data_noise_gives_the_data_back(likelihood: str) -> None:
    recipe = load_recipe("digits", (*IMAGES, f"vae.likelihood.kind={likelihood}")).for_device(torch.device("cpu"))
    data = recipe.data.load()
    model = build_model(recipe, data, torch.device("cpu"))
    x = data.test.all()[:50]
    eps = data_noise(model, x, torch.Generator().manual_seed(0))
    assert bool(eps.isfinite().all())
    torch.testing.assert_close(model.decode(eps), x, atol=1e-5, rtol=0)


@pytest.mark.parametrize("end", [-1.0, 1.0])
def test_noise_beyond_an_end_has_the_truncated_distribution(end: float) -> None:
    recipe = load_recipe("digits", (*IMAGES, "precision=float32"))
    data = recipe.data.load()
    model = build_model(recipe, data, torch.device("cpu"))
    x = torch.full((400, *data.shape), end)
    eps = data_noise(model, x, torch.Generator().manual_seed(0))
    with torch.no_grad():
        gaussian = model.vae.decode(model.vae.latent(eps[:, : model.vae.latent_dim])).gaussian
    # Signs are such that eps lies below its limit at either end.
    limit = (-end * (end - gaussian.mean) / gaussian.scale).flatten(1).double()
    fraction = torch.special.ndtr(-end * eps[:, model.vae.latent_dim :].double()) / torch.special.ndtr(limit)
    assert float(fraction.max()) <= 1 + 1e-5
    n = fraction.numel()
    assert float(fraction.mean()) == pytest.approx(0.5, abs=5 * (1 / 12 / n) ** 0.5)  # uniform
    assert float(fraction.var()) == pytest.approx(1 / 12, abs=5 * (1 / 180 / n) ** 0.5)

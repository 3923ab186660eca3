"""Two runs whose models are untrained, and whose energies are not 0: of points and of digits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vaebm.experiment.recipe import load_recipe
from vaebm.experiment.run_directory import Run
from vaebm.experiment.train import build_model

# Three latents: quadrature, which takes half a minute, is not feasible.
POINTS = (
    "data.train_size=500", "data.test_size=300", "vae.latent_dim=3", "vae.hidden=[8]", "energy.image.hidden=[8]",
    "energy.image.fourier_features=4",
)  # fmt: skip
IMAGES = ("vae.hidden=[16]", "energy.image.stem=4", "energy.image.widths=[4,4]", "vae.latent_dim=4")


def make_run(path: Path, name: str, overrides: tuple[str, ...], energy: float) -> Run:
    recipe = load_recipe(name, overrides).for_device(torch.device("cpu"))
    run = Run.create(path, recipe)
    model = build_model(recipe, run.data(), torch.device("cpu"))
    last = [p for p in model.energy_net.terms["image"].parameters() if p.ndim == 2][-1]
    with torch.no_grad():  # an untrained energy is 0
        last.normal_(0.0, energy, generator=torch.Generator().manual_seed(1))
    run.save_model(model.eval())
    return run


@pytest.fixture(scope="session")
def points(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("points") / "run", "gaussians25", POINTS, 0.1)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("images") / "run", "digits", IMAGES, 3.0)

"""Three small runs: of points, of grey digits with labels, and of a folder of colour images."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vaebm.experiment.run_directory import Run
from vaebm.experiment.train import train

POINTS = """\
summary: four Gaussians, learned in a second
data: {kind: gaussians, side: 2, train_size: 400, test_size: 200}
vae: {kind: mlp, latent_dim: 2, hidden: [8], likelihood: {kind: gaussian}}
code_mixture: {components: 2, codes: 200}
energy: {image: {kind: mlp, hidden: [8]}, latent: {kind: mixture}}
sampler: {kind: langevin, step_size: 0.01, steps: 2}
vae_stage: {iterations: 10, batch_size: 16}
energy_stage: {phases: {ratio: {kind: density_ratio, iterations: 10, batch_size: 16}}}
logging: {every: 5}
threads: 1
"""

DIGITS = """\
summary: digits, learned in a second
data: {kind: digits}
vae: {kind: mlp, latent_dim: 4, hidden: [16], likelihood: {kind: censored}}
code_mixture: {components: 2, codes: 200}
energy: {image: {kind: residual, stem: 4, widths: [4], halve: [0]}, latent: {kind: mixture}}
sampler: {kind: langevin, step_size: 0.01, steps: 2}
vae_stage: {iterations: 10, batch_size: 16}
energy_stage: {phases: {ratio: {kind: density_ratio, iterations: 5, batch_size: 16}}}
evaluation: {draws: 2}
threads: 1
"""

SMALL = [
    *("vae.latent_dim=3", "vae.widths=[4]", "energy.image.widths=[4]", "energy.image.halve=[]", "energy.image.stem=4"),
    *("vae_stage.iterations=3", "vae_stage.batch_size=8", "energy_stage.batch_size=8", "sampler.steps=2"),
    *("energy_stage.phases={ratio: {kind: density_ratio, iterations: 3}}", "code_mixture.codes=100", "threads=1"),
    *("energy_stage.phases.rounds=null", "code_mixture.components=2"),
]


def write_photos(folder: Path, count: int = 40, shape: tuple[int, ...] = (8, 10, 3)) -> Path:
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for i in range(count):
        Image.fromarray(generator.integers(30, 220, shape, dtype=np.uint8)).save(folder / f"{i:02d}.png")
    return folder


@pytest.fixture
def points_recipe(tmp_path: Path) -> Path:
    path = tmp_path / "points.yaml"
    path.write_text(POINTS)
    return path


@pytest.fixture(scope="session")
def trained_points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("points")
    (folder / "points.yaml").write_text(POINTS)
    return train(folder / "points.yaml", folder / "run", device="cpu").path


@pytest.fixture(scope="session")
def trained_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    (folder / "small.yaml").write_text(DIGITS)
    return train(folder / "small.yaml", folder / "run", device="cpu").path


@pytest.fixture(scope="session")
def trained_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("colour")
    return train(write_photos(folder / "photos"), folder / "run", device="cpu", overrides=SMALL).path


@pytest.fixture
def points_run(trained_points: Path, tmp_path: Path) -> Run:
    return Run.open(shutil.copytree(trained_points, tmp_path / "points"))


@pytest.fixture
def digits_run(trained_digits: Path, tmp_path: Path) -> Run:
    return Run.open(shutil.copytree(trained_digits, tmp_path / "digits"))


@pytest.fixture
def photos_run(trained_photos: Path, tmp_path: Path) -> Run:
    return Run.open(shutil.copytree(trained_photos, tmp_path / "photos"))

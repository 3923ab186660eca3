"""Small runs, made in a moment: untrained models with energies that are not 0, and a log as training leaves it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vaebm.experiment.recipe import load_recipe
from vaebm.experiment.run_directory import METRICS, Run
from vaebm.experiment.train import build_model
from vaebm.metrics.measurement import Measurement

MakeRun = Callable[..., Run]

SMALL = ["vae.hidden=[16]", "code_mixture.components=3"]
RECIPES = {
    "digits": [
        *SMALL,
        "energy={image: {kind: residual, stem: 4, widths: [4], halve: []}, latent: {kind: mixture}}",
        "sampler={kind: langevin, steps: 6}",
        "init={importance_samples: 1}",
    ],
    "gaussians25": [
        *SMALL,
        "energy={image: {kind: mlp, hidden: [8]}, latent: null}",
        "sampler={kind: mala, steps: 6, warmup: 2}",
        "init={importance_samples: 4}",
        "data.train_size=400",
        "data.test_size=300",
    ],
}


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """`make_run("digits", ["show=mean"])`: a run of a recipe, with a model, figures and events."""

    def make(recipe: str, overrides: Sequence[str] = (), *, rows: Sequence[dict[str, Any]] | None = None) -> Run:
        run = Run.create(tmp_path / "run", load_recipe(recipe, [*RECIPES.get(recipe, []), *overrides]))
        model = build_model(run.recipe, run.data(), torch.device("cpu"))
        generator = torch.Generator().manual_seed(1)
        for term in model.energy_net.on_data.terms.values():
            out = term.out
            assert isinstance(out, torch.nn.Linear)
            out.weight.data = torch.randn(out.weight.shape, generator=generator) * 0.2
        run.save_model(model)
        with (run.path / METRICS).open("w") as file:
            file.writelines(json.dumps(row) + "\n" for row in (_metrics_log() if rows is None else rows))
        return run

    return make


@pytest.fixture
def colour_folder(tmp_path: Path) -> Path:
    """A folder of colour images that are not square."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (24, 12, 20, 3), dtype=np.uint8)
    for i, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def log() -> list[dict[str, Any]]:
    """Lines of both stages, of every kind of phase."""
    return _metrics_log()


def _metrics_log() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{"event": "stage", "stage": "vae", "iterations": 100}]
    vae = {"stage": "vae", "kl_z": 2.0}
    rows += [vae | {"iteration": i, "seconds": i / 10, "elbo": -1e3 / i, "kl_weight": i / 100} for i in (50, 100)]
    rows += [
        {"event": "stage", "stage": "ratio", "iterations": 50},
        {"stage": "ratio", "iteration": 50, "seconds": 12.0, "gap": 1.0, "ratio_excess": -0.1, "proposal_ess": 0.4},
        {"event": "stage", "stage": "importance", "iterations": 50},
        {"stage": "importance", "iteration": 50, "seconds": 13.0, "gap": 1.0, "contrast": -0.7, "proposal_ess": 0.3},
        {"event": "stage", "stage": "rounds", "iterations": 50},
        {"event": "resumed", "message": "from iteration 25"},
        {"stage": "rounds", "iteration": 50, "seconds": 20.0, "gap": 0.1, "ratio_excess": -0.01, "acceptance": 0.9},
        {"event": "complete", "message": "trained in 21 s", "seconds": 21.0},
    ]
    return rows


@pytest.fixture
def image_measurements() -> Callable[..., list[Measurement]]:
    """As `vaebm evaluate` leaves them for images, with a Frechet distance of the VAEBM to choose."""
    return _image_measurements


@pytest.fixture
def point_measurements() -> list[Measurement]:
    """As `vaebm evaluate` leaves them for points."""
    return _point_measurements()


def _image_measurements(vaebm: float = 19.9) -> list[Measurement]:
    settings = {"features": "classifier", "sha256": "0" * 64, "reference_n": 1437, "split": "train", "seed": 0}
    drawn = settings | {"draws": 20, "stderr_over": "draws", "show": "sample"}
    return [
        Measurement("frechet_distance", 12.2, 0.5, 360, settings, "held_out"),
        Measurement("frechet_distance", 12.7, 0.5, 360, settings | {"show": "sample"}, "reconstruction"),
        Measurement("frechet_distance", 113.0, 1.6, 360, drawn, "vae"),
        Measurement("elbo", -32.6, 0.45, 360, {"seed": 0, "show": "sample"}, "vae"),
        Measurement("frechet_distance", 22.4, 0.9, 360, drawn, "vae_mixture"),
        Measurement("frechet_distance", vaebm, 0.8, 360, drawn, "vaebm"),
        Measurement("seconds_per_thousand", 23.9, 0.0, 7200, {"device": "cpu", "threads": 1}, "vaebm"),
    ]


def _point_measurements() -> list[Measurement]:
    exact = {"method": "quadrature", "error": 2e-4}
    return [
        Measurement("log_likelihood", -0.064, 0.0099, 10_000, {}, "truth"),
        Measurement("modes_covered", 25.0, 1e-70, 10_000, {}, "truth"),
        Measurement("log_likelihood", -2.651, 0.0066, 10_000, exact, "vae"),
        Measurement("modes_covered", 25.0, 1e-4, 10_000, {}, "vae"),
        Measurement("within_three_sigma", 0.1421, 0.0035, 10_000, {}, "vae"),
        Measurement("log_likelihood", -0.0675, 0.0097, 10_000, exact, "vaebm"),
        Measurement("within_three_sigma", 0.9884, 0.0011, 10_000, {}, "vaebm"),
    ]

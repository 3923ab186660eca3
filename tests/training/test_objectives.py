"""Every objective, under every energy of a recipe, resumed to the same end."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from vaebm.experiment.train import train
from vaebm.vae.objectives import OBJECTIVES


@pytest.mark.parametrize("kind", [kind for kind in OBJECTIVES if kind != "elbo"])
def test_a_run_goes_on_to_the_bit_from_within_the_vae(kind: str, points: Path, tmp_path: Path) -> None:
    overrides = [f"vae_stage.objective={{kind: {kind}}}", "checkpoint.every_seconds=0", "checkpoint.keep=99"]
    few = [
        "energy_stage.phases.divergence=null",
        "energy_stage.phases.importance=null",
        "vae_stage.kl_warmup_iterations=0",
    ]
    run = train(points, tmp_path / "run", device="cpu", overrides=[*overrides, *few])
    weights = run.path / "model" / "model.safetensors"
    end = weights.read_bytes()
    for checkpoint in sorted((run.path / "checkpoints").iterdir())[3:]:  # three iterations into the VAE's four
        shutil.rmtree(checkpoint)
    shutil.rmtree(run.path / "model")
    train(run.path, device="cpu")
    assert weights.read_bytes() == end
    assert {"elbo", "kl_weight"} <= run.history()[0].keys()
    energies = {row["stage"] for row in run.history()}
    assert {"vae", "latent_energy", "ratio", "rounds"} <= energies

"""Recipes of every stage that train in a second, and an engine without accelerator."""

from __future__ import annotations

from pathlib import Path

import pytest

from vaebm.training.engine import Engine

POINTS = """\
summary: every stage on four Gaussians, in a second
data: {kind: gaussians, side: 2, train_size: 400, test_size: 200, validation: 100}
vae: {kind: mlp, latent_dim: 2, hidden: [8], likelihood: {kind: gaussian}}
code_mixture: {components: 2, codes: 200}
energy: {image: {kind: mlp, hidden: [8]}, latent: {kind: correction, hidden: [8]}}
sampler: {kind: langevin, step_size: 0.01, steps: 2}
init: {importance_samples: 2}
vae_stage: {iterations: 4, batch_size: 16}
energy_stage:
  batch_size: 16
  latent: {iterations: 4, batch_size: 16}
  phases:
    ratio: {kind: density_ratio, iterations: 4, negatives: 2, weight_decay: 0.1, validate_every: 1}
    rounds: {kind: ratio_rounds, rounds: 2, iterations_per_round: 2, chains: 32, restart_steps: 3}
    divergence: {kind: contrastive_divergence, iterations: 4, buffer: 64, replay_prob: 0.9, replay_ramp_iterations: 2}
    importance: {kind: importance, iterations: 4}
logging: {every: 1}
threads: 1
"""

# Convolutions with channels last, weight normalisation with its first batch, spectral vectors, a flow, a warmed-up
# kernel, chains that leave codes alone.
IMAGES = """\
summary: every stage on digits, in seconds
data: {kind: digits}
vae: {kind: conv, latent_dim: 3, widths: [4, 8], likelihood: {kind: censored, scale: pixel}}
code_mixture: {components: 2, codes: 200}
energy: {image: {kind: residual, stem: 4, widths: [4, 6], halve: [0]}, latent: {kind: flow, width: 8, blocks: 1}}
sampler: {kind: mala, step_size: 0.01, steps: 2, warmup: 2}
fix_codes: true
vae_stage: {iterations: 4, batch_size: 16}
energy_stage:
  batch_size: 16
  latent: {iterations: 4, batch_size: 16}
  phases:
    ratio: {kind: density_ratio, iterations: 4, spectral: 0.1, energy_square: 0.01, validate_every: 2}
    rounds: {kind: ratio_rounds, rounds: 2, iterations_per_round: 2, chains: 32, restart_steps: 3, spectral: 0.1}
    divergence: {kind: contrastive_divergence, iterations: 4, buffer: 64, replay_prob: 0.9, replay_ramp_iterations: 2}
    importance: {kind: importance, iterations: 4, negatives: 2, energy_square: 0.01}
logging: {every: 1}
threads: 1
"""

STAGES = ["vae", "latent_energy", "ratio", "rounds", "divergence", "importance"]


@pytest.fixture
def points(tmp_path: Path) -> Path:
    """A recipe file for points."""
    path = tmp_path / "points.yaml"
    path.write_text(POINTS)
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A recipe file for images."""
    path = tmp_path / "images.yaml"
    path.write_text(IMAGES)
    return path


@pytest.fixture
def stages() -> list[str]:
    """The stages of both, in order."""
    return list(STAGES)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """One process on the CPU."""
    return Engine("cpu", 0, None, tmp_path)

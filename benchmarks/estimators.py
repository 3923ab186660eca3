"""Which estimator of the energy, and which chain of them? The study behind docs/studies/estimators.md.

    python benchmarks/estimators.py gaussians25 --seeds 0 1 2
    python benchmarks/estimators.py digits --seeds 0 1 2

One VAE a seed, trained once; from it every plan trains its energy anew. Each finished cell is a line of
results/estimators-RECIPE.jsonl and is not run again. Quality: exact held-out log-likelihood on gaussians25, the Frechet
distance on the recipe's classifier (20 draws of 360) on digits.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaebm.errors import Diverged
from vaebm.experiment.evaluate import evaluate
from vaebm.experiment.recipe import load_recipe
from vaebm.experiment.run_directory import Run
from vaebm.experiment.train import build_model
from vaebm.models import VAEBM
from vaebm.progress import silent
from vaebm.training.checkpoint import Checkpoints
from vaebm.training.engine import Engine
from vaebm.training.log import MetricsLog
from vaebm.training.loop import Loop
from vaebm.training.monitor import DivergenceMonitor
from vaebm.training.stage import Stage, Training

ROOT = Path(__file__).parent.parent

MALA = {"kind": "mala", "step_size": 0.002, "warmup": 0}
LANGEVIN = {"kind": "langevin", "step_size": 0.03}
Phase = dict[str, Any]

# The same estimator for each recipe, in that recipe's sizes and rates.
RATIO: dict[str, Phase] = {
    "gaussians25": {"kind": "density_ratio", "iterations": 3000, "ema_decay": 0.995},
    "digits": {"kind": "density_ratio", "iterations": 300, "learning_rate": 5e-4, "energy_square": 1e-2},
}
IMPORTANCE = {name: {**phase, "kind": "importance"} for name, phase in RATIO.items()}
REFINE: dict[str, Phase] = {
    "gaussians25": {"kind": "importance", "iterations": 1000, "learning_rate": 1e-4},
    "digits": {"kind": "importance", "iterations": 150, "learning_rate": 1e-4, "energy_square": 1e-2},
}
ROUNDS: dict[str, Phase] = {
    "gaussians25": {
        "kind": "ratio_rounds",
        "rounds": 4,
        "iterations_per_round": 150,
        "chains": 4096,
        "learning_rate": 1e-4,
        "restart_steps": 100,
        "sampler": {**MALA, "steps": 20},
    },
    "digits": {
        "kind": "ratio_rounds",
        "rounds": 4,
        "iterations_per_round": 60,
        "chains": 1024,
        "learning_rate": 1e-4,
        "energy_square": 1e-2,
        "sampler": {**LANGEVIN, "steps": 12},
    },
}
DIVERGENCE: dict[str, Phase] = {
    "gaussians25": {
        "kind": "contrastive_divergence",
        "iterations": 1000,
        "learning_rate": 2e-4,
        "sampler": {**MALA, "steps": 10},
    },
    "digits": {
        "kind": "contrastive_divergence",
        "iterations": 200,
        "learning_rate": 2e-4,
        "sampler": {**LANGEVIN, "steps": 10},
    },
}
BUFFER = {
    "learning_rate": 5e-5,
    "energy_square": 1e-3,
    "buffer": 4096,
    "replay_prob": 0.9,
    "replay_ramp_iterations": 100,
}
BUFFERED = {name: {**phase, **BUFFER} for name, phase in DIVERGENCE.items()}
RESAMPLED: dict[str, list[str]] = {
    "gaussians25": ["init.importance_samples=20"],
    "digits": [],
}  # how all of them are sampled when measured
PLANS: dict[str, list[dict[str, Phase]]] = {
    "none": [],
    "density ratio": [RATIO],
    "importance": [IMPORTANCE],
    "contrastive divergence": [DIVERGENCE],
    "contrastive divergence, resampled starts": [DIVERGENCE],
    "contrastive divergence, buffer and penalty": [BUFFERED],
    "rounds": [ROUNDS],
    "density ratio, importance": [RATIO, REFINE],
    "density ratio, rounds": [RATIO, ROUNDS],
    "density ratio, contrastive divergence": [RATIO, DIVERGENCE],
    "density ratio, contrastive divergence with buffer": [RATIO, BUFFERED],
}


def train_energy(
    recipe_name: str,
    seed: int,
    phases: list[Phase],
    overrides: list[str],
    folder: Path,
    vae: dict[str, Any],
    energy: dict[str, Tensor] | None = None,
) -> tuple[Run, VAEBM, float, str]:
    """Trains an energy on the VAE of a seed.

    Args:
        vae: keeps the first stage of a seed; empty before it is trained.
        energy: weights that the phases start from; fresh ones unless given.

    Returns:
        The run, the model, the seconds of the energy's stages, and how they ended.
    """
    changes = [f"seed={seed}", "energy_stage.phases.ratio=null", *overrides]
    changes += [f"energy_stage.phases.phase{i}={json.dumps(phase)}" for i, phase in enumerate(phases)]
    recipe = load_recipe(recipe_name, changes)
    torch.set_num_threads(recipe.threads or torch.get_num_threads())
    shutil.rmtree(folder, ignore_errors=True)
    run = Run.create(folder, recipe)
    engine = Engine("cpu", seed, None, folder)
    data = run.data()
    model = build_model(recipe, data, engine.device)
    assert isinstance(model, VAEBM)
    training = Training(model, data.train, engine, silent(), seed, data.validation)
    stages = recipe.training_settings().stages(training)

    def go(part: list[Stage], name: str) -> None:
        log = MetricsLog(folder / f"{name}.jsonl", recipe.logging.every, True)
        Loop(
            training,
            part,
            Checkpoints(folder / name, 1, engine),
            log,
            DivergenceMonitor(recipe.divergence_monitor),
            recipe.checkpoint.model_copy(update={"every_seconds": 1e9}),
        ).run()

    if not vae:
        go(stages[:1], "vae")
        vae.update(model=model.vae.state_dict(), mixture=model.mixture)
    model.vae.load_state_dict(vae["model"])
    model.set_mixture(vae["mixture"])
    if energy is not None:
        model.energy_net.load_state_dict(energy)
        stages = [stages[0], *(stage for stage in stages[1:] if stage.name.startswith("phase"))]
    engine.generator.manual_seed(seed)
    started, ended = time.perf_counter(), "ended"
    try:
        go(stages[1:], "energy")
    except Diverged as reason:
        ended = str(reason).split(". ")[0]
    run.save_model(model)
    return run, model, time.perf_counter() - started, ended


def cell(recipe_name: str, plan: str, seed: int, folder: Path, vae: dict[str, Any]) -> dict[str, Any]:
    """Trains one energy and measures it; `vae` keeps the first stage of each seed."""
    # Without resampling chains start from the VAE, as published.
    overrides = [] if "resampled" in plan else ["init.importance_samples=1"]
    phases = [settings[recipe_name] for settings in PLANS[plan]]
    run, _, seconds, ended = train_energy(recipe_name, seed, phases, overrides, folder, vae)
    measurements = evaluate(run, subjects=["vaebm"], overrides=RESAMPLED[recipe_name], device="cpu")
    measured = {m.name: [m.value, m.stderr] for m in measurements}
    return {"recipe": recipe_name, "plan": plan, "seed": seed, "seconds": round(seconds, 1), "ended": ended, **measured}


def main() -> None:
    """Runs what is missing and prints every line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=sorted(RATIO))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--plans", nargs="+", choices=list(PLANS), default=list(PLANS))
    arguments = parser.parse_args()
    target = ROOT / "results" / f"estimators-{arguments.recipe}.jsonl"
    target.parent.mkdir(exist_ok=True)
    done = [json.loads(line) for line in target.read_text().splitlines()] if target.exists() else []
    for seed in arguments.seeds:
        vae: dict[str, Any] = {}
        for plan in arguments.plans:
            if any(row["plan"] == plan and row["seed"] == seed for row in done):
                continue
            with tempfile.TemporaryDirectory() as folder:
                row = cell(arguments.recipe, plan, seed, Path(folder) / "run", vae)
            with target.open("a") as file:
                file.write(json.dumps(row) + "\n")
            sys.stdout.write(json.dumps(row) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()

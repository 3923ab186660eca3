"""What keeps training stable? The study behind docs/studies/stability.md.

    OMP_NUM_THREADS=1 python benchmarks/stability.py twice gaussians25 --seeds 0 1 2 3 4 5 6 7 8 9
    OMP_NUM_THREADS=1 python benchmarks/stability.py twice digits --seeds 0 1 2 3 4
    OMP_NUM_THREADS=1 python benchmarks/stability.py twice mnist-small --seeds 0
    OMP_NUM_THREADS=1 python benchmarks/stability.py choices gaussians25 digits --seeds 0 1 2
    python benchmarks/stability.py                                # prints the tables of what is there

`twice` trains a recipe at its defaults with twice the iterations of both stages, and asks for returns to a healthy
checkpoint, and for the last gain on the validation split beside the best on the way. `choices` trains one VAE a seed
and each energy anew on it, by every estimator, penalty, optimizer setting and sampler of the table below; the
divergence monitor ends a run at its first alarm, so that the iteration of it is known. Each finished cell is a line of
results/stability.jsonl and is not run again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from energy_terms import first_stage
from estimators import train_energy

from vaebm.experiment.evaluate import evaluate
from vaebm.experiment.recipe import load_recipe
from vaebm.experiment.run_directory import METRICS, Run
from vaebm.experiment.train import train
from vaebm.training.checkpoint import Checkpoints
from vaebm.training.engine import Engine

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "results" / "stability.jsonl"
Phase = dict[str, Any]
Row = dict[str, Any]

# Each recipe's own ratio, with twice its iterations.
RATIO: dict[str, Phase] = {
    "gaussians25": {"kind": "density_ratio", "iterations": 6000, "ema_decay": 0.995},
    "digits": {"kind": "density_ratio", "iterations": 1200, "learning_rate": 1e-3},
}
EVERY = {"gaussians25": 500, "digits": 100}  # iterations between two gains
KEPT = 40  # checkpoints of a run whose models are measured on the way
ON_THE_WAY: dict[str, Any] = {
    "only": ["frechet_distance"],
    "subjects": ["vaebm"],
    "overrides": [
        "evaluation={shows: [sample], features: {inception-768: {n: 1000, reference_n: 5000, precision: bfloat16}}}"
    ],
}
LEFT_OUT = shutil.ignore_patterns("checkpoints", "measurements.json", "samples")
MODEL = shutil.ignore_patterns("config.json", "model.safetensors")
UNDERDAMPED = {"kind": "underdamped", "step_size": 0.2, "friction": 0.5, "steps": 10}
STEP = {"gaussians25": 0.002, "digits": 0.03}  # of Langevin steps
# As published for CIFAR-10: 32 fresh chains of ten steps, a rate and a step that crawl, a spectral penalty.
PUBLISHED: Phase = {
    "kind": "contrastive_divergence",
    "iterations": 3000,
    "batch_size": 32,
    "learning_rate": 4e-5,
    "betas": [0.99, 0.999],
    "spectral": 0.2,
    "sampler": {"kind": "langevin", "step_size": 8e-5, "steps": 10},
}
BUFFER = {"buffer": 4096, "replay_prob": 0.95, "replay_ramp_iterations": 100}


def rounds(recipe: str, sampler: Phase | None = None) -> Phase:
    """Rounds after the ratio, as image recipes use them."""
    return {
        "kind": "ratio_rounds",
        "rounds": 16,
        "iterations_per_round": 50,
        "chains": 2048 if recipe == "gaussians25" else 1024,
        "restart_fraction": 0.05,
        "restart_steps": 50,
        "learning_rate": 1e-4,
        "energy_square": 1e-3,
        "sampler": sampler or UNDERDAMPED,
    }


def choices(recipe: str) -> dict[str, list[Phase]]:
    """Schedules by name; those of one question stand together."""
    ratio = RATIO[recipe]
    divergence = {"kind": "contrastive_divergence", "iterations": 1000, "learning_rate": 2e-4, "sampler": UNDERDAMPED}
    langevin = {"kind": "langevin", "step_size": STEP[recipe], "steps": 10}
    half = {**ratio, "iterations": ratio["iterations"] // 2}
    plans: dict[str, list[Phase]] = {
        "ratio (the recipe)": [ratio],
        "contrastive divergence, published": [PUBLISHED],
        "contrastive divergence, fresh chains": [divergence],
        "contrastive divergence, fresh chains, energy square 1e-2": [{**divergence, "energy_square": 1e-2}],
        "contrastive divergence, persistent chains": [{**divergence, **BUFFER}],
        "contrastive divergence, persistent chains, energy square 1e-2": [
            {**divergence, **BUFFER, "energy_square": 1e-2}
        ],
        "ratio, contrastive divergence, persistent chains": [half, {**divergence, **BUFFER}],
        "ratio, rounds (image recipes)": [half, rounds(recipe)],
        "rounds": [rounds(recipe)],
        "importance": [{**half, "kind": "importance"}],
        "ratio, rate x 3": [{**ratio, "learning_rate": 3e-3}],
        "ratio, rate x 10": [{**ratio, "learning_rate": 1e-2}],
        "ratio, gradients not clipped": [{**ratio, "clip_norm": 1e9}],
        "ratio, energy square 1e-2": [{**ratio, "energy_square": 1e-2}],
        "ratio, spectral 0.2": [{**ratio, "spectral": 0.2}],
        "ratio, rounds by Langevin": [half, rounds(recipe, langevin)],
        "ratio, rounds by MALA": [half, rounds(recipe, {**langevin, "kind": "mala"})],
    }
    if recipe == "gaussians25":  # its likelihood has a score
        plans["score matching"] = [{**half, "kind": "score_matching"}]
        plans["ratio with score matching"] = [{**half, "score_matching": {"noise_std": 0.05}}]
    return plans


MEASURED = {
    "gaussians25": ["log_likelihood", "energy_gain", "energy_shift"],
    "digits": ["energy_gain", "energy_shift", "frechet_distance"],
}


def logged(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def gains(rows: list[Row]) -> dict[str, Any]:
    """The last gain on validation data, the best, and the effective share of the last one's weights."""
    found = [row for row in rows if "validation_gain" in row]
    if not found:
        return {}
    values = [row["validation_gain"] for row in found]
    return {"last": values[-1], "best": max(values), "share": found[-1]["validation_share"], "measured": len(values)}


def measured(run: Run) -> Row:
    """What `vaebm evaluate` says of the model."""
    subject = run.model("cpu").subjects[0]
    found = evaluate(run, device="cpu", only=MEASURED[run.recipe.name], subjects=[subject])
    return {one.name: [one.value, one.stderr] for one in reversed(found)}


def twice(recipe: str, seed: int, folder: Path) -> Row:
    """A whole run with all iterations doubled."""
    written = load_recipe(recipe, [])
    phase = written.energy_stage.phases["ratio"]
    overrides = [
        f"seed={seed}",
        f"vae_stage.iterations={2 * written.vae_stage.iterations}",
        f"energy_stage.phases.ratio.iterations={2 * phase.iterations}",
        f"energy_stage.phases.ratio.validate_every={EVERY[recipe]}",
    ]
    run = train(recipe, folder, overrides=overrides, device="cpu")
    rows = logged(run.path / METRICS)
    returns = [row["message"] for row in rows if row.get("event") in ("rollback", "diverged")]
    return {"returns": returns, "seconds": rows[-1]["seconds"], **gains(rows), **measured(run)}


def twice_of_images(recipe: str, seed: int, folder: Path) -> Row:
    """A whole run with all iterations doubled, and its distance on the way through the last phase.

    What an energy gains on such images cannot be told by weights, so the Fréchet distance of samples is measured, of
    the models of checkpoints too.
    """
    written = load_recipe(recipe, [])
    stages: dict[str, Any] = {"vae_stage": written.vae_stage, "energy_stage.latent": written.energy_stage.latent}
    stages |= {f"energy_stage.phases.{name}": phase for name, phase in written.energy_stage.phases.items()}
    overrides = [f"seed={seed}", f"checkpoint.keep={KEPT}", "checkpoint.every_seconds=120"]
    for name, stage in stages.items():
        repeated = "rounds" if hasattr(stage, "rounds") else "iterations"
        overrides.append(f"{name}.{repeated}={2 * getattr(stage, repeated)}")
    last = list(written.energy_stage.phases.values())[-1]
    length = last.rounds * last.iterations_per_round  # half of what is trained
    run = train(recipe, folder, overrides=[*overrides, f"checkpoint.every_iterations={length // 2}"], device="cpu")
    rows = logged(run.path / METRICS)
    row: Row = {
        "returns": [row["message"] for row in rows if row.get("event") in ("rollback", "diverged")],
        "seconds": rows[-1]["seconds"],
    }
    model, checkpoints = run.model("cpu"), Checkpoints(run.path / "checkpoints", KEPT, Engine("cpu", 0, None, folder))
    total = int(checkpoints.names()[-1])
    for at in (total, total - length // 2, total - length, total - 3 * length // 2):
        state = checkpoints.load(at)
        assert state is not None
        model.load_state_dict(state["model"])
        with tempfile.TemporaryDirectory() as place:
            other = run
            if at != total:
                other = Run.open(shutil.copytree(run.path, Path(place) / "run", ignore=LEFT_OUT))
                other.save_model(model)
                shutil.copytree(run.path / "model", other.path / "model", ignore=MODEL, dirs_exist_ok=True)
            found = evaluate(other, device="cpu", **ON_THE_WAY)
        for one in found:
            row.setdefault(str(one.settings["features"]), {})[at] = [one.value, one.stderr]
    return row


TWICE = {"mnist-small": twice_of_images}


def choice(recipe: str, name: str, seed: int, folder: Path, vae: dict[str, Any]) -> Row:
    """One energy on a seed's VAE."""
    phases = [{**phase, "validate_every": EVERY[recipe]} for phase in choices(recipe)[name]]
    overrides = ["divergence_monitor.rollbacks=0"]
    run, _, seconds, ended = train_energy(recipe, seed, phases, overrides, folder, vae)
    rows = logged(folder / "energy.jsonl")
    taken = sum(max([r["iteration"] for r in rows if r.get("stage") == f"phase{i}" and "iteration" in r], default=0)
                for i in range(len(phases)))  # fmt: skip
    return {"ended": ended, "iterations": taken, "seconds": round(seconds, 1), **gains(rows), **measured(run)}


def run_cell(key: Row, vae: dict[str, Any]) -> None:
    """Runs what is missing, and appends its line."""
    done = logged(TARGET) if TARGET.exists() else []
    if any(all(row.get(name) == value for name, value in key.items()) for row in done):
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        if key["recipe"] in TWICE:  # hours of work, which go on where they were stopped
            folder = ROOT / "runs" / "stability" / f"{key['recipe']}-{key['seed']}"
        if key["part"] == "twice":
            row = key | TWICE.get(key["recipe"], twice)(key["recipe"], key["seed"], folder)
        else:
            row = key | choice(key["recipe"], key["choice"], key["seed"], folder, vae)
    with TARGET.open("a") as file:
        file.write(json.dumps(row) + "\n")
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


def tables(rows: list[Row]) -> str:
    """Medians over seeds, least and greatest."""

    def spread(values: list[float]) -> str:
        if not values:
            return ""
        return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"

    groups: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["part"], row["recipe"], row.get("choice", "")].append(row)
    names = ["last", "best", "share", "log_likelihood", *MEASURED["digits"]]
    lines = [f"| | | seeds | ended early | {' | '.join(names)} | seconds |", "| --- " * (len(names) + 5) + "|"]
    for (part, recipe, name), cells in groups.items():
        early = [row for row in cells if row.get("returns") or row.get("ended", "ended") != "ended"]
        values = [
            spread([row[n][0] if isinstance(row[n], list) else row[n] for row in cells if n in row]) for n in names
        ]
        seconds = spread([row["seconds"] for row in cells])
        lines.append(f"| {recipe} | {name or part} | {len(cells)} | {len(early)} | {' | '.join(values)} | {seconds} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=["twice", "choices"])
    parser.add_argument("recipes", nargs="*", choices=[*RATIO, "mnist-small", []])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", help="choices to train; all unless given")
    arguments = parser.parse_args()
    for recipe in arguments.recipes:
        for seed in arguments.seeds:
            vae = {} if arguments.part == "twice" else first_stage(recipe, seed)
            key = {"part": arguments.part, "recipe": recipe, "seed": seed}
            if arguments.part == "twice":
                run_cell(key, vae)
                continue
            for name in arguments.only or choices(recipe):
                run_cell({**key, "choice": name}, vae)
    if TARGET.exists():
        sys.stdout.write(tables(logged(TARGET)))


if __name__ == "__main__":
    main()

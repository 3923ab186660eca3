"""Terms of the energy beside each other, on the same VAE: what does a joint E(x, z) add to E_x and E_z?

    OMP_NUM_THREADS=1 python benchmarks/energy_terms.py gaussians25 digits --seeds 0 1 2
    python benchmarks/energy_terms.py                           # prints the tables of what is there

The first stage is that of runs/results/RECIPE-SEED where `benchmarks/results.py` has left one, else trained here. Every
set of terms is then trained with the recipe's phases, so with as many gradient steps; its weights and seconds are told.
Each finished cell is a line of results/energy_terms.jsonl and is not run again.

In the plane log h(x) is exact up to the error of log Z: the integral over z by quadrature, Z from 2,000,000 draws of
the base. Elsewhere `vaebm evaluate` measures the gain, the shift, distance and recall.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from estimators import train_energy
from torch import Tensor

from vaebm.distributions.likelihood import GaussianLikelihood
from vaebm.evaluation.energy_law import by_weights
from vaebm.experiment.evaluate import evaluate
from vaebm.experiment.run_directory import Run
from vaebm.models import VAEBM, in_noise_space

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "results" / "energy_terms.jsonl"

NONE = {"energy.image": None, "energy.latent": None, "energy.joint": None}
ON_X: dict[str, Any] = {
    "gaussians25": {"kind": "mlp", "hidden": [256, 256, 256], "fourier_features": 64, "fourier_scale": 3.0},
    "digits": {"kind": "residual", "stem": 32, "widths": [32, 64], "halve": [0]},
}
ON_BOTH: dict[str, Any] = {
    "gaussians25": ON_X["gaussians25"],
    "digits": {**ON_X["digits"], "hidden": [64, 64]},
}
ON_Z = {"kind": "correction"}
MIXTURE = {"kind": "mixture"}


def terms(recipe: str) -> dict[str, dict[str, Any]]:
    """Sets of terms by name, as overrides of `energy`. On images every one stands on the mixture of codes."""
    image, joint = ON_X[recipe], ON_BOTH[recipe]
    base = None if recipe == "gaussians25" else MIXTURE
    return {
        "E_x": {**NONE, "energy.image": image, "energy.latent": base},
        "E_xz": {**NONE, "energy.joint": joint, "energy.latent": base},
        "E_z": {**NONE, "energy.latent": ON_Z},
        "E_x + E_z": {**NONE, "energy.image": image, "energy.latent": ON_Z},
        "E_xz + E_z": {**NONE, "energy.joint": joint, "energy.latent": ON_Z},
        "E_x + E_xz": {**NONE, "energy.image": image, "energy.joint": joint, "energy.latent": base},
    }


MEASURED = ["energy_gain", "energy_shift", "frechet_distance", "precision", "recall", "class_gap"]
LATENT_REACH, LATENT_POINTS = 6.0, 201
NEGLIGIBLE = 20.0  # nats below the largest term of an integral over z
DRAWS, ROWS_AT_ONCE, POINTS_AT_ONCE = 2_000_000, 1 << 16, 100


@torch.no_grad()
def plane_log_likelihood(model: VAEBM, points: Tensor, seed: int) -> tuple[float, float, float]:
    """Mean log h of points (N, 2), its standard error over points, and the error of log Z."""
    axis = torch.linspace(-LATENT_REACH, LATENT_REACH, LATENT_POINTS)
    z, cell = torch.cartesian_prod(axis, axis), 2 * math.log(float(axis[1] - axis[0]))
    decoded = model.vae.decode(z)
    assert isinstance(decoded, GaussianLikelihood)
    likelihood = decoded.gaussian
    log_prior = model.vae.log_prior(z)
    logs = []
    with model.frozen():
        for x in points.split(POINTS_AT_ONCE):
            normal = torch.distributions.Normal(likelihood.mean, likelihood.scale)
            log_joint = log_prior + normal.log_prob(x[:, None]).sum(2)
            row, column = (log_joint > log_joint.amax(1, keepdim=True) - NEGLIGIBLE).nonzero(as_tuple=True)
            pairs = zip(row.split(ROWS_AT_ONCE), column.split(ROWS_AT_ONCE), strict=True)
            energy = torch.cat([model.energy_net(x[r], z[c]) for r, c in pairs])
            tilted = torch.full_like(log_joint, -math.inf)
            tilted[row, column] = log_joint[row, column] - energy
            logs.append(tilted.double().logsumexp(1) + cell)
        generator, energies = torch.Generator().manual_seed(seed), []
        for _ in range(DRAWS // ROWS_AT_ONCE):
            eps = model.noise.standard(ROWS_AT_ONCE, generator, z)
            energies.append(model.energy_net(*model.generate(eps)).double())
    law = by_weights(torch.cat(energies))
    values = torch.cat(logs) - law.log_z
    return float(values.mean()), float(values.std()) / math.sqrt(len(values)), law.stderr


def cell(recipe: str, name: str, seed: int, folder: Path, vae: dict[str, Any]) -> dict[str, Any]:
    """Trains one set of terms and measures it."""
    overrides = [f"{key}={json.dumps(value)}" for key, value in terms(recipe)[name].items()]
    phases = [json.loads(json.dumps(phase)) for phase in PHASES[recipe]]
    run, model, seconds, ended = train_energy(recipe, seed, phases, overrides, folder, vae)
    weights = sum(p.numel() for p in model.energy_net.parameters())
    row: dict[str, Any] = {"recipe": recipe, "terms": name, "seed": seed, "weights": weights}
    row |= {"seconds": round(seconds, 1), "ended": ended}
    if recipe == "gaussians25":
        value, stderr, of_z = plane_log_likelihood(model, run.data().test.all(), seed)
        return {**row, "log_likelihood": round(value, 4), "stderr": round(stderr, 4), "of_log_z": round(of_z, 4)}
    found = evaluate(run, device="cpu", only=MEASURED, subjects=[model.subjects[0]])
    return {**row, **{one.name: round(one.value, 4) for one in reversed(found)}}


PHASES: dict[str, list[dict[str, Any]]] = {
    "gaussians25": [{"kind": "density_ratio", "iterations": 3000, "ema_decay": 0.995}],
    "digits": [{"kind": "density_ratio", "iterations": 600, "learning_rate": 1e-3, "validate_every": 100}],
}


def first_stage(recipe: str, seed: int) -> dict[str, Any]:
    """The VAE and the mixture of a run that is there, or nothing."""
    path = ROOT / "runs" / "results" / f"{recipe}-{seed}"
    if not (path / "model").exists():
        return {}
    model = in_noise_space(Run.open(path).model("cpu"))
    return {"model": model.vae.state_dict(), "mixture": model.mixture}


def table(recipe: str, rows: list[dict[str, Any]]) -> str:
    """Medians over seeds, least and greatest."""
    names = [name for name in ("log_likelihood", *MEASURED) if any(name in row for row in rows)]
    lines = [f"| {recipe} | weights | seconds | {' | '.join(names)} |", "| --- " * (3 + len(names)) + "|"]
    for name in terms(recipe):
        chosen = [row for row in rows if row["terms"] == name]
        if not chosen:
            continue
        cells = []
        for column in names:
            values = sorted(row[column] for row in chosen if column in row)
            middle = f"{statistics.median(values):.3f} ({values[0]:.3f} to {values[-1]:.3f})" if values else "–"
            cells.append(middle)
        seconds = statistics.median(row["seconds"] for row in chosen)
        lines.append(f"| {name}, n = {len(chosen)} | {chosen[0]['weights']:,} | {seconds:.0f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Runs what is missing, prints every line and then the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", choices=[*PHASES, []])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--terms", nargs="+")
    arguments = parser.parse_args()
    TARGET.parent.mkdir(exist_ok=True)
    done = [json.loads(line) for line in TARGET.read_text().splitlines()] if TARGET.exists() else []
    for seed in arguments.seeds:
        for recipe in arguments.recipes:
            vae = first_stage(recipe, seed)
            for name in arguments.terms or terms(recipe):
                if any((row["recipe"], row["terms"], row["seed"]) == (recipe, name, seed) for row in done):
                    continue
                with tempfile.TemporaryDirectory() as folder:
                    done.append(cell(recipe, name, seed, Path(folder) / "run", vae))
                with TARGET.open("a") as file:
                    file.write(json.dumps(done[-1]) + "\n")
                sys.stdout.write(json.dumps(done[-1]) + "\n")
                sys.stdout.flush()
    for recipe in PHASES:
        if rows := [row for row in done if row["recipe"] == recipe]:
            sys.stdout.write(table(recipe, rows) + "\n\n")


if __name__ == "__main__":
    main()

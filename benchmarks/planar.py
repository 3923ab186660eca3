"""The KL divergence of a learned density in the plane, by estimator: the study behind docs/studies/planar.md.

    OMP_NUM_THREADS=1 python benchmarks/planar.py --sets eight_modes checkerboard --seeds 0 1 2 3 4
    python benchmarks/planar.py                                  # prints the table of what is there

    KL(data || h) = integral of p (log p - log h)        the midpoint rule, log h by quadrature (metrics/quadrature.py)

One VAE a seed, trained once; from it every estimator trains its energy anew, with the recipe's settings. Each finished
cell is a line of results/planar.jsonl and is not run again. The step divides the cells of the checkerboard, so no point
lies on an edge; `kl_error` is the change from twice that step, plus the estimated error of log h.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from estimators import train_energy
from torch import Tensor

from vaebm.data import DataSet
from vaebm.evaluation.quadrature import plane_quadrature
from vaebm.models import VAEBM

TARGET = Path(__file__).parent.parent / "results" / "planar.jsonl"
REACH, STEP = 2.0, 0.005  # of the grid of x
LATENT_POINTS = 101

SETS = ("eight_modes", "checkerboard")
PUBLISHED = {"InfoNCE": (0.24, 3.85), "score matching": (0.22, 0.84), "both": (0.015, 0.199)}
"""BoltzNCE, table 1, on these sets."""

ONE_COMPONENT = ["code_mixture.components=1", "code_mixture.codes=1000"]  # the mixture is not measured here

Phase = dict[str, Any]
ITERATED: Phase = {"iterations": 1500, "ema_decay": 0.995}
RATIO: Phase = {"kind": "density_ratio", **ITERATED}
SCORE: Phase = {"noise_std": 0.02}
PHASES: dict[str, list[Phase]] = {
    "VAE": [],
    "ratio": [RATIO],
    "score matching": [{"kind": "score_matching", **ITERATED, **SCORE}],
    "both": [{**RATIO, "score_matching": {"weight": 1.0, **SCORE}}],
}


def divergence(model: VAEBM, data: DataSet, with_energy: bool, step: float) -> tuple[float, float]:
    """KL(data || h) in nats, and the estimated error of log h."""
    assert data.truth is not None
    x_range, points = (-REACH + step / 2, REACH - step / 2), round(2 * REACH / step)
    grid: dict[str, Any] = {"x_range": x_range, "x_points": points, "latent_points": LATENT_POINTS}
    with model.frozen():
        density = plane_quadrature(model, with_energy, **grid)
    log_p = data.truth.log_prob(torch.cartesian_prod(density.axis, density.axis)).reshape(points, points)
    p = log_p.exp()
    difference: Tensor = torch.where(p > 0, log_p - density.log_model, torch.zeros_like(p))
    return float((p * difference).sum() * step**2), density.error + density.outside


def cell(name: str, method: str, seed: int, folder: Path, vae: dict[str, Any]) -> dict[str, Any]:
    """Trains one energy and measures it; `vae` keeps the first stage of each seed."""
    fresh, started = not vae, time.process_time()
    run, model, seconds, ended = train_energy(name, seed, PHASES[method], ONE_COMPONENT, folder, vae)
    cpu = time.process_time() - started
    data, with_energy = run.data(), method != "VAE"
    kl, error = divergence(model, data, with_energy, STEP)
    coarse, _ = divergence(model, data, with_energy, 2 * STEP)
    row = {
        "set": name,
        "method": method,
        "seed": seed,
        "kl": round(kl, 5),
        "kl_error": round(error + abs(kl - coarse), 5),
    }
    return {**row, "seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1), "with_vae": fresh, "ended": ended}


def table(rows: list[dict[str, Any]]) -> str:
    """Medians over seeds, least and greatest, beside the published figures."""
    lines = [f"| | {' | '.join(SETS)} | gradient steps | CPU seconds |", "| --- | --- | --- | --- | --- |"]
    for method, phases in PHASES.items():
        cells, cpu = [], []
        for name in SETS:
            chosen = [row for row in rows if (row["set"], row["method"]) == (name, method)]
            kl = sorted(row["kl"] for row in chosen)
            cpu += [row["cpu_seconds"] for row in chosen]
            found = f"{statistics.median(kl):.4f} ({kl[0]:.4f} to {kl[-1]:.4f}), n = {len(kl)}" if kl else "–"
            cells.append(found)
        steps = sum(phase["iterations"] for phase in phases)
        lines.append(f"| {method} | {' | '.join(cells)} | {steps:,} | {statistics.median(cpu or [0]):.0f} |")
    for published, figures in PUBLISHED.items():
        lines.append(f"| published, {published} | {' | '.join(map(str, figures))} | 10,000 | |")
    return "\n".join(lines)


def main() -> None:
    """Runs what is missing of these sets, prints every line and then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="*", choices=SETS, default=[])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--methods", nargs="+", choices=list(PHASES), default=list(PHASES))
    arguments = parser.parse_args()
    TARGET.parent.mkdir(exist_ok=True)
    done = [json.loads(line) for line in TARGET.read_text().splitlines()] if TARGET.exists() else []
    for seed in arguments.seeds:
        for name in arguments.sets:
            vae: dict[str, Any] = {}
            for method in arguments.methods:
                if any((row["set"], row["method"], row["seed"]) == (name, method, seed) for row in done):
                    continue
                with tempfile.TemporaryDirectory() as folder:
                    done.append(cell(name, method, seed, Path(folder) / "run", vae))
                with TARGET.open("a") as file:
                    file.write(json.dumps(done[-1]) + "\n")
                sys.stdout.write(json.dumps(done[-1]) + "\n")
                sys.stdout.flush()
    if done:
        sys.stdout.write(table(done) + "\n")


if __name__ == "__main__":
    main()

"""Which sampler should the negatives come from? The study behind docs/studies/samplers.md.

    OMP_NUM_THREADS=1 python benchmarks/training_samplers.py gaussians25 --seeds 0 1 2
    OMP_NUM_THREADS=1 python benchmarks/training_samplers.py digits --seeds 0 1 2
    python benchmarks/training_samplers.py digits --picture

One VAE a seed, and one energy from the density ratio. Then contrastive divergence with persistent chains, from a fresh
energy or from the ratio's; its negatives come from one sampler or another, each of which spends `GRADIENTS` gradients
on every negative. Step sizes are those that the sampler's own warm-up finds on the ratio's model of the seed; training
leaves them fixed. Each finished cell is a line of results/training-samplers-RECIPE.jsonl and is not run again.
`--picture` draws docs/pictures/training-samplers-RECIPE.png from it.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from estimators import RATIO, train_energy

from results import hardware, version
from vaebm.experiment.evaluate import evaluate
from vaebm.experiment.run_directory import Run
from vaebm.models import VAEBM
from vaebm.sampling import KERNELS, sample_chains

ROOT = Path(__file__).parent.parent
GRADIENTS = 20
RUNGS = [1.0, 0.4, 0.15, 0.05]

# Without warm-up: in training the step size is given. An HMC trajectory has five leapfrogs on average; a step of
# tempering moves four replicas.
SAMPLERS: dict[str, dict[str, Any]] = {
    "langevin": {"steps": GRADIENTS},
    "mala": {"steps": GRADIENTS},
    "hmc": {"steps": GRADIENTS // 5, "num_leapfrog_steps": 5.0},
    "mclmc": {"steps": GRADIENTS},
    "tempering": {"steps": GRADIENTS // len(RUNGS), "betas": RUNGS},
}
DIVERGENCE: dict[str, dict[str, Any]] = {
    "gaussians25": {"iterations": 400, "batch_size": 256, "learning_rate": 2e-4, "buffer": 4096},
    "digits": {"iterations": 100, "batch_size": 96, "learning_rate": 1e-4, "buffer": 1024, "energy_square": 1e-2},
}
DRAWN = {"gaussians25": 2000, "digits": None}  # samples measured; null: as the recipe says
COMMON = {"kind": "contrastive_divergence", "replay_prob": 0.95, "replay_ramp_iterations": 50}
FRESH, AFTER = "fresh energy", "after the density ratio"
STARTS = {"gaussians25": (FRESH, AFTER), "digits": (AFTER,)}
FIGURES = {
    "gaussians25": ("log_likelihood", "exact held-out log-likelihood, nats (higher is better)"),
    "digits": ("frechet_distance", "Fréchet distance on the classifier (lower is better)"),
}


def own_step_size(model: VAEBM, kind: str, seed: int) -> float:
    """What the sampler's warm-up finds on a model; tempering's is that of the MALA in it."""
    kernel: Any = KERNELS["mala" if kind == "tempering" else kind]()
    generator = torch.Generator().manual_seed(seed)
    eps = model.start(256, generator)
    with model.frozen():
        for _ in range(20):  # a warm-up of fewer than 20 steps leaves the mass alone, which a recipe cannot give
            chains = sample_chains(
                model.noise_log_density, eps, kernel, steps=0, warmup=19, generator=generator, keep_history=False
            )
            warm: Any = chains.kernel
            kernel, eps = replace(warm, inverse_mass=1.0), chains.position
    return float(kernel.step_size)


def measured(run: Run) -> dict[str, list[float]]:
    """By the recipe's own sampler, the same for all."""
    return {
        m.name: [m.value, m.stderr] for m in evaluate(run, subjects=["vaebm"], n=DRAWN[run.recipe.name], device="cpu")
    }


def rows(recipe: str, seed: int, wanted: list[tuple[str, str]], folder: Path) -> Iterator[dict[str, Any]]:
    """Cells of a seed: the density ratio alone, and each wanted (start, sampler) from it or from a fresh energy."""
    vae: dict[str, Any] = {}
    run, model, seconds, _ = train_energy(recipe, seed, [RATIO[recipe]], [], folder / "ratio", vae)
    ratio = {name: weights.clone() for name, weights in model.energy_net.state_dict().items()}
    if ("density ratio", "none") in wanted:
        yield {"start": "density ratio", "sampler": "none", "seconds": seconds, "ended": "ended", **measured(run)}
    for start, sampler in wanted:
        if sampler == "none":
            continue
        step_size = own_step_size(model, sampler, seed)
        settings = {"kind": sampler, "step_size": step_size, "warmup": 0, **SAMPLERS[sampler]}
        phase = {**COMMON, **DIVERGENCE[recipe], "sampler": settings}
        energy = ratio if start == AFTER else None
        run, _, seconds, ended = train_energy(recipe, seed, [phase], [], folder / "cell", vae, energy)
        row = {"start": start, "sampler": sampler, "seconds": seconds, "ended": ended, "settings": settings}
        yield {**row, "gap": last_gap(run), **measured(run)}


def last_gap(run: Run) -> float:
    """Energy of samples less that of data, the mean over the last tenth of the iterations."""
    lines = [json.loads(line) for line in (run.path / "energy.jsonl").read_text().splitlines()]
    gaps = [line["gap"] for line in lines if "gap" in line]
    return statistics.fmean(gaps[-max(1, len(gaps) // 10) :]) if gaps else math.nan


def picture(recipe: str, found: list[dict[str, Any]]) -> Path:
    """Final quality by sampler, a dot a seed; a cross where training was given up."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    key, words = FIGURES[recipe]
    starts = STARTS[recipe]
    size = (1.5 + 4.5 * len(starts), 3.4)
    figure, rows = pyplot.subplots(1, len(starts), figsize=size, layout="constrained", squeeze=False)
    axes = rows[0]
    ratio = [row[key][0] for row in found if row["sampler"] == "none"]
    for axis, start in zip(axes, starts, strict=True):
        for place, sampler in enumerate(SAMPLERS):
            cells = [row for row in found if row["start"] == start and row["sampler"] == sampler]
            for ended, marker in ((True, "o"), (False, "x")):
                values = [row[key][0] for row in cells if (row["ended"] == "ended") == ended]
                axis.plot([place] * len(values), values, marker, color=f"C{place}")
        for value in ratio:
            axis.axhline(value, color="grey", linewidth=0.8)
        axis.set_xticks(range(len(SAMPLERS)), list(SAMPLERS))
        axis.set_title(f"contrastive divergence, {start}", fontsize=10)
    for axis in axes:
        axis.set_ylabel(words, fontsize=8)
    figure.suptitle(
        f"{recipe}: {GRADIENTS} gradients a negative sample; dots are seeds,\n"
        "crosses runs given up, lines the density ratio alone",
        fontsize=9,
    )
    target = ROOT / "docs" / "pictures" / f"training-samplers-{recipe}.png"
    figure.savefig(target, dpi=110)
    return target


def table(recipe: str, found: list[dict[str, Any]]) -> str:
    """Markdown: a row for each start and sampler, the seeds beside each other."""
    key, _ = FIGURES[recipe]
    names = [name for name in (key, "within_three_sigma") if any(name in row for row in found)]
    heads = ["energy from", "sampler", *(name.replace("_", " ") for name in names), "energy gap", "seconds", "given up"]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    order = {(row["start"], row["sampler"]): None for row in found}
    for start, sampler in order:
        cells = [row for row in found if (row["start"], row["sampler"]) == (start, sampler)]
        figures = [", ".join(f"{row[name][0]:.4g}" for row in cells) for name in names]
        gaps = ", ".join(f"{row['gap']:.2g}" for row in cells if "gap" in row)
        seconds = statistics.median(row["seconds"] for row in cells)
        lost = sum(row["ended"] != "ended" for row in cells)
        cells_of_row = [start, sampler, *figures, gaps, f"{seconds:.0f}", f"{lost} of {len(cells)}" if lost else ""]
        lines.append(f"| {' | '.join(cells_of_row)} |")
    return "\n".join(lines)


def main() -> None:
    """Runs what is missing, prints every line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=sorted(DIVERGENCE))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--picture", action="store_true", help="only draw, and print the table")
    arguments = parser.parse_args()
    recipe = arguments.recipe
    target = ROOT / "results" / f"training-samplers-{recipe}.jsonl"
    found = [json.loads(line) for line in target.read_text().splitlines()] if target.exists() else []
    if arguments.picture:
        sys.stdout.write(f"{picture(recipe, found)}\n\n{table(recipe, found)}\n")
        return
    every = [("density ratio", "none"), *((start, sampler) for start in STARTS[recipe] for sampler in SAMPLERS)]
    for seed in arguments.seeds:
        done = {(row["start"], row["sampler"]) for row in found if row["seed"] == seed}
        wanted = [cell for cell in every if cell not in done]
        if not wanted:
            continue
        with tempfile.TemporaryDirectory() as folder:
            for row in rows(recipe, seed, wanted, Path(folder)):
                line = json.dumps({"recipe": recipe, "seed": seed, **row, "hardware": hardware(), "version": version()})
                with target.open("a") as file:
                    file.write(line + "\n")
                sys.stdout.write(line + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()

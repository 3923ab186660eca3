"""Does an energy change disentanglement? Scores of codes, cell by cell: objective x seed x energy on top of its VAE.

    python benchmarks/disentanglement.py --objectives total_correlation --seeds 0 --energies none latent
    python benchmarks/disentanglement.py --data sprites --short --objectives beta --seeds 0 --energies latent

Each cell is a line of results/disentanglement.jsonl and is not run again. The VAE of an objective and a seed is
trained once, in runs/disentanglement, and resumed where it was stopped. Scores are of held-out data, two kinds of codes
each:

    means      posterior means of q(z | x), which an energy on top leaves alone
    refined    means of z under log p(x, z) - E(x, z), by MALA from the posterior means: 100 steps to adapt, 100 kept

The VAE is that of `dsprites-small`. Its likelihood is Bernoulli, so an energy on images reads the decoder's mean.
`--short` trains 300 and 30 iterations and takes mig and the FactorVAE score alone; such cells are marked.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from results import hardware, version
from vaebm import metrics
from vaebm.data import Split
from vaebm.experiment.recipe import load_recipe
from vaebm.experiment.train import build_model, train
from vaebm.metrics.measurement import Measurement
from vaebm.models import VAEBM
from vaebm.progress import silent
from vaebm.sampling import KERNELS, sample_chains
from vaebm.training.checkpoint import Checkpoints
from vaebm.training.engine import Engine, threads
from vaebm.training.log import MetricsLog
from vaebm.training.loop import Loop
from vaebm.training.monitor import DivergenceMonitor
from vaebm.training.stage import Training

ROOT = Path(__file__).parent.parent
RECIPE, TARGET = "dsprites-small", ROOT / "results" / "disentanglement.jsonl"
DATA = {"dsprites": [], "sprites": ["data={kind: sprites}"]}
OBJECTIVES = {
    "elbo": "{kind: elbo}",
    "beta": "{kind: beta, beta: 4}",
    "factor": "{kind: factor, gamma: 20}",
    "total_correlation": "{kind: total_correlation, beta: 6}",
    "covariance": "{kind: covariance, off_diagonal: 10, diagonal: 10}",
}
RATIO = "energy_stage.phases={ratio: {kind: density_ratio, iterations: ITERATIONS, learning_rate: 5.0e-4}}"
IMAGE = "energy={image: {kind: residual, stem: 16, widths: [16, 32], halve: [0, 1]}, input: mean, latent: LATENT}"
ENERGIES = {
    "none": ["energy={image: null, latent: null}"],
    "latent": [],  # the recipe's own
    "image": [IMAGE.replace("LATENT", "null"), RATIO],
    "both": [IMAGE.replace("LATENT", "{kind: correction, hidden: [256, 256]}"), RATIO],
}
KEY = ("data", "objective", "seed", "energy", "short")
ROWS, STEPS = 1000, 100


def vae_of(data: str, objective: str, seed: int, short: bool) -> tuple[VAEBM, list[str]]:
    """The trained model without an energy, and the overrides that made it."""
    overrides = [f"seed={seed}", f"vae_stage.objective={OBJECTIVES[objective]}", *DATA[data]]
    overrides += ["vae_stage.iterations=300"] if short else []
    name = f"{data}-{objective}-{seed}{'-short' if short else ''}"
    path = ROOT / "runs" / "disentanglement" / name
    run = train(RECIPE, path, overrides=[*overrides, *ENERGIES["none"]], device="cpu")
    model = run.model()
    assert isinstance(model, VAEBM)
    return model, overrides


def with_energy(base: VAEBM, overrides: list[str], energy: str, short: bool, folder: Path) -> VAEBM:
    """The same VAE with an energy trained on top."""
    iterations = 30 if short else 1000
    changes = [change.replace("ITERATIONS", str(iterations)) for change in ENERGIES[energy]]
    changes += ["energy_stage.latent.iterations=30"] if short else []
    recipe = load_recipe(RECIPE, [*overrides, *changes])
    engine, data = Engine("cpu", recipe.seed, None, folder), recipe.data.load()
    training = Training(build_model(recipe, data, engine.device), data.train, engine, silent(), recipe.seed)
    model: VAEBM = training.model
    model.vae.load_state_dict(base.vae.state_dict())
    model.set_mixture(base.mixture)
    stages = recipe.training_settings().stages(training)[1:]
    log = MetricsLog(folder / "metrics.jsonl", recipe.logging.every, True)
    monitor = DivergenceMonitor(recipe.divergence_monitor)
    Loop(training, stages, Checkpoints(folder / "checkpoints", 1, engine), log, monitor, recipe.checkpoint).run()
    return model


def refined(model: VAEBM, x: Tensor, z: Tensor, generator: torch.Generator) -> Tensor:
    """Means of z given x under the model, (B, latent_dim), by chains from z."""

    def target(codes: Tensor) -> Tensor:
        return model.log_density(x, codes)

    chains = sample_chains(target, z, KERNELS["mala"](), steps=STEPS, warmup=STEPS, generator=generator)
    assert chains.history is not None
    return chains.history.mean(0)


def scores(codes: Tensor, test: Split, seed: int, short: bool) -> dict[str, list[float]]:
    """Value and standard error by name."""
    assert test.factors is not None
    single: list[Callable[..., Measurement]] = [
        metrics.mig,
        metrics.factor_vae_score,
        *([] if short else [metrics.sap]),
    ]
    found: list[Measurement] = [score(codes, test.factors, seed=seed) for score in single]
    more: list[Callable[..., dict[str, Measurement]]] = [] if short else [metrics.dci, metrics.infomec]
    for several in more:
        found += several(codes, test.factors, seed=seed).values()
    return {m.name: [m.value, m.stderr] for m in found}


def cell(data: str, objective: str, seed: int, energy: str, short: bool) -> dict[str, Any]:
    """Trains what is missing of a cell, and scores its codes."""
    base, overrides = vae_of(data, objective, seed, short)
    folder = ROOT / "runs" / "disentanglement" / "-".join(["energy", data, objective, str(seed), energy, str(short)])
    folder.mkdir(parents=True, exist_ok=True)
    model = base if energy == "none" else with_energy(base, overrides, energy, short, folder)
    test = load_recipe(RECIPE, overrides).data.load().test
    chosen = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[: 1000 if short else 10_000]
    test, generator = test.subset(chosen.sort().values), torch.Generator().manual_seed(seed)
    means, ends = [], []
    for x in test.chunks(ROWS):
        means.append(model.encode(x).detach())
        ends.append(refined(model, x, means[-1], generator).detach())
    return {
        **dict(zip(KEY, (data, objective, seed, energy, short), strict=True)),
        "n": len(test),
        "means": scores(torch.cat(means), test, seed, short),
        "refined": scores(torch.cat(ends), test, seed, short),
        "recipe": RECIPE,
        "hardware": hardware(),
        "version": version(),
    }


def main() -> None:
    """Runs what is missing and prints every line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=list(DATA), default="dsprites")
    parser.add_argument("--objectives", nargs="+", choices=list(OBJECTIVES), default=list(OBJECTIVES))
    parser.add_argument("--energies", nargs="+", choices=list(ENERGIES), default=list(ENERGIES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--short", action="store_true", help="few iterations and scores, to see that it runs")
    asked = parser.parse_args()
    done = [json.loads(line) for line in TARGET.read_text().splitlines()] if TARGET.exists() else []
    cells = [
        (asked.data, o, seed, e, asked.short) for seed in asked.seeds for o in asked.objectives for e in asked.energies
    ]
    for key in cells:
        if any(tuple(row[name] for name in KEY) == key for row in done):
            continue
        with threads(1):
            row = cell(*key)
        with TARGET.open("a") as file:
            file.write(json.dumps(row) + "\n")
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

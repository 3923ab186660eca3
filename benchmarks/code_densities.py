"""Densities of codes beside each other, on one VAE: mixture, correction, flow, spline flow.

    OMP_NUM_THREADS=1 python benchmarks/code_densities.py runs/results/digits-0 runs/results/mnist-small-0
    python benchmarks/code_densities.py                                  # prints the table of what is there

Each is fitted to codes z ~ q(z | x) of the run's training data, with the settings below, and measured by

    log q(z)     mean over codes of test data, in nats; of a correction less its estimated normaliser
    distance     Fréchet, on the recipe's classifier, of decoder means at drawn codes, to the test images
    gradient     seconds that 1,000 densities take with their gradient in z, as a chain would ask for them

Each finished cell is a line of results/code_densities.jsonl and is not run again.
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
from torch import Tensor

from vaebm import metrics
from vaebm.data import DataSet
from vaebm.distributions.gaussian import standard_log_prob
from vaebm.energy import CorrectionSettings, FlowSettings, LatentEnergy, MixtureEnergySettings, SplineFlowSettings
from vaebm.experiment.run_directory import Run
from vaebm.metrics import train_classifier
from vaebm.models import VAEBM, in_noise_space
from vaebm.progress import silent
from vaebm.training.engine import Engine
from vaebm.training.estimators import LatentStageSettings, latent_stages
from vaebm.training.stage import Training

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "results" / "code_densities.jsonl"
Row = dict[str, Any]

KINDS = {
    "mixture": MixtureEnergySettings(),
    "correction": CorrectionSettings(hidden=[512, 512, 512]),
    "flow": FlowSettings(width=512, blocks=3, steps=10),
    "spline_flow": SplineFlowSettings(hidden=[256, 256], couplings=6),
}
FITTED: dict[str, Any] = {"iterations": 2500, "batch_size": 1024, "learning_rate": 2e-3, "codes": 200_000}
RATES = {"flow": 1e-3, "spline_flow": 1e-3}
SAMPLES, TIMED, FLOW_CODES = 5000, 1000, 300


def cell(path: Path, kind: str, classifier: metrics.Classifier) -> Row:
    """Fits one density and measures it."""
    run = Run.open(path)
    data, old = run.data(), in_noise_space(run.model("cpu"))
    generator = torch.Generator().manual_seed(run.recipe.seed)
    term: LatentEnergy = KINDS[kind].build(old.vae.code_dim, len(old.mixture.means), generator)
    settings = old.settings.model_copy(update={"precision": "float32"})
    model = VAEBM(old.vae, {"latent": term}, settings, mixture=old.mixture)
    model.set_mixture(old.mixture)
    for p in model.vae.parameters():
        p.requires_grad_(False)
    rate = {"learning_rate": RATES[kind]} if kind in RATES else {}
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine("cpu", run.recipe.seed, None, Path(folder))
        training = Training(model, data.train, engine, silent(), run.recipe.seed)
        for stage in latent_stages(training, LatentStageSettings(**{**FITTED, **rate})):
            stage.begin()
            for iteration in range(stage.iterations):
                stage.step(iteration)
            stage.end()
    seconds = time.perf_counter() - started
    nats, of_gradient = likelihood(model, term, data, kind)
    with torch.no_grad():
        z = term.sample(SAMPLES, torch.Generator().manual_seed(1))
        images = torch.cat([model.likelihood(part).center for part in z.split(500)])
    features = metrics.classifier_features(classifier)
    test = data.test.batch(torch.arange(min(len(data.test), SAMPLES))).x
    distance = metrics.frechet_distance(features(images), features(test)).value
    weights = sum(p.numel() for p in term.parameters())
    row: Row = {"recipe": run.recipe.name, "seed": run.recipe.seed, "density": kind, "weights": weights}
    row |= {"fit_seconds": round(seconds, 1), "log_likelihood": round(nats, 3), "distance": round(distance, 4)}
    return {**row, "gradient_seconds": round(of_gradient, 3)}


def likelihood(model: VAEBM, term: LatentEnergy, data: DataSet, kind: str) -> tuple[float, float]:
    """Mean log q of codes of test data, and the seconds of a gradient of 1,000 densities."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        x = data.test.batch(torch.arange(min(len(data.test), 5000))).x
        z = torch.cat([model.vae.infer(part, generator).z for part in x.split(500)])

    def log_prob(codes: Tensor) -> Tensor:
        energy: Tensor = term(None, codes)
        return standard_log_prob(codes) - energy

    few = FLOW_CODES if kind == "flow" else len(z)  # its density costs d Jacobian products
    with torch.no_grad():
        nats = float(log_prob(z[:few]).mean()) - term.log_normaliser(generator)
    count = 100 if kind == "flow" else TIMED
    codes, times = z[torch.arange(count) % len(z)], []
    for _ in range(3):
        leaf = codes.clone().requires_grad_()
        started = time.perf_counter()
        log_prob(leaf).sum().backward()
        times.append((time.perf_counter() - started) * TIMED / count)
    return nats, statistics.median(times)


def table(rows: list[Row]) -> str:
    """A line a density; medians over seeds."""
    lines = [
        "| codes of | density | weights | fit, s | log q(z), nats | distance | gradient of 1,000, s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for recipe in dict.fromkeys(row["recipe"] for row in rows):
        for kind in KINDS:
            chosen = [row for row in rows if (row["recipe"], row["density"]) == (recipe, kind)]
            if not chosen:
                continue

            def middle(name: str, digits: int, chosen: list[Row] = chosen) -> str:
                values = sorted(row[name] for row in chosen)
                spread = f" ({values[0]:.{digits}f} to {values[-1]:.{digits}f})" if len(values) > 1 else ""
                return f"{statistics.median(values):.{digits}f}{spread}"

            lines.append(
                f"| {recipe}, n = {len(chosen)} | {kind} | {chosen[0]['weights']:,} | {middle('fit_seconds', 0)} |"
                f" {middle('log_likelihood', 2)} | {middle('distance', 3)} | {middle('gradient_seconds', 3)} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Runs what is missing, prints every line and then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path)
    arguments = parser.parse_args()
    done = [json.loads(line) for line in TARGET.read_text().splitlines()] if TARGET.exists() else []
    for path in arguments.runs:
        recipe = Run.open(path).recipe
        known = {row["density"] for row in done if (row["recipe"], row["seed"]) == (recipe.name, recipe.seed)}
        if missing := [kind for kind in KINDS if kind not in known]:
            data = Run.open(path).data()
            classifier = train_classifier(data.train, len(data.class_names or ()))
            for kind in missing:
                done.append(cell(path, kind, classifier))
                with TARGET.open("a") as file:
                    file.write(json.dumps(done[-1]) + "\n")
                sys.stdout.write(json.dumps(done[-1]) + "\n")
                sys.stdout.flush()
    sys.stdout.write(table(done) + "\n")


if __name__ == "__main__":
    main()

"""The NVAE against the flat convolutional VAE on MNIST: as many weights, the same likelihood, the same processor time.

    VAEBM_DATA=... python benchmarks/nvae_elbo.py                                     # both likelihoods, an hour each
    VAEBM_DATA=... python benchmarks/nvae_elbo.py --likelihoods bernoulli --minutes 60 --seed 0

bernoulli    binarised images: training batches are drawn anew from their grey values each time (dynamic binarisation),
             the 10,000 test images once. What the published 78.0 nats are on (Vahdat & Kautz 2020).
censored     the grey images, in nats of a density with point masses at black and white: only differences mean something

The two models train at the same time, on one core each, for `minutes` of that core: as much as half the time on both.
How many iterations these are is measured before, in processor time and on both models in turn, so that other work on
the machine makes a run longer but changes nothing else. The plan is kept, and what was stopped goes on where it was:
run the same command again. Runs lie in runs/nvae_elbo/, rows in results/nvae_elbo.json: `elbo` is the mean over the
test set of four draws each; `importance_bound` is log mean of 50 weights, a tighter bound, on the first 1,000 images.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from results import hardware, version
from vaebm.data import Batch, DataSet
from vaebm.distributions.gaussian import standard_log_prob
from vaebm.experiment.recipe import Recipe, validate
from vaebm.experiment.train import build_model
from vaebm.models import VAEBM
from vaebm.progress import Progress, on_terminal, silent
from vaebm.training.checkpoint import Checkpoints
from vaebm.training.engine import Engine
from vaebm.training.log import MetricsLog
from vaebm.training.loop import Loop
from vaebm.training.monitor import DivergenceMonitor
from vaebm.training.stage import Training
from vaebm.training.vae import VAEStage
from vaebm.vae import VAE, FlatVAE, elbo
from vaebm.vae.nvae.hierarchy import Group
from vaebm.vae.nvae.model import NVAE

ROOT = Path(__file__).parent.parent
ROWS = "rows.json"
PUBLISHED = 78.01  # nats; NVAE on dynamically binarised MNIST
TIMED_STEPS, TIMED_TURNS = 5, 3
WARMUP_SHARE = 0.3  # of the iterations, in which the KL weight rises, as published

# Within 4 % of each other in weights; the NVAE has fewer. Its five groups lie at 7 x 7: two more above them, at 4 x 4,
# carried one nat together. Depth-wise kernels of 3 x 3 are wide enough there, and take a quarter off a training step.
VAES: dict[str, dict[str, Any]] = {
    "nvae": {"kind": "nvae", "widths": [8, 32, 96], "groups": [5], "latents": 4, "expansion": 4, "kernel_size": 3},
    "conv": {"kind": "conv", "latent_dim": 25, "widths": [32, 64, 128]},
}
# Each with the batches, of those tried, that serve it best in seven minutes (docs/benchmarks.md).
STAGES: dict[str, dict[str, Any]] = {
    "nvae": {"batch_size": 32, "optimizer": "adam", "learning_rate": 2e-3, "ema_decay": 0.99},
    "conv": {"batch_size": 64, "optimizer": "adam", "learning_rate": 2e-3, "ema_decay": 0.99},
}
LIKELIHOODS: dict[str, dict[str, Any]] = {
    "bernoulli": {"kind": "bernoulli"},
    "censored": {"kind": "censored", "scale": "pixel"},
}


class Binarised(Training):
    """Every batch black or white, by its grey values."""

    def batch(self, size: int) -> Batch:
        x, y = super().batch(size)
        return Batch(binarised(x, self.engine.generator), y)


def binarised(x: Tensor, generator: torch.Generator) -> Tensor:
    """A draw in {-1, 1} with mean x."""
    return torch.bernoulli((x + 1.0) / 2.0, generator=generator) * 2.0 - 1.0


class Side:
    """One model with one likelihood and one seed."""

    def __init__(self, model: str, likelihood: str, seed: int, iterations: int, folder: Path) -> None:
        self.name, self.likelihood, self.seed = model, likelihood, seed
        self.folder = folder / f"{likelihood}-{model}-{seed}"
        warmup = max(1, round(WARMUP_SHARE * iterations))
        self.recipe: Recipe = validate(
            {
                "name": f"nvae_elbo-{likelihood}-{model}",
                "summary": "one side of benchmarks/nvae_elbo.py",
                "seed": seed,
                "threads": 1,
                "precision": "auto",
                "data": {"kind": "mnist", "validation": 0},
                "vae": {**VAES[model], "likelihood": LIKELIHOODS[likelihood]},
                "vae_stage": {"iterations": iterations, "kl_warmup_iterations": warmup, **STAGES[model]},
                "code_mixture": {"components": 1, "codes": 1000},
                "sampler": {"kind": "langevin"},
            },
            "nvae_elbo",
        )

    def training(self, data: DataSet, progress: Progress) -> Training:
        """The untrained model with all that its stage needs."""
        engine = Engine("cpu", self.seed, None, self.folder)
        model = build_model(self.recipe.for_device(engine.device), data, engine.device)
        kind = Binarised if self.likelihood == "bernoulli" else Training
        return kind(model, data.train, engine, progress, self.seed)

    def train(self, data: DataSet, progress: Progress) -> tuple[VAEBM, float]:
        """The trained model, and the seconds that all sessions took together."""
        recipe, training = self.recipe, self.training(data, progress)
        self.folder.mkdir(parents=True, exist_ok=True)
        stage = VAEStage(training, recipe.vae_stage)
        log = MetricsLog(self.folder / "metrics.jsonl", recipe.logging.every, True)
        checkpoints = Checkpoints(self.folder / "checkpoints", 2, training.engine)
        loop = Loop(
            training, [stage], checkpoints, log, DivergenceMonitor(recipe.divergence_monitor), recipe.checkpoint
        )
        loop.run()
        return training.model, loop.seconds


def plan(likelihood: str, seed: int, minutes: float, folder: Path, data: DataSet) -> dict[str, int]:
    """Iterations of each model that take `minutes` of one core, by steps timed in turn; kept in `folder`."""
    path = folder / f"plan-{likelihood}-{seed}.json"
    if path.is_file():
        found: dict[str, int] = json.loads(path.read_text())
        return found
    stages = {}
    for name in VAES:
        side = Side(name, likelihood, seed, 1000, folder)
        training = side.training(data, silent())
        stages[name] = VAEStage(training, side.recipe.vae_stage)
        stages[name].begin()
    seconds: dict[str, list[float]] = {name: [] for name in stages}
    for turn in range(1 + TIMED_TURNS):
        for name, stage in stages.items():
            started = time.process_time()
            for iteration in range(TIMED_STEPS):
                stage.step(iteration)
            if turn:  # the first one warms up
                seconds[name].append((time.process_time() - started) / TIMED_STEPS)
    iterations = {name: round(60 * minutes / statistics.median(each)) for name, each in seconds.items()}
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(iterations))
    return iterations


def log_weights(vae: VAE, x: Tensor, generator: torch.Generator) -> Tensor:
    """log p(x | z) + log p(z) - log q(z | x) of one draw z for each point, (B,); log p - log q in noise space."""
    if isinstance(vae, FlatVAE):
        posterior = vae.posterior(x)
        z = posterior.sample(generator)
        return vae.log_joint(x, z) - posterior.log_prob(z)
    assert isinstance(vae, NVAE)
    features, ratios = vae.tower(x), []

    def choose(number: int, group: Group, state: Tensor) -> Tensor:
        posterior = group.posterior_noise(state, features[number])
        eps = posterior.sample(generator)
        ratios.append(standard_log_prob(eps) - posterior.log_prob(eps))
        return group.prior(state).transport(eps)

    state = vae.hierarchy(x.shape[0], choose)
    return vae.likelihood(vae.tail(state)).log_prob(x) + torch.stack(ratios).sum(0)


@torch.no_grad()
def measure(model: VAEBM, x: Tensor) -> list[dict[str, Any]]:
    """Both bounds on test images, in nats an image, at full precision; errors are over images."""
    generator = torch.Generator().manual_seed(0)
    parts = x.split(500)
    bounds = torch.stack([torch.cat([elbo(model.vae, part, generator).value for part in parts]) for _ in range(4)])
    few = x[:1000].split(500)
    weights = torch.stack([torch.cat([log_weights(model.vae, part, generator) for part in few]) for _ in range(50)])
    tighter = torch.logsumexp(weights.double(), 0) - math.log(len(weights))

    def row(name: str, values: Tensor, **settings: Any) -> dict[str, Any]:
        error = float(values.std() / len(values) ** 0.5)
        return {"name": name, "value": float(values.mean()), "stderr": error, "n": len(values), "settings": settings}

    return [
        row("elbo", bounds.double().mean(0), split="test", draws_each=4),
        row("importance_bound", tighter, split="test", weights_each=50),
    ]


def one_side(side: Side, data: DataSet, minutes: float) -> None:
    """Trains and measures one model, and leaves its rows in its folder."""
    test = data.test.all()
    if side.likelihood == "bernoulli":
        test = binarised(test, torch.Generator().manual_seed(0))
    model, seconds = side.train(data, on_terminal())
    described = {
        "likelihood": side.likelihood,
        "vae": side.recipe.vae.model_dump(mode="json"),
        "vae_stage": side.recipe.vae_stage.model_dump(mode="json"),
        "weights": sum(p.numel() for p in model.vae.parameters()),
        "latents": model.vae.latent_dim,
        "precision": model.settings.precision,
        "processor_minutes": minutes,
    }
    added = {
        "recipe": side.recipe.name,
        "seed": side.seed,
        "seconds": round(seconds, 1),
        "hardware": hardware(),
        "command": shlex.join(["python", *sys.argv]),
        "version": version(),
    }
    rows = [
        {**row, "subject": side.name, "settings": {**row["settings"], **described}, **added}
        for row in measure(model, test)
    ]
    (side.folder / ROWS).write_text(json.dumps(rows))


def main() -> None:
    """Trains what is missing, measures it, and gathers all rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--likelihoods", nargs="+", choices=list(LIKELIHOODS), default=list(LIKELIHOODS))
    parser.add_argument("--minutes", type=float, default=60.0, help="of one core, for each model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "nvae_elbo")
    parser.add_argument("--target", type=Path, default=ROOT / "results" / "nvae_elbo.json")
    parser.add_argument("--side", choices=list(VAES), help="train and measure only this one, as a part of a whole")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = Side("conv", "censored", 0, 1, arguments.folder).recipe.data.load()
    for likelihood in arguments.likelihoods:
        settings = (arguments.seed, arguments.minutes, arguments.folder)
        iterations = plan(likelihood, *settings, data)
        sides = [Side(name, likelihood, arguments.seed, iterations[name], arguments.folder) for name in VAES]
        if arguments.side is not None:
            one_side(next(side for side in sides if side.name == arguments.side), data, arguments.minutes)
            continue
        words = [sys.executable, *sys.argv, "--likelihoods", likelihood, "--side"]
        running = [subprocess.Popen([*words, side.name]) for side in sides if not (side.folder / ROWS).is_file()]
        if sum(process.wait() != 0 for process in running):  # every one of them is waited for
            sys.exit(f"{likelihood}: one side stopped; run the same command again to go on")
    if arguments.side is None:
        gather(arguments.folder, arguments.target)


def gather(folder: Path, target: Path) -> None:
    """All rows that there are, in one file, and printed."""
    rows = [row for path in sorted(folder.glob(f"*/{ROWS}")) for row in json.loads(path.read_text())]
    target.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
    for row in rows:
        likelihood, value = row["settings"]["likelihood"], row["value"]
        gap = f", {-value - PUBLISHED:+.2f} nats from the published {PUBLISHED}" if likelihood == "bernoulli" else ""
        print(f"{likelihood} {row['subject']}: {row['name']} {value:.2f} +- {row['stderr']:.2f}{gap}", flush=True)


if __name__ == "__main__":
    main()

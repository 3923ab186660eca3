"""What a recipe will cost before it starts, measured on this machine; what happened in a run, in words.

Cost of a recipe: the model is built, a few steps of every stage are timed on real data, and the estimate is

    time = sum over stages of iterations x median step + chains started x their steps x median chain step

Where a step takes long, a smaller batch is timed, and its time and memory are scaled to the whole one. Only shapes
count, so noise stands in for a published data set: nothing is downloaded.

Memory: weights, optimizer and averages (16 bytes a weight), the activations that a step keeps for its backward pass
(counted, not guessed), and the pool of chains.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vaebm.data import PublishedSettings
from vaebm.experiment.recipe import Recipe
from vaebm.experiment.run_directory import Run
from vaebm.experiment.train import build_model
from vaebm.models import in_noise_space
from vaebm.progress import silent
from vaebm.training.engine import Engine
from vaebm.training.estimators.ratio_rounds import RatioRoundsSettings
from vaebm.training.loop import Stage, Training

TIMED_STEPS = 3
FEW_ROWS, GROWTH = 2, 8  # rows of the first batch (the second has twice as many), and how the further ones grow
MAX_SECONDS = 1.5  # of a step that is timed
CHAINS, CHAIN_STEPS = 256, 3
BYTES_PER_TRAINED_WEIGHT = 16  # weight, gradient, and Adam's two moments, in float32


FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class StageCost:
    """Measured cost of one stage."""

    name: str
    iterations: int
    seconds_per_iteration: float
    activation_bytes: int
    pool_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """Of the whole stage."""
        return self.iterations * self.seconds_per_iteration + self.pool_seconds


@dataclass(frozen=True)
class Inspection:
    """Sentences for people, and the numbers behind them."""

    sentences: list[str]
    numbers: dict[str, Any] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """One sentence a line."""
        return self.sentences

    def to_json(self) -> dict[str, Any]:
        """The numbers."""
        return self.numbers


def inspect_recipe(recipe: Recipe, device: str | None = None) -> Inspection:
    """Builds the model and times a few steps of every stage; writes nothing that stays.

    Raises:
        InputError: the data cannot be read, or there is no such device.
    """
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(device, recipe.seed, None, Path(folder))
    recipe = recipe.for_device(engine.device)
    data = recipe.data.stand_in() if isinstance(recipe.data, PublishedSettings) else recipe.data.load()
    training = Training(
        in_noise_space(build_model(recipe, data, engine.device)),
        data.train.to(engine.device),
        engine,
        silent(),
        recipe.seed,
    )
    model = training.model
    chain_step = _chain_step(training)
    stages = range(len(recipe.training_settings().stages(training)))
    costs = [_stage_cost(training, recipe, position, chain_step) for position in stages]
    trained = max(_count(model.vae), _count(model.energy_net))
    memory = 4 * _count(model) + BYTES_PER_TRAINED_WEIGHT * trained + max(cost.activation_bytes for cost in costs)
    seconds = sum(cost.seconds for cost in costs)
    sample_seconds = 1000 * chain_step * (recipe.sampler.steps + recipe.sampler.warmup)
    size = (
        f"model: {_count(model.vae):,} weights in the VAE, {_count(model.energy_net):,} in the energy;"
        f" {model.vae.latent_dim} latents, chains move in {model.noise.dim:,} dimensions"
    )
    sentences = [
        f"recipe {recipe.name}: {recipe.summary}",
        *([f"published: {recipe.published}"] if recipe.published else []),
        f"data: {data.description}",
        size,
        *(
            f"stage {cost.name}: {cost.iterations:,} iterations, {1e3 * cost.seconds_per_iteration:.1f} ms each"
            + (f", chains {_duration(cost.pool_seconds)}" if cost.pool_seconds else "")
            + f": {_duration(cost.seconds)}"
            for cost in costs
        ),
        f"memory while training: about {memory / 2**20:,.0f} MiB beside PyTorch itself",
        f"training on {engine.device}: about {_duration(seconds)}; 1,000 samples: about {_duration(sample_seconds)}",
    ]
    numbers = {
        "recipe": recipe.name,
        "device": str(engine.device),
        "weights": {"vae": _count(model.vae), "energy": _count(model.energy_net)},
        "noise_dim": model.noise.dim,
        "stages": [{**asdict(cost), "seconds": cost.seconds} for cost in costs],
        "memory_bytes": memory,
        "seconds": seconds,
        "seconds_per_thousand_samples": sample_seconds,
    }
    return Inspection(sentences, numbers)


def inspect_run(run: Run) -> Inspection:
    """What happened, from the run's own files."""
    events, history, measurements = run.events(), run.history(), run.measurements()
    sentences = [f"run {run.path}: recipe {run.recipe.name}, seed {run.recipe.seed}"]
    for event in events:
        if event["event"] == "stage":
            rows = [row for row in history if row["stage"] == event["stage"]]
            sentences.append(_stage_sentence(event["stage"], event["iterations"], rows))
        else:
            sentences.append(f"{event['event']}: {event['message']}")
    if not run.is_complete:
        sentences.append(f"not finished: go on with `vaebm train {run.path}`")
    sentences += [f"{m.subject}: {m}" for m in measurements]
    if run.is_complete and not measurements:
        sentences.append(f"nothing measured yet: run `vaebm evaluate {run.path}`")
    numbers = {
        "path": str(run.path),
        "recipe": run.recipe.name,
        "seed": run.recipe.seed,
        "complete": run.is_complete,
        "events": events,
        "last": {row["stage"]: row for row in history},
        "measurements": [m.to_json() for m in measurements],
    }
    return Inspection(sentences, numbers)


def _stage_sentence(name: str, iterations: int, rows: list[dict[str, Any]]) -> str:
    if not rows:
        return f"stage {name}: begun, of {iterations:,} iterations"
    last = rows[-1]
    sentence = (
        f"stage {name}: {last['iteration']:,} of {iterations:,} iterations, {last['seconds']:.0f} s from the start"
    )
    if "elbo" in last:
        groups = ", ".join(
            f"{key[3:]} {value:.1f}" for key, value in last.items() if key.startswith("kl_") and key != "kl_weight"
        )
        return f"{sentence}; ELBO {last['elbo']:.2f} nats, KL by group: {groups}"
    if "gap" in last:
        words = "samples look like data" if abs(last["gap"]) < 1.0 else "samples are still told from data"
        sentence += f"; energy gap {last['gap']:.2f} nats ({words})"
    if "acceptance" in last:
        sentence += f", acceptance {last['acceptance']:.2f}"
    return sentence


def _with_rows(recipe: Recipe, rows: int) -> Recipe:
    """The recipe with batches, and pools of chains, of so many rows."""
    stage = recipe.energy_stage
    latent = stage.latent.model_copy(update={"batch_size": rows})
    phases = {name: phase and phase.model_copy(update={"batch_size": rows}) for name, phase in stage.phases.items()}
    for name, phase in phases.items():
        if isinstance(phase, RatioRoundsSettings):
            phases[name] = phase.model_copy(update={"chains": rows, "restart_steps": 1})
    return recipe.model_copy(
        update={
            "vae_stage": recipe.vae_stage.model_copy(update={"batch_size": rows}),
            "energy_stage": stage.model_copy(update={"latent": latent, "phases": phases}),
        }
    )


def _stage_cost(training: Training, recipe: Recipe, position: int, chain_step: float) -> StageCost:
    """Of one of the recipe's stages."""
    stage = recipe.training_settings().stages(training)[position]
    phase, rows, pool_seconds = recipe.energy_stage.phases.get(stage.name), recipe.energy_stage.batch_size, 0.0
    if stage.name == "vae":
        rows = recipe.vae_stage.batch_size
    elif phase is None:
        rows = recipe.energy_stage.latent.batch_size
    elif phase.batch_size is not None:
        rows = phase.batch_size
    if isinstance(phase, RatioRoundsSettings):
        sampler = phase.sampler or recipe.sampler
        moves = phase.restart_steps * (1 + phase.restart_fraction * (phase.rounds - 1))
        moves += sampler.steps * (1 - phase.restart_fraction) * (phase.rounds - 1)
        pool_seconds = phase.chains * moves * chain_step

    def measure(rows: int) -> FloatArray:
        timed = _timed(_with_rows(recipe, rows).training_settings().stages(training)[position])
        training.model.vae.eval()  # its own stage would have left it so
        return np.array(timed)

    seconds, kept = _extrapolated(measure, rows)
    return StageCost(stage.name, stage.iterations, seconds, round(kept), pool_seconds)


def _extrapolated(measure: Callable[[int], FloatArray], rows: int) -> FloatArray:
    """Costs of `rows` rows, the first in seconds: measured with ever more rows while that takes little time.

    From there along the straight line through the last two, for a step's fixed costs do not grow with its rows; where a
    few rows take long already, fixed costs hardly count, and the line goes through zero.
    """
    fewer, more = min(FEW_ROWS, rows), min(2 * FEW_ROWS, rows)
    less = measure(fewer)
    if less[0] > MAX_SECONDS:
        return less * (rows / fewer)
    cost = measure(more)

    def line(n: int) -> FloatArray:
        return np.maximum(cost, cost + (n - more) / (more - fewer) * (cost - less)) if n > more else cost

    while more < rows and line(following := min(rows, GROWTH * more))[0] < MAX_SECONDS:
        fewer, less, more = more, cost, following
        cost = measure(more)
    return line(rows)


def _timed(stage: Stage) -> tuple[float, int]:
    """Median seconds of a step, and the bytes that a step keeps for its backward pass."""
    stage.begin()
    kept = _kept_bytes(lambda: stage.step(0))
    times: list[float] = []
    while len(times) < TIMED_STEPS and sum(times) < MAX_SECONDS:
        started = time.perf_counter()
        stage.step(1 + len(times))
        times.append(time.perf_counter() - started)
    return statistics.median(times), kept


def _chain_step(training: Training) -> float:
    """Seconds of one chain step for one chain, in a batch of chains."""
    model, generator = training.model, training.engine.generator
    sampler = model.settings.sampler.model_copy(update={"steps": CHAIN_STEPS, "warmup": 0})

    def measure(rows: int) -> FloatArray:
        eps = model.noise.standard(rows, generator, next(model.parameters()))
        started = time.perf_counter()
        model.chains(eps, generator, sampler)
        return np.array([time.perf_counter() - started])

    measure(FEW_ROWS)  # not timed: the first call prepares
    return float(_extrapolated(measure, CHAINS)[0]) / (CHAINS * (CHAIN_STEPS + 1))


def _kept_bytes(step: Callable[[], object]) -> int:
    kept = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        step()
    return kept


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 72 * 3600 else f"{seconds / 86400:,.0f} days"

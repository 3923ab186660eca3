"""Minutes: a recipe cut to the time that one has.

    seconds = VAE's iterations x step + sum over phases of (iterations x step + gradients of its chains x gradient)
              + gradients of what is measured x gradient

A few steps of every stage and of a chain are run on this machine, on noise of the data's shape, so no count of
operations stands between the estimate and the truth. Two thirds of the time are for training, the rest measures and
reports. Iterations of every stage, or its rounds, are multiplied by one factor; where less than `FEWEST` of the
recipe's would be left, images of a folder are made smaller instead, by steps of a quarter. Nothing is multiplied by
more than `MOST`: a recipe's iterations are about what its data can use.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vaebm.data import DataSet, Split, modality_of
from vaebm.data.sets.folder import MIN_SIDE, FolderSettings
from vaebm.errors import InputError
from vaebm.experiment.inspect import briefly
from vaebm.experiment.recipe import Recipe, validate
from vaebm.models.draws import NoiseSpaceModel
from vaebm.progress import Progress, silent
from vaebm.training.engine import Engine, processes, threads
from vaebm.training.estimators import EstimatorSettings
from vaebm.training.estimators.base import IteratedSettings
from vaebm.training.estimators.contrastive_divergence import ContrastiveDivergenceSettings
from vaebm.training.estimators.ratio_rounds import RatioRoundsSettings
from vaebm.training.stage import Training
from vaebm.wording import duration

OF_TRAINING = 0.65  # of the minutes, less what is reserved
RESERVED = 60.0  # seconds: starting, trying sizes, a classifier, the report
MARGIN = 1.1  # begins and ends of stages, the mixture, checkpoints
FEWEST, MOST = 0.4, 2.0
SMALLER = 0.75  # a side, from one size to the next
STEPS, CHAINS = 3, 64  # that are timed
ROWS = 256  # of noise
MEASURED = (200, 2000)  # samples, at least and at most
CHOSEN = frozenset({"minutes", "iterations", "rounds", "size", "evaluation"})  # what is fitted, by its keys


@dataclass(frozen=True)
class Rates:
    """What a recipe costs on this machine, in seconds.

    Args:
        steps: of an iteration, by stage.
        gradient: of one chain.
    """

    steps: dict[str, float]
    gradient: float


def fitted(
    recipe: Recipe, data: DataSet, minutes: float, device: str | None, progress: Progress
) -> tuple[Recipe, DataSet]:
    """The recipe with iterations, rounds, samples and, of a folder, a size that suit the time; and its data.

    Raises:
        InputError: the time is too short for anything, or the recipe is none whose stages are known here.
    """
    if not 0 < minutes < math.inf:
        raise InputError(f"--minutes {minutes:g}: give a positive number")
    if processes() > 1:
        raise InputError("--minutes measures one process: leave it away where several train")
    if not hasattr(recipe, "vae_stage"):
        raise InputError(f"--minutes fits recipes of a VAE and an energy, and {recipe.name} is none: leave it away")
    available, whole = 60 * minutes - RESERVED, data.shape
    if available <= 0:
        raise InputError(f"--minutes {minutes:g} is too short: give at least {math.ceil(RESERVED / 60) + 1}")
    shape, said = whole, ""
    while True:
        rates = measured_rates(recipe, shape, device)
        share = OF_TRAINING * available / (MARGIN * training_seconds(recipe, rates))
        said = said or f"all of it takes about {duration(MARGIN * training_seconds(recipe, rates) / OF_TRAINING)}"
        smaller = _smaller(shape)
        can_shrink = isinstance(recipe.data, FolderSettings) and Path(recipe.data.root).suffix != ".npz"
        if share >= FEWEST or not can_shrink or min(smaller[1:]) < MIN_SIDE:
            break
        shape = smaller
    if share < FEWEST / 4:
        needed = duration(available * FEWEST / share + RESERVED)
        raise InputError(f"--minutes {minutes:g} is too short: give about {needed}, or a smaller recipe")
    chosen = _scaled(recipe, min(share, MOST), minutes, rates)
    if shape != whole:
        chosen = validate(
            {**chosen.model_dump(mode="json"), "data": {**recipe.data.model_dump(), "size": list(shape[1:])}}, "minutes"
        )
        data = chosen.data.load(progress)
    progress.say(_sentence(chosen, minutes, shape, whole, said))
    return chosen, data


def _smaller(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Sides in steps of four, which halve well."""
    return (shape[0], *(4 * math.floor(SMALLER * side / 4) for side in shape[1:]))


def measured_rates(recipe: Recipe, shape: tuple[int, ...], device: str | None) -> Rates:
    """Runs a few steps of every stage, with few chains, on noise of this shape."""
    with tempfile.TemporaryDirectory() as folder, threads(recipe.threads):
        engine = Engine(device, recipe.seed, None, Path(folder))
        generator = torch.Generator().manual_seed(recipe.seed)
        noise = torch.randn(ROWS, *shape, generator=generator)
        splits = {
            "image": lambda: Split((128 + 50 * noise).clamp(0, 255).to(torch.uint8), levels=255),
            "points": lambda: Split(noise),
            "rows": lambda: Split(noise),
        }
        split = splits[modality_of(shape).name]().to(engine.device)
        model = recipe.model_settings().build(shape, generator).to(engine.device)
        training = Training(model, split, engine, silent(), recipe.seed)
        steps = {}
        for stage in briefly(recipe.training_settings()).stages(training):
            stage.begin()
            stage.step(0)
            steps[stage.name] = _typical(lambda stage=stage: stage.step(1), engine)  # type: ignore[misc]
            if stage.name == "vae":
                model.eval()
        assert isinstance(model, NoiseSpaceModel)
        eps = model.draw(CHAINS, engine.generator, "vae")
        with model.frozen():
            coordinates = model.moves.coordinates(eps)
            kernel = model.kernel()
            gradient = _typical(lambda: kernel.init(coordinates.start, coordinates.target), engine) / CHAINS
    return Rates(steps, gradient)


def _typical(run: Callable[[], Any], engine: Engine) -> float:
    times = []
    for _ in range(STEPS):
        started = time.perf_counter()
        run()
        if engine.device.type != "cpu":
            torch.zeros(1, device=engine.device).item()  # waits
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def training_seconds(recipe: Recipe, rates: Rates) -> float:
    """Of all stages."""
    total: float = recipe.vae_stage.iterations * rates.steps.get("vae", 0.0)
    total += recipe.energy_stage.latent.iterations * rates.steps.get("latent_energy", 0.0)
    for name, phase in recipe.energy_stage.phases.items():
        if phase is not None and name in rates.steps:
            total += phase.iterations * rates.steps[name] + _gradients_of_chains(recipe, phase) * rates.gradient
    return total


def _gradients_of_chains(recipe: Recipe, phase: EstimatorSettings) -> float:
    """Of all that a phase runs."""
    if isinstance(phase, RatioRoundsSettings):
        sampler, chains = phase.sampler or recipe.sampler, phase.chains
        restarted = phase.restart_fraction * (phase.rounds - 1)
        steps = phase.restart_steps * (1 + restarted) + sampler.steps * (phase.rounds - 1 - restarted)
    elif isinstance(phase, ContrastiveDivergenceSettings):
        sampler, chains = phase.sampler or recipe.sampler, phase.batch_size or recipe.energy_stage.batch_size
        steps = phase.iterations * sampler.steps
    else:
        return 0.0
    return chains * steps * sampler.build().gradients_per_step


def _scaled(recipe: Recipe, factor: float, minutes: float, rates: Rates) -> Recipe:
    def times(count: int, least: int = 1) -> int:
        return max(least, math.ceil(factor * count))

    stage = recipe.energy_stage
    phases: dict[str, EstimatorSettings | None] = {}
    for name, phase in stage.phases.items():
        if isinstance(phase, RatioRoundsSettings):
            phases[name] = phase.model_copy(update={"rounds": times(phase.rounds, 2)})
        elif isinstance(phase, IteratedSettings):
            phases[name] = phase.model_copy(update={"iterations": times(phase.iterations)})
        else:
            phases[name] = phase
    latent = stage.latent.model_copy(update={"iterations": times(stage.latent.iterations)})
    each = recipe.sampler.steps * recipe.sampler.build().gradients_per_step * rates.gradient
    samples = math.floor(30 * (1 - OF_TRAINING) * minutes / max(each, 1e-9))  # half of what is not for training
    least, most = MEASURED
    n = min(max(samples, least), recipe.evaluation.n or most)
    evaluation = recipe.evaluation.model_copy(update={"n": n, "draws": 1, "annealing": samples >= 2 * least})
    return recipe.model_copy(
        update={
            "vae_stage": recipe.vae_stage.model_copy(update={"iterations": times(recipe.vae_stage.iterations)}),
            "energy_stage": stage.model_copy(update={"latent": latent, "phases": phases}),
            "evaluation": evaluation,
            "minutes": minutes,
        }
    )


def _sentence(recipe: Recipe, minutes: float, shape: tuple[int, ...], whole: tuple[int, ...], said: str) -> str:
    def pixels(shape: tuple[int, ...]) -> str:
        return f"{shape[2]} x {shape[1]}"

    size = "" if shape == whole else f"images resized to {pixels(shape)}, "
    full = f"at {pixels(whole)} " if shape != whole else ""
    rounds = [phase.rounds for phase in recipe.energy_stage.phases.values() if isinstance(phase, RatioRoundsSettings)]
    energy = f", {rounds[0]} rounds of the energy" if rounds else ""
    return (
        f"For {minutes:g} minutes: {size}{recipe.vae_stage.iterations:,} iterations of the VAE{energy},"
        f" {recipe.evaluation.n:,} samples measured; {full}{said}."
    )

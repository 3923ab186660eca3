"""What a recipe will cost before it starts; what happened in a run, in words.

Cost of a recipe: model and stages are built on tensors without values (experiment/shapes.py), a step of every stage, a
step of the chains and the drawing of samples are counted, operation by operation, and a second's measurement of the
machine (experiment/machine.py) turns counts into time:

    time = sum over stages of  begin + iterations x step + chains of the pool x their steps x chain step + end

Nothing is trained, downloaded or left behind. The fit of the code mixture is taken to need `MIXTURE_ITERATIONS`.

Memory: weights, optimizer and averages (16 bytes a weight), what a step keeps for its backward pass, and the pool of
chains.
"""

import math
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vaebm.data import DataSet, PublishedSettings
from vaebm.experiment.environment import described, environments
from vaebm.experiment.machine import Machine
from vaebm.experiment.recipe import Recipe
from vaebm.experiment.run_directory import Run
from vaebm.experiment.shapes import Count, Counting
from vaebm.models import Model
from vaebm.models.draws import NoiseSpaceModel, in_noise_space
from vaebm.progress import silent
from vaebm.sampling import SamplerSettings
from vaebm.sampling.langevin import Langevin
from vaebm.sampling.settings import settings_of
from vaebm.training.engine import Engine, threads
from vaebm.training.estimators import EstimatorSettings, PhaseDefaults
from vaebm.training.estimators.contrastive_divergence import ContrastiveDivergenceSettings
from vaebm.training.estimators.latent import LatentEstimator
from vaebm.training.estimators.ratio_rounds import RatioRoundsSettings
from vaebm.training.optimizer import Optimizer
from vaebm.training.stage import Stage, Training
from vaebm.training.stages import TrainingSettings
from vaebm.training.vae import ROWS_AT_ONCE, VAEStage, codes_of_data
from vaebm.wording import duration

CHAINS = 256  # samples that are counted at once
BYTES_PER_TRAINED_WEIGHT = 16  # weight, gradient, and Adam's two moments, in float32
PASSES_OF_AN_OPTIMIZER = 3  # over each weight, four arrays at a time: clipping, Adam, average
MIXTURE_ITERATIONS = 50
FEW_OPERATIONS = 5000  # of a step that is counted twice: its first time prepares what stays


@dataclass(frozen=True)
class StageCost:
    """Cost of one stage."""

    name: str
    iterations: int
    flops_per_iteration: int
    seconds_per_iteration: float
    activation_bytes: int
    pool_seconds: float = 0.0
    fixed_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """Of the whole stage."""
        return self.iterations * self.seconds_per_iteration + self.pool_seconds + self.fixed_seconds


@dataclass(frozen=True)
class Inspection:
    """Sentences for people, and the numbers behind them."""

    sentences: list[str]
    numbers: dict[str, Any]


def inspect_recipe(recipe: Recipe, device: str | None = None) -> Inspection:
    """Counts what the recipe does and measures the machine; writes nothing that stays.

    Raises:
        InputError: the data cannot be read, or there is no such device.
    """
    with threads(recipe.threads):
        return _inspect_recipe(recipe, device)


def _inspect_recipe(recipe: Recipe, device: str | None) -> Inspection:
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(device, recipe.seed, None, Path(folder))
    recipe = recipe.for_device(engine.device)
    data = recipe.data.stand_in() if isinstance(recipe.data, PublishedSettings) else recipe.data.load()
    with Counting(engine.device) as counting:
        model = recipe.model_settings().build(data.shape, torch.Generator().manual_seed(recipe.seed))
        counts = _Counts(recipe, model, data, engine, counting)
    machine = Machine(engine.device, counts.total())
    costs = [stage.cost(machine) for stage in counts.stages]
    return _described(recipe, model, data, engine.device, costs, counts.samples * (1000 / CHAINS), machine)


def inspect_run(run: Run) -> Inspection:
    """What happened, from the run's own files."""
    events, history, measurements = run.events(), run.history(), run.measurements()
    sentences = [f"run {run.path}: recipe {run.recipe.name}, seed {run.recipe.seed}"]
    trained_by = environments(run.path)
    sentences += [f"{'trained by' if one is trained_by[0] else 'and then by'} {described(one)}" for one in trained_by]
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
        "environments": trained_by,
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


@dataclass(frozen=True)
class _StageCount:
    name: str
    iterations: int
    step: Count
    pool: Count
    fixed: Count
    activation_bytes: int

    def cost(self, machine: Machine) -> StageCost:
        step, pool, fixed = (machine.seconds(count) for count in (self.step, self.pool, self.fixed))
        return StageCost(self.name, self.iterations, round(self.step.flops), step, self.activation_bytes, pool, fixed)


class _Counts:
    """What a recipe's stages and the drawing of samples do; to be made within `Counting`."""

    def __init__(self, recipe: Recipe, model: Model, data: DataSet, engine: Engine, counting: Counting) -> None:
        self.recipe, self.model, self.engine, self.counting = recipe, model, engine, counting
        train = data.train
        if not isinstance(train.values, Tensor):  # images on disk, which stay there
            train = replace(train, values=torch.zeros((2, *data.shape), dtype=torch.uint8), labels=None, factors=None)
        self.training = Training(model, train, engine, silent(), recipe.seed)
        # by kernel and steps, by rows
        self._known_chains: dict[tuple[type[SamplerSettings], int], dict[int, Count]] = {}
        self.stages = [self._stage(stage) for stage in briefly(recipe.training_settings()).stages(self.training)]
        self.samples = self._samples()

    def total(self) -> Count:
        """All that is to be done, once the recipe is trained and a thousand samples are drawn."""
        stages = (stage.step * stage.iterations + stage.pool + stage.fixed for stage in self.stages)
        return sum(stages, start=self.samples * (1000 / CHAINS))

    def _stage(self, stage: Stage) -> _StageCount:
        of, iterations = self.counting.of, stage.iterations
        energy_stage = getattr(self.recipe, "energy_stage", None)
        phase = None if energy_stage is None else energy_stage.phases.get(stage.name)
        fixed, pool = of(stage.begin), Count()
        for name, value in list(vars(stage).items()):
            if isinstance(value, Optimizer):
                setattr(stage, name, _Backward(value))
        with self.counting.saving() as kept:
            step = of(lambda: stage.step(0))
        if isinstance(phase, RatioRoundsSettings) or sum(step.values()) < FEW_OPERATIONS:
            step = of(lambda: stage.step(1))  # without what the first one prepares
        if isinstance(stage, LatentEstimator):
            settings = self.recipe.energy_stage.latent
            fixed *= min(settings.codes, iterations * settings.batch_size) / ROWS_AT_ONCE
        if isinstance(phase, RatioRoundsSettings):
            sampler, kept_on = phase.sampler or self.recipe.sampler, phase.rounds - 1
            moves = _chain_steps(sampler, phase.restart_steps) * (1 + phase.restart_fraction * kept_on)
            moves += _chain_steps(sampler, sampler.steps) * (1 - phase.restart_fraction) * kept_on
            pool = self._chain_step(sampler, CHAINS) * (phase.chains / CHAINS * moves)
        elif isinstance(phase, ContrastiveDivergenceSettings):
            sampler, rows = (
                phase.sampler or self.recipe.sampler,
                phase.batch_size or self.recipe.energy_stage.batch_size,
            )
            step += self._chain_step(sampler, rows) * _chain_steps(sampler, sampler.steps)
        if isinstance(stage, VAEStage):
            self.model.eval()
            fixed += self._mixture()
        return _StageCount(stage.name, iterations, step, pool, fixed, sum(kept.values()))

    def _mixture(self) -> Count:
        """The fit of the mixture to the codes: two products of their size with all factors in each iteration."""
        settings, mixture = self.recipe.code_mixture, in_noise_space(self.model).mixture
        codes = self.counting.of(lambda: codes_of_data(self.training, ROWS_AT_ONCE, self.engine.generator))
        z = torch.zeros(ROWS_AT_ONCE, mixture.means.shape[1], device=self.engine.device)
        joint = self.counting.of(lambda: mixture.log_joint(z))
        return (codes + joint * (2 * MIXTURE_ITERATIONS)) * float(settings.codes / ROWS_AT_ONCE)

    def _chain_step(self, sampler: SamplerSettings, rows: int) -> Count:
        return self._chains(sampler, rows, 1) - self._chains(sampler, rows, 0)

    def _chains(self, sampler: SamplerSettings, rows: int, steps: int) -> Count:
        """Chains of so many steps; where nets are large, those of another number of rows tell, too."""
        brief = sampler.model_copy(update={"steps": steps, "warmup": 0, "gradients": None})
        for known_rows, count in self._known_chains.get((type(brief), steps), {}).items():
            if known_rows == rows or sum(count.values()) > FEW_OPERATIONS:
                return count * (rows / known_rows)
        model, generator = in_noise_space(self.model), self.engine.generator
        eps = model.noise.standard(rows, generator, next(model.parameters()))
        count = self.counting.of(lambda: model.chains(eps, generator, brief))
        self._known_chains.setdefault((type(brief), steps), {})[rows] = count
        return count

    def _samples(self) -> Count:
        """`CHAINS` samples of the model."""
        model, generator, of = self.model, self.engine.generator, self.counting.of
        if not isinstance(model, NoiseSpaceModel):
            return of(lambda: model.render(model.draw(CHAINS, generator), model.show_of(model.subjects[0]), generator))
        sampler, show = model.settings.sampler, model.show_of(model.subjects[0])
        ends = of(lambda: model.render(model.draw(CHAINS, generator, "start"), show, generator))
        begin, one = (self._chains(sampler, CHAINS, steps) for steps in (0, 1))
        return ends + begin + (one - begin) * _chain_steps(sampler, sampler.steps)


class _Backward:
    """In an optimizer's place: the backward pass, and as many passes over the weights as an optimizer makes."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.weights, self.ema = optimizer.weights, optimizer.ema

    def step(self, loss: Tensor | Iterable[Tensor], rate: float) -> float:
        for weight in self.weights:
            weight.grad = None
        for part in [loss] if isinstance(loss, Tensor) else loss:
            part.backward()
        for weight in self.weights:
            values = weight.detach()
            for _ in range(PASSES_OF_AN_OPTIMIZER):
                torch.addcmul(values, values, values)
        return 1.0


def _chain_steps(sampler: SamplerSettings, steps: int) -> float:
    """Warm-up included, as far as the bound on gradients allows."""
    allowed = math.inf if sampler.gradients is None else sampler.gradients / sampler.build().gradients_per_step
    return min(steps + sampler.warmup, allowed)


def briefly(settings: TrainingSettings) -> TrainingSettings:
    """The same with few codes, few chains and none of their steps, which are counted by themselves."""
    stage = getattr(settings, "energy_stage", None)
    if stage is None:
        return settings
    phases = {name: phase and _brief_phase(phase, stage) for name, phase in stage.phases.items()}
    brief: dict[str, object] = {"phases": phases}
    if hasattr(stage, "latent"):
        brief["latent"] = stage.latent.model_copy(update={"codes": ROWS_AT_ONCE})
    return settings.model_copy(update={"energy_stage": stage.model_copy(update=brief)})


def _brief_phase(phase: EstimatorSettings, defaults: PhaseDefaults) -> EstimatorSettings:
    rows = phase.batch_size or defaults.batch_size
    if isinstance(phase, RatioRoundsSettings):
        phase = phase.model_copy(update={"chains": rows, "restart_steps": 1})
    if isinstance(phase, RatioRoundsSettings | ContrastiveDivergenceSettings):
        return phase.model_copy(update={"sampler": settings_of(Langevin)().model_copy(update={"steps": 0})})
    return phase


def _described(
    recipe: Recipe,
    model: Model,
    data: DataSet,
    device: torch.device,
    costs: list[StageCost],
    samples: Count,
    machine: Machine,
) -> Inspection:
    parts, space = {"model": _weights(model)}, ""
    if isinstance(model, NoiseSpaceModel):
        parts = {"vae": _weights(model.vae), "energy": _weights(model.energy_net)}
        space = f"; {model.vae.latent_dim:,} latents, chains move in {model.noise.dim:,} dimensions"
    memory = 4 * _weights(model) + BYTES_PER_TRAINED_WEIGHT * max(parts.values())
    memory += max(cost.activation_bytes for cost in costs)
    seconds, sample_seconds = sum(cost.seconds for cost in costs), machine.seconds(samples)
    size = ", ".join(f"{count:,} weights in the {name}" for name, count in parts.items())
    sentences = [
        f"recipe {recipe.name}: {recipe.summary}",
        *([f"published: {recipe.published}"] if recipe.published else []),
        f"data: {data.description}",
        f"model: {size}{space}",
        *(
            f"stage {cost.name}: {cost.iterations:,} iterations, {cost.flops_per_iteration / 1e9:,.3g} GFLOP and"
            f" {1e3 * cost.seconds_per_iteration:,.1f} ms each"
            + (f", chains {duration(cost.pool_seconds)}" if cost.pool_seconds else "")
            + f": {duration(cost.seconds)}"
            for cost in costs
        ),
        f"memory while training: about {memory / 2**20:,.0f} MiB beside PyTorch itself",
        f"training on {device}: about {duration(seconds)}; 1,000 samples: about {duration(sample_seconds)}",
    ]
    numbers = {
        "recipe": recipe.name,
        "device": str(device),
        "weights": parts,
        **({"noise_dim": model.noise.dim} if isinstance(model, NoiseSpaceModel) else {}),
        "stages": [{**asdict(cost), "seconds": cost.seconds} for cost in costs],
        "memory_bytes": memory,
        "seconds": seconds,
        "flops_per_thousand_samples": round(samples.flops),
        "seconds_per_thousand_samples": sample_seconds,
    }
    return Inspection(sentences, numbers)


def _weights(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())

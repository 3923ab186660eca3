"""Training as one call: find out what to train, make or reopen the run, run both stages, save the model.

A folder of images is trained by the recipe `folder`, with what the pictures themselves decide; an override always has
the last word:

    likelihood    censored where at least SATURATED of the pixels are exactly black or white, else Gaussian; per pixel
    size          as the images are, up to 64 x 64 (data/sets/folder.py)
    FEW images    a VAE and a ratio that keep the weights which are best on validation images, half as wide an energy

A table is trained by the recipe `table`, with the likelihood of its columns and sizes that its rows and columns decide:

    latents       as many as columns, from 2 to 32
    iterations    of each stage 3,000 from 20,000 rows on, 1,000 for 2,000, 300 up to 200; between by the logarithm
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import torch
from torch import nn

from vaebm.data import DataSet
from vaebm.data.collection import FEW
from vaebm.data.files.archives import ARCHIVES
from vaebm.data.files.table import is_table
from vaebm.data.sets.folder import name_of
from vaebm.data.splits import SATURATED
from vaebm.errors import Diverged, InputError
from vaebm.experiment.catalogue import Tree, names
from vaebm.experiment.environment import note_environment
from vaebm.experiment.minutes import CHOSEN, fitted
from vaebm.experiment.recipe import Recipe, load_recipe
from vaebm.experiment.run_directory import METRICS, RECIPE, ROOT, Run
from vaebm.files import user_path
from vaebm.models import Model
from vaebm.progress import Progress, silent
from vaebm.training.checkpoint import Checkpoints
from vaebm.training.engine import Engine, fastest_device, processes, threads
from vaebm.training.log import MetricsLog
from vaebm.training.loop import Loop
from vaebm.training.monitor import DivergenceMonitor
from vaebm.training.stage import Stage, Training
from vaebm.wording import counted

FOLDER_MINUTES = 30.0
OF_FEW: Tree = {
    "vae_stage": {"validate_every": 50},
    "energy": {"image": {"stem": 16, "widths": [16, 32, 64]}},
    "energy_stage": {"phases": {"ratio": {"validate_every": 25}}},
}
ROWS, ITERATIONS = (200, 2_000, 20_000), (300, 1_000, 3_000)  # of a table, and of each stage
SIZED = ("data.size", "vae", "energy", "code_mixture", "sampler")  # overrides that say how large or how long


def train(
    subject: str | Path,
    out: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    minutes: float | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> Run:
    """Trains both stages, or goes on where an earlier call stopped.

    Args:
        subject: a recipe's name, a recipe file, a folder of images or an archive of them, a table, or a run.
        out: the run's directory; `runs/` and the recipe's name unless given.
        overrides: `key=value`, by path in the recipe.
        minutes: to train and measure in (experiment/minutes.py); a folder gets `FOLDER_MINUTES` unless an override
            says how large or how long; else a recipe is trained as it is written.
        device: "cpu", "cuda", ...; None takes the fastest there is.

    Raises:
        InputError: wrong input; nothing was changed.
        Diverged: given up; the last good model is saved in the run.
        Preempted, Interrupted: a signal came; all is saved.
    """
    progress = progress or silent()
    path, recipe, data = _read(str(subject), out, overrides, minutes, device, progress)
    return train_recipe(path, recipe, data, device, progress)


def train_recipe(
    path: Path,
    recipe: Recipe,
    data: DataSet | None,
    device: str | None,
    progress: Progress,
    parts: Mapping[str, nn.Module] | None = None,
) -> Run:
    """Trains a recipe into the run `path`, or goes on; `parts` are modules that the recipe does not build."""
    with (
        torch.inference_mode(False),
        torch.enable_grad(),  # whatever mode the caller is in
        threads(recipe.threads),
        closing(Engine(device, recipe.seed, recipe.logging.tracker, path)) as engine,
        ExitStack() as hold,
    ):
        training: Training | None = None
        stages: list[Stage] = []
        run = Run(path, recipe, data, parts)
        if not run.is_complete:  # what cannot be built is refused before there is a directory
            model = build_model(recipe, run.data(), engine.device, run.parts)
            train, validation = run.data().train.to(engine.device), run.data().validation
            held = None if validation is None else validation.to(engine.device)
            training = Training(model, train, engine, progress, recipe.seed, held)
            stages = recipe.training_settings().stages(training)
        writes = engine.is_main and not run.is_complete
        run = engine.first(lambda: Run.create(path, recipe, run.known_data, parts, hold if writes else None))
        if run.diverged is not None:
            raise Diverged(
                f"{run.path} was given up before and is not trained further; its model is the last good one. Then:"
                f" {run.diverged}. Train anew, with other numbers, into another --out"
            )
        if training is None:
            progress.say(f"{run.path} is complete: nothing left to train.")
        else:
            _train(run, training, stages)
    return run


def _train(run: Run, training: Training, stages: list[Stage]) -> None:
    recipe, engine, progress = run.recipe, training.engine, training.progress
    progress.say(run.data().description)
    if engine.is_main:
        run.note_data()
        if changed := note_environment(run.path, engine):
            progress.say(changed)
    engine.start_tracker(progress)
    log = MetricsLog(run.path / METRICS, recipe.logging.every, engine.is_main)
    checkpoints = Checkpoints(run.path / "checkpoints", recipe.checkpoint.keep, engine)
    monitor = DivergenceMonitor(recipe.divergence_monitor)
    loop = Loop(training, stages, checkpoints, log, monitor, recipe.checkpoint)
    try:
        training.model.prepare(progress)
        loop.run()
    except Diverged:
        _save(run, training)
        raise
    # First the line, then the model: killed between them, a run is resumed, and the line written again.
    log.write(event="complete", message=f"trained in {loop.seconds:.0f} s", seconds=round(loop.seconds, 1))
    _save(run, training)


def build_model(
    recipe: Recipe, data: DataSet, device: torch.device, parts: Mapping[str, nn.Module] | None = None
) -> Model:
    """An untrained model for a recipe's data; its weights follow from the recipe's seed, those of `parts` stay."""
    generator = torch.Generator().manual_seed(recipe.seed)
    return recipe.model_settings().build(data.shape, generator, **(parts or {})).to(device)


def planned(
    subject: str, overrides: Sequence[str], minutes: float | None, device: str | None, progress: Progress
) -> Recipe:
    """The recipe that `train` would train, fitted to the time where it would be.

    Raises:
        InputError: as for `train`.
    """
    path = user_path(subject)
    if _is_own(path, subject):
        recipe, data, minutes = _own(path, overrides, minutes, progress)
    else:
        recipe = load_recipe(subject, overrides)
        if minutes is None:
            return recipe
        data = recipe.data.load(progress)
    if minutes is None:
        return recipe
    return fitted(recipe.for_device(fastest_device(device)), data, minutes, device, progress)[0]


def _read(
    subject: str,
    out: str | Path | None,
    overrides: Sequence[str],
    minutes: float | None,
    device: str | None,
    progress: Progress,
) -> tuple[Path, Recipe, DataSet | None]:
    """A run's directory and recipe, and its data if it is new: data that cannot be read shall leave no run behind."""
    path = user_path(subject)
    if (path / RECIPE).is_file():
        kept = f"{subject} is a run and keeps its recipe: leave this away to resume it, or train a recipe"
        if out is not None and user_path(out).resolve() != path.resolve():
            raise InputError(f"--out {out} cannot be applied: {kept}")
        run = Run.open(path)
        if others := [override for override in overrides if not override.startswith(ROOT)]:
            raise InputError(f"{others[0]} cannot be applied: {kept}")
        if minutes is not None and minutes != run.recipe.minutes:
            raise InputError(f"--minutes {minutes:g} cannot be applied: {kept}")
        run.with_overrides(overrides)
        return path, run.recipe, run.data() if overrides else None
    if path.exists() and subject in names():
        progress.say(f"{subject} is the recipe of this name; the folder is ./{subject}.")
    if _is_own(path, subject):
        recipe, data, minutes = _own(path, overrides, minutes, progress)
        return _new(out, recipe, data, minutes, device, progress)
    recipe = load_recipe(subject, overrides)
    return _new(out, recipe, recipe.data.load(progress), minutes, device, progress)


def _is_own(path: Path, subject: str) -> bool:
    """Whether a subject is data of the user's own."""
    images = path.is_dir() or (path.is_file() and path.suffix.lower() in ARCHIVES)
    return subject not in names() and (images or is_table(path))


def _own(
    path: Path, overrides: Sequence[str], minutes: float | None, progress: Progress
) -> tuple[Recipe, DataSet, float | None]:
    """The recipe for the user's own data, these, and the minutes to fit it to."""
    if is_table(path):
        return *table_recipe(path, overrides, progress), minutes
    return *folder_recipe(path, overrides, progress), default_minutes(overrides) if minutes is None else minutes


def default_minutes(overrides: Sequence[str]) -> float | None:
    """Of a folder: none where an override says how large or how long."""
    said = any(override.startswith(SIZED) for override in overrides)
    return None if said or processes() > 1 else FOLDER_MINUTES


def _new(
    out: str | Path | None,
    recipe: Recipe,
    data: DataSet,
    minutes: float | None,
    device: str | None,
    progress: Progress,
) -> tuple[Path, Recipe, DataSet | None]:
    path = user_path(out) if out is not None else Path("runs") / recipe.name
    root = getattr(recipe.data, "root", None)
    if root is not None and recipe.data.kind == "folder" and path.resolve().is_relative_to(Path(root).resolve()):
        raise InputError(f"{path} would lie among the images of {root}: give an --out outside of it")
    on = fastest_device(device)
    if minutes is None:
        return path, Run.recipe_at(path, recipe).for_device(on), data
    if (path / RECIPE).is_file() and Run.open(path).recipe.minutes == minutes:
        # What was chosen then holds, whatever the machine does today.
        return path, Run.recipe_at(path, recipe, CHOSEN), None
    recipe, data = fitted(recipe.for_device(on), data, minutes, device, progress)
    return path, recipe, data


def _save(run: Run, training: Training) -> None:
    if training.engine.is_main:
        run.save_model(training.model)
    training.engine.wait()


def folder_recipe(folder: Path, overrides: Sequence[str], progress: Progress) -> tuple[Recipe, DataSet]:
    """The recipe for a folder, and its data, read once.

    Raises:
        InputError: the folder's images cannot be used, or an override is wrong.
    """
    own: Tree = {"name": name_of(folder), "data": {"root": str(folder.resolve())}}
    data = load_recipe("folder", overrides, own).data.load(progress)
    kind = "censored" if data.saturated_fraction >= SATURATED else "gaussian"
    own["vae"] = {"likelihood": {"kind": kind, "scale": "pixel"}}
    if len(data.train) < FEW:
        own |= OF_FEW
    recipe = load_recipe("folder", overrides, own)
    progress.say(
        f"Preset `folder`: {data.saturated_fraction:.0%} of the pixels are exactly black or white, so the decoder is"
        f" {recipe.vae.likelihood.kind}; {' x '.join(map(str, data.shape[1:]))} pixels,"
        f" vae.kind={recipe.vae.kind}."
    )
    if len(data.train) < FEW:
        progress.say(
            f"{len(data.train)} training images are few: VAE and ratio keep the weights that are best on validation"
            " images, and the energy is half as wide. Where a mirror image is as good as an image, data.flip=true"
            " doubles them."
        )
    return recipe, data


def table_recipe(path: Path, overrides: Sequence[str], progress: Progress) -> tuple[Recipe, DataSet]:
    """The recipe for a table, and its data, read once.

    Raises:
        InputError: the table cannot be used, or an override is wrong.
    """
    own: Tree = {"name": name_of(path), "data": {"root": str(path.resolve())}}
    data = load_recipe("table", overrides, own).data.load(progress)
    assert data.columns is not None
    columns, rows = data.columns.columns, len(data.train)
    iterations = round(np.interp(np.log(rows), np.log(ROWS), ITERATIONS))
    own["vae"] = {
        "latent_dim": min(max(len(columns), 2), 32),
        "likelihood": {"columns": [column.model_dump(mode="json") for column in columns]},
    }
    own["vae_stage"] = {"iterations": iterations}
    own["energy_stage"] = {"phases": {"ratio": {"iterations": iterations}}}
    recipe = load_recipe("table", overrides, own)
    progress.say(
        f"Preset `table`: {counted(recipe.vae.latent_dim, 'latent')}, {recipe.vae_stage.iterations:,} iterations of the"
        " VAE and as many of the energy."
    )
    return recipe, data

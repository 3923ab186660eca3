"""Measuring a run: joins its model, data and recipe with `vaebm.evaluation`, and saves what comes out.

What stands in measurements.json by the same protocol is kept. What is shown as the run's recipe says comes first in the
file, whatever else is measured beside it.
"""

import operator
from collections.abc import Sequence

from vaebm.data import DataSet
from vaebm.errors import InputError
from vaebm.evaluation import Evaluation, StoredDraws
from vaebm.experiment.recipe import Recipe
from vaebm.experiment.run_directory import Run
from vaebm.experiment.sample import Unfinished, request_of
from vaebm.files import sha256
from vaebm.metrics.measurement import Measurement
from vaebm.models import Model
from vaebm.progress import Progress, silent
from vaebm.training.engine import threads


def evaluate(
    run: Run,
    *,
    only: Sequence[str] | None = None,
    subjects: Sequence[str] | None = None,
    n: int | None = None,
    overrides: Sequence[str] = (),
    device: str | None = None,
    progress: Progress | None = None,
) -> list[Measurement]:
    """Measures what is not measured yet, into `RUN/measurements.json`; returns all of it.

    Args:
        run: with a model.
        only: names of measurements; all that apply unless given.
        subjects: whose; all unless given.
        n: samples in a draw; the recipe's, or as many as are held out, unless given.
        overrides: of the sampler, what is shown, or the evaluation.
        device: where the model runs.
        progress: told of what takes long.

    Raises:
        InputError: an unknown name or subject, too few samples, or no model.
    """
    recipe = run.with_overrides(overrides)
    with threads(recipe.threads):
        model = run.model(device)
        first_show = model.show_of(model.subjects[0])
        model.update_settings(recipe.model_settings())
        evaluation = evaluation_of(run, recipe, run.data(), model, n, progress or silent())
        with run.locked():
            return evaluation.measure_missing(
                run.measurements(), only, subjects, run.save_measurements, first_show=first_show
            )


def evaluation_of(
    run: Run, recipe: Recipe, data: DataSet, model: Model, n: int | None, progress: Progress
) -> Evaluation:
    """The evaluation of a run's model by a recipe's protocol, n samples in a draw where that is given.

    Raises:
        InputError: fewer than 2 samples, or features that the data do not have.
    """
    n = None if n is None else operator.index(n)
    if n is not None and n < 2:
        raise InputError(f"n is {n}: measure at least 2 samples")

    def batches(subject: str, count: int) -> Unfinished:
        out = run.path / "samples" / f"evaluation-{subject}"
        return Unfinished(out, request_of(run, model, count, recipe.evaluation.seed))

    stored = stored_draws(run, data.shape)
    return Evaluation(model, data, recipe.evaluation, n, run.path / "model", stored, batches, progress)


def stored_draws(run: Run, data_shape: Sequence[int]) -> StoredDraws:
    """The samples of a run that were measured last."""
    return StoredDraws(run.path / "samples" / "draws", data_shape, sha256(run.path / "model" / "model.safetensors"))

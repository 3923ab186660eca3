"""Measuring a run: the model, what it is compared with, and held-out data as the floor, all by one protocol.

What there is to measure, and of whom, stands in `experiment/image_evaluation.py` and `experiment/point_evaluation.py`.
What is in measurements.json by the same protocol is not measured again, so a stopped evaluation goes on. A measurement
by another protocol replaces the one of the same name, subject, features and show. What is shown as the run's recipe
says comes first in the file, whatever else is measured beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import torch

from vaebm.data import DataSet
from vaebm.errors import InputError
from vaebm.experiment.evaluation import OF_NO_SHOW, Evaluation, Wanted
from vaebm.experiment.image_evaluation import ImageEvaluation
from vaebm.experiment.point_evaluation import PointEvaluation
from vaebm.experiment.run_directory import Run
from vaebm.metrics.measurement import Measurement
from vaebm.models import in_noise_space
from vaebm.progress import Progress, silent


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
        only: names of measurements; all that apply unless given.
        subjects: whose; all unless given.
        n: samples in a draw; the recipe's, or as many as are held out, unless given.
        overrides: of the sampler, what is shown, or the evaluation.

    Raises:
        InputError: an unknown name, too few samples, or no model.
    """
    if n is not None and n < 2:
        raise InputError(f"n is {n}: measure at least 2 samples")
    progress = progress or silent()
    recipe, data = run.with_overrides(overrides), run.data()
    kind = kind_of(data)
    names = _known_names(only, kind.names)
    model = in_noise_space(run.model(device))
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    model.update_settings(recipe.model_settings())
    evaluation = kind(run, recipe, data, model, n, progress)
    done = run.measurements()
    jobs = [(subject, job) for subject, job in evaluation.jobs() if subjects is None or subject in subjects]
    with progress.task("evaluation", len(jobs), "subjects") as task:
        for subject, job in jobs:
            missing = {
                wanted: protocol
                for wanted in evaluation.wanted(subject)
                if wanted.name in names
                and not _has(done, subject, wanted, protocol := evaluation.protocol(subject, wanted))
            }
            if missing:
                fresh = [m.with_settings(**missing[_wanted(m)]) for m in job(list(missing)) if _wanted(m) in missing]
                replaced = {(subject, _wanted(m)) for m in fresh}
                done = [old for old in done if (old.subject, _wanted(old)) not in replaced] + fresh
                done.sort(key=lambda m: m.settings.get("show") not in (None, run.recipe.show))
                run.save_measurements(done)
                evaluation.discard_draw()
            task.advance()
    return done


EVALUATIONS: dict[str, type[Evaluation]] = {"image": ImageEvaluation, "points": PointEvaluation}


def kind_of(data: DataSet) -> type[Evaluation]:
    """What evaluates such data."""
    return EVALUATIONS[data.modality.name]


def _known_names(only: Sequence[str] | None, names: Sequence[str]) -> Sequence[str]:
    for name in only or ():
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
            raise InputError(f"there is no measurement {name!r} for these data: {hint}")
    return only or names


def _wanted(measured: Measurement) -> Wanted:
    """What a measurement answers."""
    show = None if measured.name in OF_NO_SHOW else measured.settings.get("show")
    return Wanted(measured.name, measured.settings.get("features"), show)


def _has(done: Sequence[Measurement], subject: str, wanted: Wanted, protocol: dict[str, Any]) -> bool:
    return any(m.subject == subject and _wanted(m) == wanted and protocol.items() <= m.settings.items() for m in done)

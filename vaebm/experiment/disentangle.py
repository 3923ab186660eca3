"""Disentanglement of a run's codes, and the mutual information that it is about.

Scores go to `RUN/measurements.json` as all measurements do (evaluation/disentanglement.py).
"""

from collections.abc import Sequence

from vaebm.errors import InputError, check_choice
from vaebm.evaluation import SCORES
from vaebm.experiment.evaluate import evaluate
from vaebm.experiment.run_directory import Run
from vaebm.metrics.measurement import Measurement
from vaebm.progress import Progress

NAMES = tuple(name for score in SCORES for name in score.names)


def disentangle(
    run: Run,
    *,
    only: Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    device: str | None = None,
    progress: Progress | None = None,
) -> list[Measurement]:
    """Scores what is not scored yet; returns the scores.

    Args:
        run: with a model, of data whose factors are known.
        only: names of scores; all unless given.
        overrides: of the evaluation.
        device: where the model runs.
        progress: told of what takes long.

    Raises:
        InputError: no factors, an unknown name, no model, or too few data for a score.
    """
    run.with_overrides(overrides)
    data, names = run.data(), NAMES if only is None else tuple(only)
    if data.test.factors is None:
        raise InputError(
            f"the factors of {data.name} are not known, and scores compare codes with factors: train on data.kind"
            " dsprites or sprites, or pass codes and factors of your own to vaebm.metrics.mig and the others"
        )
    for name in names:
        check_choice("score", name, NAMES)
    found = evaluate(run, only=names, overrides=overrides, device=device, progress=progress)
    return [measurement for measurement in found if measurement.name in names]

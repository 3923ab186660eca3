"""Scores of a user's samples into a file: how strange is each of them to a run's model?

    FILE.csv    a header and a row for each sample: index, name, p_value, score, then the parts by name
    FILE.npz    the same columns as arrays

Floats are written in full, so that a file that is read back has the same bits. The density that calibrates scores is
fitted when a run is first asked, to its validation data, and kept in RUN/model/detector.safetensors.
"""

import csv
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import false_discovery_control

from vaebm.data.samples import Samples, of_split
from vaebm.errors import InputError, check_choice
from vaebm.experiment.encode import samples_as_trained
from vaebm.experiment.run_directory import Run
from vaebm.files import write_atomically, write_npz
from vaebm.models.score import ScoredModel, Scores
from vaebm.models.score_density import FILE as DETECTOR
from vaebm.progress import Progress, silent
from vaebm.training.engine import threads
from vaebm.wording import counted

FALSE_DISCOVERIES = 0.05
"""The expected fraction of ordinary samples among those that are called strange."""


class ScoreFile(NamedTuple):
    """What was written, sentences on it, and what a page about it shows."""

    path: Path
    said: list[str]
    run: Path
    model: ScoredModel  # calibrated as for these scores
    samples: Samples
    scores: Scores


def write_scores(
    run: Run | str | Path,
    given: str | Path,
    out: str | Path,
    *,
    reference: str | Path | None = None,
    only: Sequence[str] | None = None,
    skip_bad: bool = False,
    device: str | None = None,
    progress: Progress | None = None,
) -> ScoreFile:
    """Scores every sample of an input.

    Args:
        run: a run, or its directory.
        given: a path, a data set, or the name of a split of the run's data (data/samples.py).
        out: FILE.csv or FILE.npz.
        reference: calibrate on these samples, for this call alone, instead of on the run's held-out data.
        only: names of the parts to write; all unless given.
        skip_bad: leave out what cannot be scored, instead of refusing all.
        device: where the model runs.
        progress: told of what takes long.

    Raises:
        InputError: `out` cannot be made, the samples do not suit the model, there is no such part, or the run has no
            model that scores.
    """
    run, out, progress = Run.open(run), Path(out).expanduser(), progress or silent()
    if out.suffix.lower() not in (".csv", ".npz") or out.is_dir():
        raise InputError(f"{out}: scores are written as .csv or .npz, as in --out {out.with_suffix('.csv')}")
    # One bright image is no sign of another range: what was read is in the model's.
    with threads(run.recipe.threads), warnings.catch_warnings(action="ignore"):
        model = run.model(device)
        if not isinstance(model, ScoredModel):
            raise InputError(f"{type(model).__name__} does not score samples: name a run of kind vaebm")
        samples = _samples(run, given, model, skip_bad, progress)
        for name in only or ():
            check_choice("part", name, model.part_names())
        if reference is not None:
            model.calibrate(_samples(run, reference, model, skip_bad, progress).x, progress)
        scores = model.score(samples.x, progress)
        if reference is None:
            _keep(model, run.path / "model", progress)
    _write(out, _columns(samples, scores, only))
    said = [*filter(None, [samples.said]), *_said(model, scores, reference)]
    return ScoreFile(out, said, run.path, model, samples, scores)


def _keep(model: ScoredModel, folder: Path, progress: Progress) -> None:
    """Saves what the model is calibrated by, where that is new; somebody else's run may be read-only."""
    assert model.score_density is not None
    if (folder / DETECTOR).exists():
        return
    try:
        model.score_density.save(folder)
    except OSError as refusal:
        progress.say(f"The calibration is not kept, since {folder} cannot be written to ({refusal.strerror}).")


def _samples(run: Run, given: str | Path, model: ScoredModel, skip_bad: bool, progress: Progress) -> Samples:
    if not Path(given).exists() and str(given) in ("train", "validation", "test"):
        splits = run.data().splits
        check_choice("split", str(given), splits)
        return of_split(splits[str(given)], model.data_shape, skip_bad)
    return samples_as_trained(run, given, model, skip_bad, progress)


def _columns(samples: Samples, scores: Scores, only: Sequence[str] | None) -> dict[str, np.ndarray[Any, Any]]:
    parts = {name: scores.parts[name] for name in (scores.parts if only is None else only)}
    return {
        "index": np.array(samples.places, np.int64),
        "name": np.array(samples.names, np.str_),
        **{name: value.numpy() for name, value in {"p_value": scores.p_value, "score": scores.score, **parts}.items()},
    }


def _write(out: Path, columns: dict[str, np.ndarray[Any, Any]]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix.lower() == ".npz":
        write_npz(out, columns)
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))  # floats by repr
    write_atomically(out, text.getvalue().encode())


def _said(model: ScoredModel, scores: Scores, reference: str | Path | None) -> list[str]:
    assert model.score_density is not None
    n, count = len(model.score_density.scores), len(scores.p_value)
    strange = int((false_discovery_control(scores.p_value.numpy()) <= FALSE_DISCOVERIES).sum())
    against = "the run's held-out data" if reference is None else str(reference)
    said = [
        f"{strange:,} of {counted(count, 'sample')} stand out at a false-discovery rate of {FALSE_DISCOVERIES:.0%}",
        f"p-values are against {counted(n, 'sample')} of {against}: none can be below 1/{n + 1:,}",
    ]
    if model.settings.fix_codes:
        said.append(
            "this run's chains leave codes alone (fix_codes): energy and log_density are of h(x, z), which is not the"
            " law of its samples"
        )
    return said

"""Codes of somebody's data, in the order of the input: posterior means of a run's model.

SPLIT       train, validation or test of the run's data, with its labels and factors
others      a path or a data set, as data/samples.py reads it, with the `labels` of an .npz, or the first-level
            subfolders of images as their labels

FILE.npz    `codes` (n, dim) float32; `labels` (n,) and `factors` (n, K) int64 where they are known
"""

import warnings
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaebm.data import modality_of, to_uint8
from vaebm.data.files.npz import stored_arrays
from vaebm.data.samples import Samples, read_samples
from vaebm.data.settings import ImageSettings
from vaebm.errors import InputError, check_choice
from vaebm.experiment.run_directory import Run
from vaebm.files import user_path, write_npz
from vaebm.models import Model
from vaebm.progress import Progress, silent
from vaebm.training.engine import threads

ROWS_AT_ONCE = 1000
Array = NDArray[Any]


class Input(NamedTuple):
    """What is encoded, and what is known of it.

    Args:
        rows: n.
        chunks: parts of (n, *data_shape), in the model's range.
        known: `labels` and `factors`, as far as there are any.
    """

    rows: int
    chunks: Iterator[Tensor]
    known: dict[str, Array]

    def first(self, n: int) -> Tensor:
        """The first n, at most all of them."""
        parts: list[Tensor] = []
        while sum(map(len, parts)) < n and (part := next(self.chunks, None)) is not None:
            parts.append(part)
        return torch.cat(parts)[:n]


def write_codes(
    run: Run | str | Path,
    given: str,
    out: str | Path,
    *,
    device: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Encodes an input into FILE.npz; returns where it is.

    Args:
        run: a run, or its directory.
        given: a path, or the name of a split of the run's data.
        out: FILE.npz.
        device: where the model is.
        progress: told of what takes long.

    Raises:
        InputError: there is no such input, it does not suit the model, or `out` cannot be made.
    """
    run, out, progress = Run.open(run), user_path(out), progress or silent()
    if out.suffix.lower() != ".npz" or out.is_dir():
        raise InputError(f"{out}: codes are written as .npz, as in --out {out.with_suffix('.npz')}")
    with threads(run.recipe.threads):
        model = run.model(device)
        found = read_input(run, given, model, progress)
        codes = _encode(model, found, progress).numpy().astype(np.float32)
    out.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"codes": codes, **found.known}
    write_npz(out, arrays)
    return out


def read_input(run: Run, given: str, model: Model, progress: Progress) -> Input:
    """The data at a path, of a split of the run's, or of a data set, as a model takes them.

    Raises:
        InputError: there are none, or they do not suit the model.
    """
    path = user_path(given)
    if not path.exists() and ":" not in given:
        splits = run.data().splits
        check_choice("--input", given, [*splits, "a folder", "an archive", "an .npz or .npy", "a data set:its split"])
        split, labels_and_factors = splits[given], ("labels", "factors")
        found = {name: getattr(split, name) for name in labels_and_factors}
        known = {name: value.numpy() for name, value in found.items() if value is not None}
        return Input(len(split), iter(split.chunks(ROWS_AT_ONCE)), known)
    samples = samples_as_trained(run, given, model, None, progress)
    if samples.said:
        warnings.warn(f"{given}: {samples.said}", stacklevel=2)
    known = {} if model.columns is not None else _labels(path, samples.names)
    return Input(len(samples.x), iter(samples.x.split(ROWS_AT_ONCE)), known)


def samples_as_trained(run: Run, given: str | Path, model: Model, skip_bad: bool | None, progress: Progress) -> Samples:
    """Samples at a path or of a data set, of as few bits as the run's data (data/samples.py)."""
    samples, data = read_samples(given, model.data_shape, skip_bad, progress, model.columns), run.recipe.data
    if isinstance(data, ImageSettings) and data.dropped_bits:
        return samples._replace(x=data.split(to_uint8(samples.x)).all())
    return samples


def _labels(path: Path, names: list[str]) -> dict[str, Array]:
    if path.suffix.lower() == ".npz":
        labels = stored_arrays(path).get("labels")
        if labels is None:
            return {}
        if labels.shape != (len(names),):
            raise InputError(f"{path}: labels {labels.shape} for {len(names)} samples: give one each")
        return {"labels": labels.all()}
    top = [PurePosixPath(name).parts[0] for name in names]
    classes = sorted(set(top))
    if len(classes) < 2 or set(classes) & set(names):
        return {}
    return {"labels": np.array([classes.index(folder) for folder in top])}


@torch.no_grad()
def _encode(model: Model, given: Input, progress: Progress) -> Tensor:
    codes = []
    with progress.task("encode", given.rows, modality_of(model.data_shape).noun + "s") as task:
        for x in given.chunks:
            codes.append(model.encode(x.to(model.device)).cpu())
            task.advance(len(x))
    return torch.cat(codes)

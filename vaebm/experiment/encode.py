"""Codes of somebody's data, in the order of the input: posterior means of a run's model.

    SPLIT              train, validation or test of the run's data, with its labels and factors
    .npz               `images` (n, height, width, channels) uint8 or `points` (n, dim) float32, maybe `labels`
    folder, zip, tar   images by the order of their names; first-level subfolders are their labels

    FILE.npz           `codes` (n, dim) float32; `labels` (n,) and `factors` (n, K) int64 where they are known

Images of another size are cropped and resized as for training, and a warning says so.
"""

import warnings
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaebm.data import IMAGES, Split, modality_of
from vaebm.data.files.archives import UnreadableImage, open_source
from vaebm.data.files.image import read_header, read_picture
from vaebm.data.files.npz import stored_arrays
from vaebm.errors import InputError, check_choice
from vaebm.experiment.run_directory import Run
from vaebm.files import write_npz
from vaebm.models import Model
from vaebm.progress import Progress, silent
from vaebm.training.engine import threads

ROWS_AT_ONCE = 1000
Array = NDArray[Any]


class Input(NamedTuple):
    """What is encoded, and what is known of it by name."""

    split: Split
    known: dict[str, Array]


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
    run, out, progress = Run.open(run), Path(out).expanduser(), progress or silent()
    if out.suffix.lower() != ".npz" or out.is_dir():
        raise InputError(f"{out}: codes are written as .npz, as in --out {out.with_suffix('.npz')}")
    with threads(run.recipe.threads):
        model = run.model(device)
        found = read_input(run, given, model.data_shape, progress)
        codes = _encode(model, found.split, progress).numpy().astype(np.float32)
    out.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"codes": codes, **found.known}
    write_npz(out, arrays)
    return out


def read_input(run: Run, given: str, shape: tuple[int, ...], progress: Progress) -> Input:
    """The data at a path, or of a split of the run's, as a model of `shape` takes them.

    Raises:
        InputError: there are none, or they do not suit the model.
    """
    path = Path(given).expanduser()
    if not path.exists():
        splits = run.data().splits
        check_choice("--input", given, [*splits, "a folder", "a zip or tar", "an .npz"])
        split = splits[given]
        known = {"labels": split.labels, "factors": split.factors}
        return Input(split, {name: value.numpy() for name, value in known.items() if value is not None})
    return _of_arrays(path, shape) if path.suffix.lower() == ".npz" else _of_files(path, shape, progress)


@torch.no_grad()
def _encode(model: Model, split: Split, progress: Progress) -> Tensor:
    codes = []
    with progress.task("encode", len(split), modality_of(model.data_shape).noun + "s") as task:
        for x in split.chunks(ROWS_AT_ONCE):
            codes.append(model.encode(x.to(model.device)).cpu())
            task.advance(len(x))
    return torch.cat(codes)


def _of_arrays(path: Path, shape: tuple[int, ...]) -> Input:
    arrays, modality = stored_arrays(path), modality_of(shape)
    name, images = f"{modality.noun}s", modality.pictured
    if name not in arrays:
        raise InputError(f"{path} holds {', '.join(arrays) or 'no arrays'}: this model encodes `{name}`")
    values = arrays[name].all()
    wanted = (*shape[1:], shape[0]) if images else shape
    if values.shape[1:] != wanted or values.dtype != (np.uint8 if images else np.float32) or not len(values):
        raise InputError(
            f"{path}: {name} {values.shape} {values.dtype} do not suit this model: give (n,"
            f" {', '.join(map(str, wanted))}) in {'uint8' if images else 'float32'}"
        )
    known = {"labels": arrays["labels"].all()} if "labels" in arrays else {}
    if known and known["labels"].shape != values.shape[:1]:
        raise InputError(f"{path}: labels {known['labels'].shape} for {len(values)} {name}: give one each")
    tensor = torch.from_numpy(np.array(values.transpose(0, 3, 1, 2) if images else values))
    return Input(Split(tensor, levels=255 if images else None), known)


def _of_files(path: Path, shape: tuple[int, ...], progress: Progress) -> Input:
    IMAGES.require(shape, f"a folder or archive such as {path}", "an .npz of points")
    source = open_source(path)
    names = source.names()
    if not names:
        raise InputError(f"{path} holds no files: give images")
    pictures, resized = np.empty((len(names), *shape), np.uint8), 0
    _, height, width = shape
    with progress.task("read images", len(names), "images") as task:
        for row, name in enumerate(names):
            try:
                header = read_header(partial(source.open, name))
                picture = read_picture(partial(source.open, name), (height, width)).pixels
            except UnreadableImage as reason:
                raise InputError(f"{path}: {name} is {reason}: leave it out, so that rows keep their order") from None
            if shape[0] == 1 and (picture != picture[..., :1]).any():
                raise InputError(f"{path}: {name} has colours, but this model takes grey images: convert it")
            resized += (header.height, header.width) != (height, width)
            pictures[row] = picture.transpose(2, 0, 1)[: shape[0]]
            task.advance()
    if resized:
        warnings.warn(
            f"{path}: {resized:,} of {len(names):,} images were cropped and resized to {width} x {height} pixels",
            stacklevel=2,
        )
    top = [PurePosixPath(name).parts[0] for name in names]
    classes = sorted(set(top))
    known = {"labels": np.array([classes.index(folder) for folder in top])}
    labelled = len(classes) > 1 and not set(classes) & set(names)
    return Input(Split(torch.from_numpy(pictures), levels=255), known if labelled else {})

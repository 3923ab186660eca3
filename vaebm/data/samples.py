"""Samples that somebody has, as a model sees them: in the order of the input, each with a name.

    NAME, NAME:SPLIT            a data set; its test split unless given
    a folder, .zip, .tar        images; names are those of the files, sorted
    an image file               one image
    .npz, .npy                  `images` (n, H, W, C), (n, C, H, W) or (n, H, W), uint8 or floats in [0, 1] or [-1, 1],
                                or `points` (n, dim); a single array may have any name; names are numbers of rows
    a table                     of a model of rows: the columns of its training, by name, in any order; others are left
                                out (data/files/table.py)

Images of another size are cropped and resized as a folder is for training: the largest central rectangle of the model's
shape, bicubic. Grey is repeated for a model of colours, colours are turned into grey by their luminance.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaebm.data.files.archives import FolderSource, UnreadableImage, open_source
from vaebm.data.files.image import fitted, read_picture
from vaebm.data.files.npz import read_npy, stored_arrays
from vaebm.data.files.table import ENDINGS, is_table, read_table
from vaebm.data.modality import IMAGES, modality_of
from vaebm.data.sets import KINDS
from vaebm.data.sets.published import SUFFIXES
from vaebm.data.splits import Split
from vaebm.data.transforms import to_model, to_uint8
from vaebm.distributions.columns import Columns
from vaebm.errors import InputError, check_choice
from vaebm.progress import Progress, silent
from vaebm.wording import counted, did_you_mean, enumerated

Decoded = tuple[str, Tensor | str]
"""A sample's name, and the sample, or why there is none."""


class Samples(NamedTuple):
    """What was read.

    Args:
        places: n of them, in the input, counted from 0.
        names: n of them.
        x: (n, *data_shape) float32 in the model's range.
        said: sentences on what was done to them; "" where they are as they were.
    """

    places: list[int]
    names: list[str]
    x: Tensor
    said: str


def read_samples(
    given: str | Path,
    data_shape: Sequence[int],
    skip_bad: bool | None = False,
    progress: Progress | None = None,
    columns: Columns | None = None,
) -> Samples:
    """All samples at a path, or of a data set by its name.

    Args:
        given: see above.
        data_shape: of one sample as the model sees it.
        skip_bad: leave out files that are no images and rows that are not finite, instead of refusing all; None: that
            is no choice of the user's.
        progress: told of what takes long.
        columns: of a table's rows.

    Raises:
        InputError: nothing is there, or it does not suit the model; bad samples are named.
    """
    path, shape, progress = Path(given).expanduser(), tuple(data_shape), progress or silent()
    if columns is not None:
        return _of_table(path, columns, skip_bad)
    images = modality_of(shape) is IMAGES
    name, _, part = str(given).partition(":")
    if not path.exists() and name in KINDS:
        return of_split(_split(name, part or "test", progress), shape, skip_bad)
    if path.suffix.lower() in (".npz", ".npy"):
        return of_array(path, _stored(path, images), shape, skip_bad)
    if not path.exists():
        raise InputError(f"there is no data set or path {str(given)!r}: {did_you_mean(name, KINDS)}")
    if not images:
        raise InputError(f"{path} cannot hold points: give an .npz or .npy of shape (n, {shape[0]})")
    single = path.is_file() and path.suffix.lower() in SUFFIXES
    source = FolderSource(path.parent) if single else open_source(path)
    names = [path.name] if single else source.names()
    sizes: set[tuple[int, ...]] = set()

    def decoded() -> Iterator[Decoded]:
        with progress.task("read images", len(names), "images") as task:
            for file in names:
                task.advance()
                try:
                    pixels = read_picture(partial(source.open, file), None).pixels
                except UnreadableImage as reason:
                    yield file, str(reason)
                    continue
                sizes.add(pixels.shape[:2])
                yield file, to_model(_of_shape(pixels, shape))

    return _collected(path, decoded(), skip_bad, lambda: _resized(sizes, shape))


def _of_table(path: Path, columns: Columns, skip_bad: bool | None) -> Samples:
    if not is_table(path):
        raise InputError(f"{path} is no table: give a {enumerated(ENDINGS, len(ENDINGS))} with the model's columns")
    table = read_table(path)
    try:
        x, bad = columns.encode(table)
    except InputError as lacking:
        raise InputError(f"{path}: {lacking}") from None
    rows: Iterable[Decoded] = (
        (str(row), bad.get(row, value)) for row, value in enumerate(torch.from_numpy(x)[:, None])
    )
    others = [name for name in table if name not in columns.names]
    said = f"{counted(len(others), 'column')} that the model has not were left out: {enumerated(others)}"
    return _collected(path, rows, skip_bad, lambda: said if others else "")


def of_split(split: Split, shape: tuple[int, ...], skip_bad: bool | None = False) -> Samples:
    """All samples of a split of a data set.

    Raises:
        InputError: its values do not suit the model.
    """
    own = tuple(split.values.shape[1:])
    if own == shape:
        return _collected("the split", zip(map(str, range(len(split))), split.all(), strict=True), skip_bad)
    if split.levels is None or len(shape) != len(own):
        raise InputError(f"the data set has samples of shape {own}, but this model takes {shape}: give another set")
    images = to_uint8(split.all()).permute(0, 2, 3, 1).numpy()
    return of_array("the split", images, shape, skip_bad)


def _split(name: str, part: str, progress: Progress) -> Split:
    splits = KINDS[name].model_validate({}).load(progress).splits
    check_choice("split", part, splits)
    return splits[part]


def _stored(path: Path, images: bool) -> NDArray[Any]:
    """The array of a file."""
    wanted = "images" if images else "points"
    if path.suffix.lower() == ".npz":
        arrays = stored_arrays(path)
        chosen = arrays.get(wanted) or (next(iter(arrays.values())) if len(arrays) == 1 else None)
        if chosen is None:
            raise InputError(f"{path} holds {', '.join(arrays) or 'no arrays'}: give one array, called {wanted}")
        return chosen.all()
    return read_npy(path)


def of_array(path: str | Path, array: NDArray[Any], shape: tuple[int, ...], skip_bad: bool | None = False) -> Samples:
    """All samples of an array, which messages call `path`.

    Raises:
        InputError: its values do not suit the model.
    """
    if array.dtype.kind not in "fiu":
        raise InputError(f"{path} holds {array.dtype}, which are no numbers: give floats, or images as uint8")
    if not array.size:
        raise InputError(f"{path} is empty: give at least one sample")
    values, said = _images(path, array, shape) if modality_of(shape) is IMAGES else (_points(path, array, shape), "")
    rows = ((str(row), value if bool(value.isfinite().all()) else "not finite") for row, value in enumerate(values))
    return _collected(path, rows, skip_bad, lambda: said)


def _points(path: str | Path, array: NDArray[Any], shape: tuple[int, ...]) -> Tensor:
    if array.shape[1:] != shape:
        raise InputError(f"{path} holds values of shape {array.shape}, but this model takes (n, {shape[0]})")
    with np.errstate(over="ignore"):  # not finite then, and named
        return torch.from_numpy(array.astype(np.float32))


def _images(path: str | Path, array: NDArray[Any], shape: tuple[int, ...]) -> tuple[Tensor, str]:
    channels, height, width = shape
    array = array[..., None] if array.ndim == 3 else array
    if array.ndim == 4 and array.shape[3] not in (1, 3) and array.shape[1] in (1, 3):
        array = array.transpose(0, 2, 3, 1)
    if array.ndim != 4 or array.shape[3] not in (1, 3):
        raise InputError(
            f"{path} holds values of shape {array.shape}, but this model takes images (n, {height}, {width},"
            f" {channels}): give a batch, of one too, with 1 or 3 channels"
        )
    size = tuple(array.shape[1:3])
    if array.dtype == np.uint8:
        pixels = np.stack([_of_shape(image, shape).numpy() for image in array])
        return to_model(torch.from_numpy(pixels)), _resized([size], shape)
    finite = array[np.isfinite(array)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if array.dtype.kind != "f" or low < -1 or high > 1 or size != (height, width) or array.shape[3] != channels:
        raise InputError(
            f"{path} holds images of {array.dtype} and shape {array.shape[1:]} from {low:g} to {high:g}: give uint8,"
            f" or floats in [0, 1] or [-1, 1] of shape {(height, width, channels)}"
        )
    x = torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2), np.float32))
    return (x, "") if low < 0 else (2.0 * x - 1.0, "")


def _of_shape(pixels: NDArray[np.uint8], shape: tuple[int, ...]) -> Tensor:
    """Pixels (H, W, 1 or 3) uint8 as (C, H, W) uint8 of a shape."""
    return torch.from_numpy(fitted(pixels, (shape[1], shape[2]), grey=shape[0] == 1).transpose(2, 0, 1).copy())


def _resized(sizes: Iterable[tuple[int, ...]], shape: tuple[int, ...]) -> str:
    """What is said of images of these (height, width)."""
    others = sorted({size[:2] for size in sizes} - {shape[1:]})
    listed = enumerated([f"{width} x {height}" for height, width in others])
    return f"images of {listed} were cropped and resized to {shape[2]} x {shape[1]}, as in training" if others else ""


def _collected(
    given: str | Path, rows: Iterable[Decoded], skip_bad: bool | None, said: Callable[[], str] = str
) -> Samples:
    places, names, values, bad = [], [], [], []
    for place, (name, value) in enumerate(rows):
        if isinstance(value, str):
            bad.append(f"{name} ({value})")
        else:
            places.append(place)
            names.append(name)
            values.append(value)
    if bad and not (skip_bad and values):
        rest = "" if skip_bad is None or not values else "; --skip-bad takes the others"
        raise InputError(f"{given}: {counted(len(bad), 'sample')} cannot be read: {enumerated(bad)}{rest}")
    if not values:
        raise InputError(f"{given} is empty: give at least one sample")
    left_out = [f"left out {counted(len(bad), 'sample')}: {enumerated(bad)}"] if bad else []
    return Samples(places, names, torch.stack(values), "; ".join([*filter(None, [said()]), *left_out]))

"""Data given in Python, as an array: a recipe knows their shape and their hash, and whoever opens the run passes them.

One in ten is held out, every tenth in order, unless held-out data are given too.
"""

import hashlib
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from vaebm.data.describe import describe_values
from vaebm.data.modality import IMAGES, modality_of
from vaebm.data.settings import EIGHT_BITS, DataSettings
from vaebm.data.splits import VALUES_AT_ONCE, DataSet, Split
from vaebm.errors import InputError
from vaebm.progress import Progress
from vaebm.wording import counted

HELD_OUT_EVERY = 10
MIN_ROWS = 20


class GivenSettings(DataSettings):
    """Data that were passed as an array."""

    kind: Literal["given"] = Field("given", description="data passed as an array in Python")
    shape: list[int] = Field(description="of one value, (C, H, W) or (dim,)")
    sha256: str = Field(description="of the values, so that other data are noticed")

    def load(self, progress: Progress | None = None) -> DataSet:
        raise InputError(
            "this run's data were passed as an array and are not on disk: pass them again, as in"
            " vaebm.train_energy(vae, data, out=run)"
        )


def given_data(train: object, held_out: object = None) -> tuple[GivenSettings, DataSet]:
    """Settings and splits of arrays or tensors.

    Args:
        train: images (N, C, H, W) or (N, H, W, C), uint8 or floats in [0, 1] or [-1, 1]; or points (N, dim), floats.
        held_out: the same, or None to hold out one in ten of `train`.

    Raises:
        InputError: they are neither, or too few.
    """
    arrays = [_array(given) for given in (train, held_out) if given is not None]
    signed = any(array.ndim == 4 and array.min() < 0 for array in arrays)  # one range for both
    values, *rest = (_values(array, signed) for array in arrays)
    if len(values) < MIN_ROWS:
        raise InputError(f"there are {counted(len(values), 'value')}: pass at least {MIN_ROWS}")
    digest = hashlib.sha256(values.numpy().data)
    if not rest:
        rows = torch.arange(len(values)) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
        train_values, test_values = values[~rows], values[rows]
    else:
        train_values, test_values = values, rest[0]
        if test_values.shape[1:] != values.shape[1:]:
            raise InputError(
                f"held-out values are {tuple(test_values.shape[1:])}, the others {tuple(values.shape[1:])}"
            )
        digest.update(test_values.numpy().data)
    modality = modality_of(values.shape[1:])
    levels = 2**EIGHT_BITS - 1 if modality is IMAGES else None
    splits = {"train": Split(train_values, levels=levels), "test": Split(test_values, levels=levels)}
    seen = f"; {describe_values(splits['train'])}" if modality is IMAGES else ""
    description = (
        f"{counted(len(train_values) + len(test_values), modality.noun)} of shape {tuple(values.shape[1:])},"
        f" passed as an array; {len(train_values):,} for training and {len(test_values):,} held out{seen}."
    )
    settings = GivenSettings(shape=list(values.shape[1:]), sha256=digest.hexdigest())
    return settings, DataSet("given data", splits, description)


def _array(given: object) -> NDArray[Any]:
    """Numbers as images (N, C, H, W), or as points (N, dim)."""
    if isinstance(given, Tensor):
        given = given.detach().cpu()
        given = given.float() if given.dtype == torch.bfloat16 else given  # NumPy has no such type
    try:
        array: NDArray[Any] = np.asarray(given)
    except ValueError:
        raise InputError("the rows of the data differ in length: pass one array of images or of points") from None
    if array.dtype.kind not in "fiub":
        raise InputError(f"data of type {array.dtype} are no numbers: pass floats, or images as uint8")
    if array.ndim not in (2, 3, 4) or array.size == 0:
        raise InputError(f"data of shape {array.shape} are neither images (N, C, H, W) nor points (N, dim)")
    if array.ndim == 3:
        return array[:, None]
    if array.ndim == 4 and array.shape[1] not in (1, 3) and array.shape[3] in (1, 3):
        return array.transpose(0, 3, 1, 2)
    return array


def _values(array: NDArray[Any], signed: bool) -> Tensor:
    """uint8 images (N, C, H, W), or float32 points (N, dim); `signed` says that images are in [-1, 1]."""
    if array.ndim == 2:
        with np.errstate(over="ignore"):  # which the next line says
            array = array.astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        raise InputError("some of the data are not finite, or too large for float32: leave these out")
    if array.ndim == 4 and array.dtype != np.uint8:
        low, high = float(array.min()), float(array.max())
        if low < -1 or high > 1:
            raise InputError(
                f"images of type {array.dtype} run from {low:g} to {high:g}: pass uint8, or floats in [0, 1] or [-1, 1]"
            )
        parts = np.array_split(array, -(-array.size // VALUES_AT_ONCE))  # copies of a part alone
        array = np.concatenate(
            [np.rint(((part + 1) / 2 if signed else part) * 255.0).astype(np.uint8) for part in parts]
        )
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))

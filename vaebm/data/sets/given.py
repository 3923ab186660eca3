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
from vaebm.data.splits import DataSet, Split
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
        """Cannot be done: the values are not on disk."""
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
    values = _values(train)
    if len(values) < MIN_ROWS:
        raise InputError(f"there are {counted(len(values), 'value')}: pass at least {MIN_ROWS}")
    digest = hashlib.sha256(values.numpy().tobytes())
    if held_out is None:
        rows = torch.arange(len(values)) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
        train_values, test_values = values[~rows], values[rows]
    else:
        train_values, test_values = values, _values(held_out)
        if test_values.shape[1:] != values.shape[1:]:
            raise InputError(
                f"held-out values are {tuple(test_values.shape[1:])}, the others {tuple(values.shape[1:])}"
            )
        digest.update(test_values.numpy().tobytes())
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


def _values(given: object) -> Tensor:
    """uint8 images (N, C, H, W), or float32 points (N, dim)."""
    array: NDArray[Any] = np.asarray(given.detach().cpu() if isinstance(given, Tensor) else given)
    if array.dtype == object or array.ndim not in (2, 3, 4):
        raise InputError(f"data of shape {array.shape} are neither images (N, C, H, W) nor points (N, dim)")
    if not np.isfinite(array).all():
        raise InputError("some of the data are not finite: leave these out")
    if array.ndim == 2:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    if array.ndim == 3:
        array = array[:, None]
    elif array.shape[1] not in (1, 3) and array.shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    if array.dtype != np.uint8:
        low, high = float(array.min()), float(array.max())
        if low < -1 or high > 1:
            raise InputError(
                f"images of type {array.dtype} run from {low:g} to {high:g}: pass uint8, or floats in [0, 1] or [-1, 1]"
            )
        array = np.rint((array if low >= 0 else (array + 1) / 2) * 255).astype(np.uint8)
    return torch.from_numpy(np.ascontiguousarray(array))

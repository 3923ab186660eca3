"""Modalities: what kind of thing one value is, asked here and nowhere else.

    images    data_shape (C, H, W); models see [-1, 1], people [0, 1], files uint8
    points    data_shape (dim,); the same everywhere
    rows      data_shape (1, width), of a table: models see encoded vectors (distributions/columns.py), files columns

Whatever differs between them outside this package is a field here, or a dictionary keyed by `name`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vaebm.data.transforms import to_display, to_uint8
from vaebm.errors import InputError


@dataclass(frozen=True, eq=False)
class Modality:
    """A kind of data."""

    name: str  # its key in dictionaries
    noun: str  # one value
    axes: int  # of one value
    limits: tuple[float, float] | None  # ends of the model's range, None where values lie anywhere
    pictured: bool  # whether values can be written as pictures: a PNG of many, or a folder of one each
    has_columns: bool  # whether values are rows of a table
    endings: tuple[str, ...]  # of the files that many of them can be written to
    to_user: Callable[[Tensor], Tensor]  # values (n, *data_shape) from the model's range to the one that users see
    arrays: Callable[[Tensor], dict[str, NDArray[Any]]]  # the same values as the named arrays of an .npz

    def require(self, data_shape: Sequence[int], what: str, instead: str) -> None:
        """Refuses values of another modality. InputError: `what` needs this one, and `instead` would do."""
        if modality_of(data_shape) is not self:
            raise InputError(f"{what} needs {self.noun}s, but the data have shape {tuple(data_shape)}: use {instead}")


def _images(x: Tensor) -> dict[str, NDArray[Any]]:
    """`images` (n, H, W, C) uint8."""
    return {"images": to_uint8(x).permute(0, 2, 3, 1).cpu().numpy()}


def _points(x: Tensor) -> dict[str, NDArray[Any]]:
    """`points` (n, dim) float32."""
    return {"points": x.cpu().numpy().astype(np.float32, copy=False)}


def _rows(x: Tensor) -> dict[str, NDArray[Any]]:
    """`rows` (n, width) float32, encoded."""
    return {"rows": x.flatten(1).cpu().numpy().astype(np.float32, copy=False)}


IMAGES = Modality("image", "image", 3, (-1.0, 1.0), True, False, (".npz", ".png"), to_display, _images)
POINTS = Modality("points", "point", 1, None, False, False, (".npz",), lambda x: x, _points)
ROWS = Modality("rows", "row", 2, None, False, True, (".csv", ".parquet", ".npz"), lambda x: x, _rows)
MODALITIES: dict[str, Modality] = {modality.name: modality for modality in (IMAGES, POINTS, ROWS)}


def modality_of(data_shape: Sequence[int]) -> Modality:
    """The modality of values of a shape. InputError: no modality has values of that shape."""
    found = next((modality for modality in MODALITIES.values() if modality.axes == len(data_shape)), None)
    if found is None or (found.has_columns and data_shape[0] != 1):
        raise InputError(
            f"values of data_shape {tuple(data_shape)} are neither images (C, H, W), points (dim,) nor rows of a table"
            " (1, width)"
        )
    return found

"""Modalities: what kind of thing one value is, asked here and nowhere else.

    images    data_shape (C, H, W); models see [-1, 1], people [0, 1], files uint8
    points    data_shape (dim,); the same everywhere

Whatever differs between them outside this package is a method here, or a dictionary keyed by `name`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vaebm.data.transforms import to_display, to_uint8
from vaebm.errors import InputError


class Modality(ABC):
    """A kind of data.

    `name` is its key in dictionaries, `noun` is one value, `axes` counts those of one value, `limits` are the ends of
    the model's range, None where values lie anywhere, and `pictured` says whether values can be written as pictures: a
    PNG of many, or a folder of one each.
    """

    name: ClassVar[str]
    noun: ClassVar[str]
    axes: ClassVar[int]
    limits: ClassVar[tuple[float, float] | None]
    pictured: ClassVar[bool]

    def require(self, data_shape: Sequence[int], what: str, instead: str) -> None:
        """Passes where values of this shape are of this modality.

        Raises:
            InputError: they are not: `what` needs them, and `instead` would do.
        """
        if modality_of(data_shape) is not self:
            raise InputError(f"{what} needs {self.noun}s, but the data have shape {tuple(data_shape)}: use {instead}")

    @abstractmethod
    def to_user(self, x: Tensor) -> Tensor:
        """Values (n, *data_shape) from the model's range to the one that users see."""

    @abstractmethod
    def arrays(self, x: Tensor) -> dict[str, NDArray[Any]]:
        """Values (n, *data_shape) in the model's range as the named arrays of an .npz."""


class Images(Modality):
    """Images (C, H, W)."""

    name, noun, axes, limits, pictured = "image", "image", 3, (-1.0, 1.0), True

    def to_user(self, x: Tensor) -> Tensor:
        """To [0, 1]."""
        return to_display(x)

    def arrays(self, x: Tensor) -> dict[str, NDArray[Any]]:
        """`images` (n, H, W, C) uint8."""
        return {"images": to_uint8(x).permute(0, 2, 3, 1).cpu().numpy()}


class Points(Modality):
    """Points (dim,)."""

    name, noun, axes, limits, pictured = "points", "point", 1, None, False

    def to_user(self, x: Tensor) -> Tensor:
        """As they are."""
        return x

    def arrays(self, x: Tensor) -> dict[str, NDArray[Any]]:
        """`points` (n, dim) float32."""
        return {"points": x.cpu().numpy().astype(np.float32, copy=False)}


IMAGES, POINTS = Images(), Points()
MODALITIES: dict[str, Modality] = {modality.name: modality for modality in (IMAGES, POINTS)}


def modality_of(data_shape: Sequence[int]) -> Modality:
    """The modality of values of a shape. InputError: no modality has values of that shape."""
    found = next((modality for modality in MODALITIES.values() if modality.axes == len(data_shape)), None)
    if found is None:
        raise InputError(f"values of data_shape {tuple(data_shape)} are neither images (C, H, W) nor points (dim,)")
    return found

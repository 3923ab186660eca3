"""What the rest of the library may know of a data set: two splits, a shape, and a sentence on what was found.

A `Split` keeps what was stored (uint8 for images: a quarter of the memory) and hands out what models see: float32,
images in [-1, 1] (`data/transforms.py`), points as they are. A `DataSet` has a training split and a held-out one that
no fit may touch. Where the density that the data were drawn from is known, `truth` is it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Protocol

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from vaebm.data.transforms import to_model
from vaebm.errors import InputError


class Truth(Protocol):
    """A density known exactly: equal round Gaussians about `modes` (K, dim), of standard deviation `scale`."""

    modes: Tensor
    scale: float

    def log_prob(self, x: Tensor) -> Tensor:
        """(n, dim) to (n,), in nats."""


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set.

    Args:
        values: images (N, C, H, W) uint8 from 0 to `levels`, or points (N, dim) float32.
        labels: (N,) int64, or None where there are none.
        levels: the stored value of white; None for points.

    Raises:
        InputError: dtypes, shapes and `levels` do not belong together.
    """

    values: Tensor
    labels: Tensor | None = None
    levels: int | None = None

    def __post_init__(self) -> None:
        image = self.values.dtype == torch.uint8 and self.values.ndim == 4 and self.levels is not None
        points = self.values.dtype == torch.float32 and self.values.ndim == 2 and self.levels is None
        if not (image or points):
            raise InputError(
                f"values {tuple(self.values.shape)} {self.values.dtype} with levels={self.levels} are neither images "
                "nor points: give (N, C, H, W) uint8 with levels, or (N, dim) float32 without"
            )
        if self.labels is not None and (self.labels.shape != (len(self),) or self.labels.dtype != torch.int64):
            raise InputError(
                f"labels {tuple(self.labels.shape)} {self.labels.dtype} for {len(self)} values: give one int64 a value"
            )

    def __len__(self) -> int:
        return self.values.shape[0]

    def batch(self, indices: Tensor) -> Tensor:
        """The values at `indices` (B,) int64 as models see them: (B, C, H, W) in [-1, 1] or (B, dim), float32."""
        return self._to_model(self.values[indices])

    def all(self) -> Tensor:
        """The whole split as models see it: (N, C, H, W) in [-1, 1] or (N, dim), float32."""
        return self._to_model(self.values)

    def to(self, device: torch.device) -> Split:
        """The same split with its values on a device; indices of `batch` then have to be there too."""
        return replace(self, values=self.values.to(device))

    def _to_model(self, values: Tensor) -> Tensor:
        return values if self.levels is None else to_model(values, self.levels)


@dataclass(frozen=True, eq=False)
class DataSet:
    """A data set, split.

    Args:
        name: how tables and reports call it.
        kind: "image" or "points".
        shape: of one value, (C, H, W) or (dim,).
        train: what models are fitted to.
        test: held out.
        class_names: what the labels stand for, in order; None without labels.
        found: one sentence for people: count, sizes, range, saturated share, what was skipped.
        truth: the density that the data were drawn from, where it is known.
    """

    name: str
    kind: Literal["image", "points"]
    shape: tuple[int, ...]
    train: Split
    test: Split
    class_names: tuple[str, ...] | None
    found: str
    truth: Truth | None = None

    @cached_property
    def saturated_share(self) -> float:
        """Share of the training pixels that are exactly black or exactly white; 0 for points."""
        return saturated_share(self.train)


def saturated_share(split: Split) -> float:
    """Share of the pixels of `split` at either end of the stored range; 0 for points."""
    if split.levels is None:
        return 0.0
    ends = (split.values == 0).sum() + (split.values == split.levels).sum()
    return ends.item() / split.values.numel()


class DataSettings(BaseModel, ABC):
    """What a recipe says of its data; each family adds its own `kind`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @abstractmethod
    def load(self) -> DataSet:
        """Reads or draws the data.

        Raises:
            InputError: they cannot be had as asked for; the message says what to do.
        """

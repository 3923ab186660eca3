"""Data sets and their splits: all that the rest of the library knows of data.

A `Split` keeps what was stored (uint8 for images: a quarter of the memory) and hands out what models see: float32,
images in [-1, 1] (`data/transforms.py`), points and rows of tables as they are. What was stored lies in memory, or
stays on disk until a batch asks for it (`data/prepared.py`).

    dequantise    x + u, u uniform over the width of one stored value: what a density without point masses is fitted to.
                  Only batches drawn with a generator carry it, so nothing that is measured is noisier for it.
    flip          x or its mirror image, with equal probability, in the same batches: the law becomes symmetric
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from vaebm.data.modality import Modality, modality_of
from vaebm.data.transforms import to_model
from vaebm.distributions.columns import Columns
from vaebm.errors import InputError

IMAGES_AT_ONCE = 1024
VALUES_AT_ONCE = 2**24
SATURATED = 0.02
"""Fraction of pixels at the ends of the range from which a Gaussian's jitter there is what one sees."""


class Truth(Protocol):
    """A density known exactly."""

    def log_prob(self, x: Tensor) -> Tensor:
        """(n, dim) to (n,), in nats."""


@runtime_checkable
class ModesTruth(Truth, Protocol):
    """Equal round Gaussians about `modes` (K, dim), of standard deviation `scale`."""

    modes: Tensor
    scale: float


class LazyImages(Protocol):
    """Images (N, C, H, W) uint8 that stay on disk until they are asked for."""

    shape: torch.Size
    dtype: torch.dtype
    ndim: int

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Reads the images at rows (B,) int64 on the CPU: (B, C, H, W)."""

    def counts(self) -> Tensor:
        """(256,) int64: how often each value is stored, known without reading the images."""


class Batch(NamedTuple):
    """Values of a split."""

    x: Tensor  # as models see them, (B, *data_shape) float32
    y: Tensor | None  # their labels (B,) int64, on the same device; None where the split has none


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set. InputError: dtypes, shapes and `levels` do not belong together."""

    # images (N, C, H, W) uint8 from 0 to `levels`, or points (N, dim) or rows (N, 1, width) float32
    values: Tensor | LazyImages
    labels: Tensor | None = None  # (N,) int64
    levels: int | None = None  # the stored value of white; None for points
    dequantise: bool = False  # whether batches drawn with a generator carry uniform noise of one stored value's width
    factors: Tensor | None = None  # (N, K) int64, what an image was rendered from, where it is known
    flip: bool = False  # whether images of batches drawn with a generator are mirrored left to right at random

    def __post_init__(self) -> None:
        image = self.values.dtype == torch.uint8 and self.values.ndim == 4 and self.levels is not None
        vectors = self.values.dtype == torch.float32 and self.values.ndim in (2, 3) and self.levels is None
        if not (image or vectors):
            raise InputError(
                f"values {tuple(self.values.shape)} {self.values.dtype} with levels={self.levels} are neither images "
                "nor points: give (N, C, H, W) uint8 with levels, or (N, dim) or (N, 1, width) float32 without"
            )
        if self.labels is not None and (self.labels.shape != (len(self),) or self.labels.dtype != torch.int64):
            raise InputError(
                f"labels {tuple(self.labels.shape)} {self.labels.dtype} for {len(self)} values: give one int64 a value"
            )

    def __len__(self) -> int:
        return self.values.shape[0]

    def batch(self, indices: Tensor, generator: torch.Generator | None = None) -> Batch:
        """The values at `indices` (B,) int64 as models see them, (B, C, H, W) in [-1, 1] or (B, dim), and their labels.

        They come out on the device of `indices`. With a generator, and where the split says so, images are mirrored or
        carry noise.
        """
        rows = indices if isinstance(self.values, Tensor) else indices.cpu()
        x = self._to_model(self.values[rows].to(indices.device))
        y = None if self.labels is None else self.labels[rows].to(indices.device)
        if self.levels is None or generator is None:
            return Batch(x, y)
        if self.flip:
            heads = torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device) < 0.5
            x = torch.where(heads, x.flip(3), x)
        if self.dequantise:
            x = x + (torch.rand(x.shape, generator=generator, device=x.device) - 0.5) * (2.0 / self.levels)
        return Batch(x, y)

    def subset(self, indices: Tensor) -> "Split":
        """The values at `indices` (n,) int64, in memory, with all that is known of them."""
        labels, factors = (None if known is None else known[indices] for known in (self.labels, self.factors))
        return replace(self, values=self.values[indices], labels=labels, factors=factors)

    def chunks(self, size: int = IMAGES_AT_ONCE) -> Iterator[Tensor]:
        """The whole split in order, `size` values at a time, as models see them."""
        for rows in torch.arange(len(self), device="cpu").split(size):
            yield self.batch(rows.to(self.values.device) if isinstance(self.values, Tensor) else rows).x

    def all(self) -> Tensor:
        """The whole split as models see it: (N, C, H, W) in [-1, 1] or (N, dim), float32."""
        return self._to_model(self.values if isinstance(self.values, Tensor) else self.values[torch.arange(len(self))])

    def fingerprint(self) -> dict[str, Any]:
        """Count, shape and a hash: what tells other data. Points have none: they are drawn anew wherever they are used.

        The hash of rows is of their values to three digits, since another version of a library may round otherwise.
        """
        known: dict[str, Any] = {"count": len(self), "shape": list(self.values.shape[1:])}
        if isinstance(self.values, Tensor) and self.values.ndim == 3:
            rounded = (1000 * self.values.double()).round().cpu().numpy()
            known["sha256"] = hashlib.sha256((rounded + 0.0).tobytes()).hexdigest()
        if isinstance(self.values, Tensor) and self.levels is not None:
            digest = hashlib.sha256(self.values.cpu().numpy().tobytes())
            if self.labels is not None:
                digest.update(self.labels.cpu().numpy().tobytes())
            known["sha256"] = digest.hexdigest()
        return known

    def to(self, device: torch.device) -> "Split":
        """The same split with what is in memory on a device; indices of `batch` then have to be there too."""
        if not isinstance(self.values, Tensor):
            return self
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, values=self.values.to(device), labels=labels)

    def counts(self) -> Tensor:
        """(256,) int64: how many pixels have each stored value. For images."""
        if not isinstance(self.values, Tensor):
            return self.values.counts()
        parts = self.values.flatten().split(VALUES_AT_ONCE)
        return torch.stack([torch.bincount(part, minlength=256) for part in parts]).sum(0).cpu()

    def _to_model(self, values: Tensor) -> Tensor:
        return values if self.levels is None else to_model(values, self.levels)


@dataclass(frozen=True, eq=False)
class DataSet:
    """A data set, split."""

    name: str  # in tables and reports
    # "train", to which models are fitted; "test", held out; and where the set has one "validation", for choices
    # between models, neither fitted to nor reported on
    splits: Mapping[str, Split]
    description: str  # one sentence for people: count, sizes, range, saturated fraction, what was skipped
    class_names: tuple[str, ...] | None = None  # what the labels stand for, in order; None without labels
    factor_names: tuple[str, ...] | None = None  # what the columns of the splits' factors stand for
    truth: Truth | None = None  # the density that the data were drawn from, where it is known
    columns: Columns | None = None  # of a table: what its rows' numbers stand for

    @property
    def train(self) -> Split:
        return self.splits["train"]

    @property
    def test(self) -> Split:
        return self.splits["test"]

    @property
    def validation(self) -> Split | None:
        return self.splits.get("validation")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one value: (C, H, W), (dim,) or (1, width)."""
        return tuple(self.train.values.shape[1:])

    @property
    def modality(self) -> Modality:
        return modality_of(self.shape)

    def fingerprint(self) -> dict[str, Any]:
        """Of each split."""
        return {name: split.fingerprint() for name, split in self.splits.items()}

    @cached_property
    def saturated_fraction(self) -> float:
        return saturated_fraction(self.train)


def saturated_fraction(split: Split) -> float:
    """Fraction of the pixels of `split` at either end of the stored range; 0 for points."""
    if split.levels is None:
        return 0.0
    counts = split.counts()
    return float((counts[0] + counts[split.levels]) / counts.sum())

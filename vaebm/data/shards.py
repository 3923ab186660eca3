"""Prepared images: shards on disk that batches are read from, and the index without which they count for nothing.

    FOLDER/index.json         shape, classes, splits with their shards, checksums, counts of pixel values; written last
    FOLDER/progress.jsonl     what is done, while it is not complete
    FOLDER/train-00000.npy    (n, C, H, W) uint8, C = 1 where all of the shard is grey: it is repeated when read
    FOLDER/train-labels.npy   (N,) int64, where there are labels; train-factors.npy (N, K) likewise

A batch is read by position, an image at a time, so the process holds the batch and nothing else; what the system keeps
of the files in its cache is shared by all processes, and given up first when memory is short. A shard is a plain array
file and could be mapped into memory instead (`numpy.load(..., mmap_mode="r")`): then random rows took three times as
long, and the whole set came to count as the process's memory, since each touch maps the neighbouring pages too.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from vaebm.data.download import naming
from vaebm.errors import InputError

INDEX, LEDGER = "index.json", "progress.jsonl"
FORMAT = 1
MAX_OPEN = 128  # files at once
AGAIN = "prepare it again with `vaebm data prepare`"


@dataclass(frozen=True)
class Shard:
    """One file of an index: its images, their channels, and the file's checksum."""

    file: str
    images: int
    channels: int
    sha256: str


@dataclass(frozen=True)
class Part:
    """A split in an index: its shards in order, how often each pixel value occurs, checksums of its other arrays."""

    shards: tuple[Shard, ...]
    counts: tuple[int, ...]
    arrays: dict[str, str] = field(default_factory=dict)

    @property
    def images(self) -> int:
        """In all shards together."""
        return sum(shard.images for shard in self.shards)


@dataclass(frozen=True)
class Index:
    """What `index.json` says; `made_from` identifies what was prepared, and how."""

    name: str
    shape: tuple[int, int, int]
    parts: dict[str, Part]
    class_names: tuple[str, ...] | None
    factor_names: tuple[str, ...] | None
    found: str
    made_from: str


class Shards:
    """The images of one split, read as they are asked for (`data/splits.py: LazyImages`).

    Args:
        folder: that holds the shards.
        part: the split.
        shape: (C, H, W) of the set.
        shift: lowest bits of a pixel that are dropped.

    Raises:
        InputError: a shard is missing or truncated.
    """

    dtype = torch.uint8
    ndim = 4

    def __init__(self, folder: Path, part: Part, shape: Sequence[int], shift: int = 0) -> None:
        self.folder, self.part, self.shift = folder, part, shift
        self.shape = torch.Size((part.images, *shape))
        self._heads = [_head(folder / shard.file, (shard.images, shard.channels, *shape[1:])) for shard in part.shards]
        self._starts = np.cumsum([0, *(shard.images for shard in part.shards)])
        self._open: dict[int, FileIO] = {}

    def __getitem__(self, rows: Tensor) -> Tensor:
        """The images at rows (B,) int64: (B, C, H, W) uint8."""
        wanted = rows.numpy()
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < self.shape[0]):
            raise IndexError(f"rows {wanted.min()} to {wanted.max()} of {self.shape[0]} images")
        images = np.empty((len(wanted), *self.shape[1:]), np.uint8)
        shard = np.searchsorted(self._starts, wanted, side="right") - 1
        within = wanted - self._starts[shard]
        for image, number, row in zip(images, shard.tolist(), within.tolist(), strict=True):
            self._read_into(image, number, row)
        return torch.from_numpy(images >> self.shift if self.shift else images)

    def counts(self) -> Tensor:
        """(256,) int64: how often each value occurs, as the index knows it."""
        counts = torch.tensor(self.part.counts)
        coarse = torch.zeros_like(counts)
        return coarse.index_add(0, torch.arange(256) >> self.shift, counts)

    def coarser(self, shift: int) -> Shards:
        """The same images without their `shift` lowest bits."""
        return Shards(self.folder, self.part, self.shape[1:], shift)

    def _read_into(self, image: NDArray[np.uint8], number: int, row: int) -> None:
        shard = self.part.shards[number]
        stored = image if shard.channels == image.shape[0] else np.empty((shard.channels, *image.shape[1:]), np.uint8)
        if os.preadv(self._file(number), [stored.data], self._heads[number] + row * stored.nbytes) != stored.nbytes:
            raise InputError(f"{self.folder / shard.file} became shorter while it was read: {AGAIN}")
        if stored is not image:
            image[:] = stored

    def _file(self, number: int) -> int:
        """The descriptor of a shard, kept open for the next batch."""
        file = self._open.get(number)
        if file is None:
            if len(self._open) == MAX_OPEN:
                self._open.pop(next(iter(self._open))).close()
            file = self._open[number] = (self.folder / self.part.shards[number].file).open("rb", buffering=0)
        return file.fileno()

    def __del__(self) -> None:
        for file in getattr(self, "_open", {}).values():
            file.close()


def write_shard(path: Path, images: NDArray[np.uint8]) -> Shard:
    """Writes images (n, C, H, W) as a shard, synced and then named; grey ones with one channel."""
    if images.shape[1] > 1 and bool((images == images[:, :1]).all()):
        images = images[:, :1]
    return Shard(path.name, images.shape[0], images.shape[1], write_array(path, np.ascontiguousarray(images)))


def write_array(path: Path, values: NDArray[Any]) -> str:
    """Writes an array as .npy, whole or not at all; the SHA-256 of the file."""
    part = path.with_name(f"{path.name}.part")
    with naming(part), part.open("wb") as file:
        npy.write_array(file, values, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    digest = sha256(part)
    part.replace(path)
    return digest


def write_index(folder: Path, index: Index) -> None:
    """Makes the shards of a folder count: the last step of preparing them."""
    parts = {
        name: {**vars(part), "shards": [vars(shard) for shard in part.shards]} for name, part in index.parts.items()
    }
    text = json.dumps({"format": FORMAT, **vars(index), "parts": parts})
    part = folder / f"{INDEX}.part"
    with naming(part), part.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / INDEX)


def is_prepared(folder: Path) -> bool:
    """Whether a folder holds a complete prepared set."""
    return (folder / INDEX).is_file()


def is_unfinished(folder: Path) -> bool:
    """Whether the preparation of a folder was begun and not ended."""
    return (folder / LEDGER).is_file() and not is_prepared(folder)


def read_index(folder: Path) -> Index:
    """The index of a prepared folder.

    Raises:
        InputError: it is missing, damaged, or of another version.
    """
    path = folder / INDEX
    try:
        tree = json.loads(path.read_text())
        if tree.pop("format") != FORMAT:
            raise InputError(f"{path} was written by another version of vaebm: {AGAIN}")
        parts = {
            name: Part(tuple(Shard(**shard) for shard in part["shards"]), tuple(part["counts"]), part["arrays"])
            for name, part in tree.pop("parts").items()
        }
        named = {key: None if tree[key] is None else tuple(tree[key]) for key in ("class_names", "factor_names")}
        return Index(**{**tree, **named, "shape": tuple(tree["shape"]), "parts": parts})
    except FileNotFoundError:
        raise InputError(f"{folder} is not prepared, it has no {INDEX}: {AGAIN}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is damaged: delete it, then {AGAIN}") from None


def read_array(folder: Path, part: str, what: str, index: Index) -> Tensor | None:
    """The labels or factors of a split, checked; None where it has none.

    Raises:
        InputError: the file is missing or damaged.
    """
    digest = index.parts[part].arrays.get(what)
    if digest is None:
        return None
    path = folder / f"{part}-{what}.npy"
    if not path.is_file() or sha256(path) != digest:
        raise InputError(f"{path} is {'damaged' if path.is_file() else 'missing'}: {AGAIN}")
    return torch.from_numpy(np.load(path, allow_pickle=False))


def broken_shards(folder: Path, index: Index) -> list[str]:
    """Files whose checksum is not that of the index: what reading alone does not find."""
    shards = [shard for part in index.parts.values() for shard in part.shards]
    return [s.file for s in shards if not (folder / s.file).is_file() or sha256(folder / s.file) != s.sha256]


def sha256(path: Path) -> str:
    """Of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _head(path: Path, shape: tuple[int, ...]) -> int:
    """Where the pixels begin in a shard that is as the index says."""
    try:
        with path.open("rb") as file:
            if npy.read_magic(file) != (1, 0) or npy.read_array_header_1_0(file) != (shape, False, np.dtype(np.uint8)):
                raise ValueError("another array")
            start = file.tell()
            if file.seek(0, os.SEEK_END) != start + math.prod(shape):
                raise ValueError("another size")
        return start
    except FileNotFoundError:
        raise InputError(f"{path} is missing: {AGAIN}") from None
    except ValueError:
        raise InputError(f"{path} is truncated or damaged: delete it, then {AGAIN}") from None

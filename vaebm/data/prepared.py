"""Prepared images: one array a split on disk, from which batches are read by position.

    FOLDER/train.bin            (N, C, H, W) uint8, nothing but the bytes; C = 3 also where they turned out to be grey
    FOLDER/train-labels.npy     (N,) int64, where there are labels; train-factors.npy (N, K) likewise
    FOLDER/index.json           shape, classes, splits with checksums and counts of pixel values; written last
    FOLDER/progress.jsonl       only while `data/prepare.py` is not done

The process holds a batch and nothing else. Mapping the arrays into memory took three times as long for random rows,
and the whole set came to count as the process's memory.
"""

import math
import os
import weakref
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor

from vaebm.data.files.npz import read_npy
from vaebm.data.settings import ImageSettings
from vaebm.data.splits import DataSet, Split
from vaebm.errors import InputError
from vaebm.files import sha256

INDEX, PROGRESS = "index.json", "progress.jsonl"
AGAIN = "prepare it again with `vaebm data prepare`"


class Part(BaseModel, frozen=True):
    """A split in an index: its size, how often each pixel value occurs (256 counts), and a checksum by file."""

    images: int
    counts: tuple[int, ...]
    sha256: dict[str, str]


class Index(BaseModel, frozen=True):
    """What `index.json` says."""

    format: Literal[2] = 2
    name: str  # of the set
    shape: tuple[int, int, int]  # (C, H, W) of its images
    stored_channels: int  # of each image on disk; where the set is grey, the first of them is read
    parts: dict[str, Part]  # its splits
    class_names: tuple[str, ...] | None  # what the labels stand for
    factor_names: tuple[str, ...] | None  # what the factors stand for
    description: str = ""  # one sentence for people
    made_from: str  # the fingerprint of what was prepared


class PreparedImages:
    """The images of one split, read as they are asked for (`data/splits.py: LazyImages`).

    Raises:
        InputError: the file is missing or truncated.
    """

    dtype = torch.uint8
    ndim = 4

    def __init__(self, folder: Path, part: str, index: Index, dropped_bits: int = 0) -> None:
        self.path, self.part, self.dropped_bits = folder / f"{part}.bin", index.parts[part], dropped_bits
        self.shape = torch.Size((self.part.images, *index.shape))
        self._stride = index.stored_channels * math.prod(index.shape[1:])
        try:
            self._file = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            raise InputError(f"{self.path} is missing: {AGAIN}") from None
        weakref.finalize(self, os.close, self._file)
        if os.fstat(self._file).st_size != self.part.images * self._stride:
            raise InputError(f"{self.path} is truncated or damaged: delete it, then {AGAIN}")

    def __getitem__(self, rows: Tensor) -> Tensor:
        """The images at rows (B,) int64: (B, C, H, W) uint8."""
        if len(rows) and not (int(rows.min()) >= 0 and int(rows.max()) < self.shape[0]):
            raise IndexError(f"rows {int(rows.min())} to {int(rows.max())} of {self.shape[0]} images")
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for image, row in zip(images, rows.tolist(), strict=True):
            if os.preadv(self._file, [image.data], row * self._stride) != image.nbytes:
                raise InputError(f"{self.path} became shorter while it was read: {AGAIN}")
        return torch.from_numpy(images >> self.dropped_bits if self.dropped_bits else images)

    def counts(self) -> Tensor:
        """(256,) int64: how often each value occurs, as the index knows it."""
        counts = torch.tensor(self.part.counts)
        return torch.zeros_like(counts).index_add(0, torch.arange(256) >> self.dropped_bits, counts)


def prepared_set(folder: Path, settings: ImageSettings) -> DataSet:
    """The set in a prepared folder, its images left on disk. InputError: it is damaged or not complete."""
    index = read_index(folder)
    splits = {name: _split(folder, name, index, settings) for name in index.parts}
    return DataSet(index.name, splits, index.description, index.class_names, index.factor_names)


def is_prepared(folder: Path) -> bool:
    """Whether a folder holds a complete prepared set."""
    return (folder / INDEX).is_file()


def read_index(folder: Path) -> Index:
    """The index of a prepared folder. InputError: it is missing, damaged, or of another version."""
    path = folder / INDEX
    try:
        return Index.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{folder} is not prepared, it has no {INDEX}: {AGAIN}") from None
    except ValidationError as error:
        if any(each["loc"] == ("format",) for each in error.errors()):
            raise InputError(f"{path} was written by another version of vaebm: {AGAIN}") from None
        raise InputError(f"{path} is damaged: delete it, then {AGAIN}") from None


def broken_files(folder: Path, index: Index) -> list[str]:
    """Files whose checksum is not that of the index, which reading alone does not find."""
    expected = {file: digest for part in index.parts.values() for file, digest in part.sha256.items()}
    return [file for file, digest in expected.items() if _damage(folder / file, digest)]


def _damage(path: Path, digest: str) -> str | None:
    if not path.is_file():
        return "missing"
    return None if sha256(path) == digest else "damaged"


def _split(folder: Path, name: str, index: Index, settings: ImageSettings) -> Split:
    part = index.parts[name]
    images = PreparedImages(folder, name, index, settings.dropped_bits)
    known: dict[str, Tensor] = {}
    for what in ("labels", "factors"):
        path = folder / f"{name}-{what}.npy"
        if digest := part.sha256.get(path.name):
            if damage := _damage(path, digest):
                raise InputError(f"{path} is {damage}: {AGAIN}")
            known[what] = torch.from_numpy(read_npy(path))
    return Split(images, levels=settings.levels, dequantise=settings.dequantise, flip=settings.flip, **known)

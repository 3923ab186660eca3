"""The forms in which CIFAR's batches are met, and how each is read: rows of 3,072 pixel bytes, colour planes first.

binary    an image: a label byte (CIFAR-100: coarse, then fine), then its pixels
python    a pickled dictionary, taken apart by `data/python_batch.py`: nothing is unpickled
repack    a zip of a hundred lossless WebP mosaics of 10 x 10 images, and index.json with their labels
"""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from vaebm.data.download import Published, check
from vaebm.data.python_batch import read_python_batch
from vaebm.errors import InputError

SIDE, PIXELS = 32, 3072
MOSAICS, MOSAIC_SIDE = 100, 10
Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]  # pixels (N, 3072) and labels (N,)


@dataclass(frozen=True)
class Form:
    """One way to hold the batches.

    Args:
        folder: that holds them, in the archive and unpacked.
        suffix: of a batch's file name.
        parse: from a file's bytes; a ValueError where they are no batch.
        archive: that the folder is published in, if it is.
        digests: of the unpacked files by name, where they are known.
    """

    folder: str
    suffix: str
    parse: Callable[[bytes], Batch]
    archive: Published | None
    digests: Mapping[str, str]


def find_form(forms: Sequence[Form], folders: Sequence[Path], names: Sequence[str]) -> tuple[Form, Path] | None:
    """The first form of which anything lies in one of the folders, and where: a folder of batches, or an archive."""
    for form in forms:
        for folder in folders:
            for place in (folder / form.folder, folder):
                if any((place / f"{name}{form.suffix}").is_file() for name in names):
                    return form, place
            if form.archive is not None and (folder / form.archive.name).is_file():
                check(folder / form.archive.name, form.archive)
                return form, folder / form.archive.name
    return None


def read_batches(form: Form, place: Path, names: Sequence[str]) -> dict[str, Batch]:
    """Batches by name, from a folder or an archive of a form.

    Raises:
        InputError: one is missing, damaged or no such batch.
    """
    contents = _from_folder(form, place, names) if place.is_dir() else _from_archive(form, place, names)
    batches = {}
    for name, content in contents.items():
        try:
            batches[name] = form.parse(content)
        except (ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile, zlib.error) as error:
            reason = "truncated or damaged" if isinstance(error, zipfile.BadZipFile | zlib.error) else "no CIFAR batch"
            raise InputError(
                f"{place}: {name}{form.suffix} is {reason}: replace it by the published file, or delete {place} to have"
                " the set downloaded again"
            ) from None
    return batches


def _from_folder(form: Form, folder: Path, names: Sequence[str]) -> dict[str, bytes]:
    contents = {}
    for name in names:
        path = folder / f"{name}{form.suffix}"
        if not path.is_file():
            raise InputError(f"{path} is missing, though others of its set are there: add it, or delete {folder}")
        if name in form.digests:
            check(path, Published(path.name, form.digests[name], (), form.archive.page if form.archive else ""))
        contents[name] = path.read_bytes()
    return contents


def _from_archive(form: Form, path: Path, names: Sequence[str]) -> dict[str, bytes]:
    """In one pass, since what is compressed cannot be searched."""
    wanted = {f"{form.folder}/{name}{form.suffix}": name for name in names}
    contents = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.name in wanted else None
                if file is not None:
                    contents[wanted[member.name]] = file.read()
    except (tarfile.TarError, EOFError, zlib.error):
        raise InputError(f"{path} is truncated or damaged: delete it to have it downloaded again") from None
    missing = sorted(set(wanted.values()) - set(contents))
    if missing:
        raise InputError(f"{path} holds no {missing[0]}{form.suffix}: delete it to have it downloaded again")
    return {name: contents[name] for name in names}


def binary_batch(label_bytes: int) -> Callable[[bytes], Batch]:
    """The parser of the binary version; the last of an image's label bytes is its class."""

    def parse(content: bytes) -> Batch:
        rows = np.frombuffer(content, np.uint8).reshape(-1, label_bytes + PIXELS)
        return rows[:, label_bytes:], rows[:, label_bytes - 1].astype(np.int64)

    return parse


def python_batch(labels: str) -> Callable[[bytes], Batch]:
    """The parser of the python version; `labels` is its key of the classes."""

    def parse(content: bytes) -> Batch:
        batch = read_python_batch(content)
        pixels, classes = batch["data"], np.array(batch[labels], np.int64)
        if pixels.shape != (len(classes), PIXELS):
            raise ValueError("labels and pixels do not match")
        return pixels, classes

    return parse


def repacked_batch(content: bytes) -> Batch:
    """The parser of a repacked batch."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        labels = np.array(json.loads(archive.read("index.json"))["labels"], np.int64)
        try:
            mosaics = [Image.open(io.BytesIO(archive.read(f"{k:02d}.webp"))).convert("RGB") for k in range(MOSAICS)]
        except UnidentifiedImageError:
            raise ValueError("a mosaic is damaged") from None
    tiles = np.stack([np.asarray(mosaic) for mosaic in mosaics])
    tiles = tiles.reshape(MOSAICS, MOSAIC_SIDE, SIDE, MOSAIC_SIDE, SIDE, 3).transpose(0, 1, 3, 5, 2, 4)
    pixels = np.ascontiguousarray(tiles).reshape(-1, PIXELS)
    if len(pixels) != len(labels):
        raise ValueError("labels and pixels do not match")
    return pixels, labels

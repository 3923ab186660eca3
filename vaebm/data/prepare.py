"""Preparing: images are decoded once, by several processes, into one array a split, at constant memory.

    FOLDER/progress.jsonl     a fingerprint, then a line for each chunk of images that is on disk
    FOLDER/train.npy.draft    the array while it grows: each chunk at its place
    FOLDER/train.npy          the array, without gaps where files could not be read, and with one channel if all is grey
    FOLDER/index.json         written last; without it the folder counts for nothing

A stopped preparation goes on with the chunks that `progress.jsonl` names, if the fingerprint is the same, else begins
anew. The process that prepares holds a lock on that file; a line that was cut short is not believed. A folder with an
index is complete and never written to again.
"""

from __future__ import annotations

import fcntl
import json
import math
import multiprocessing.connection
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray

from vaebm.data.arrays import ImageArray, open_arrays
from vaebm.data.describe import describe_set, describe_skipped
from vaebm.data.files.npz import read_header
from vaebm.data.manifest import Manifest
from vaebm.data.prepared import (
    PROGRESS,
    Index,
    Part,
    PreparedImages,
    is_prepared,
    read_index,
    write_array,
    write_index,
)
from vaebm.data.sets import KINDS
from vaebm.data.sets.folder import folder_manifest, name_of
from vaebm.data.sets.large import LargeSettings
from vaebm.data.splits import Split
from vaebm.errors import InputError
from vaebm.files import naming, sha256, write_atomically
from vaebm.progress import Progress, silent

CHUNK_BYTES = 2**24
MIN_FOR_PROCESSES = 1000  # images; fewer are done before other processes have started


def prepare_set(
    subject: str | Path,
    source: Path | None = None,
    out: Path | None = None,
    *,
    size: int | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> tuple[Path, Index]:
    """Prepares a published set, by name, or the user's own images, by path.

    Args:
        subject: the set's name, or the path of a folder, zip, tar or .npz.
        source: where a set's files lie; None where recipes look for them, to which they are downloaded if need be.
        out: the folder to make; None for where recipes look for the set, or for PATH-prepared.
        size: side that the user's images are cropped and resized to.
        workers: processes; None for as many as there are processors.
        progress: to report to.

    Returns:
        The folder and its index.

    Raises:
        InputError: a file is missing or damaged, the set needs no preparing, or the folder holds something else.
        OSError: the disk is full, say; the same call then goes on.
    """
    workers, progress = workers or len(os.sched_getaffinity(0)), progress or silent()
    name, path = str(subject), Path(subject).expanduser()
    images: Manifest | ImageArray
    if name in KINDS and not path.exists():
        if size is not None:
            raise InputError(f"{name} has a size of its own: leave --size away")
        if name not in large():
            raise InputError(f"{name} fits into memory and needs no preparing: use it with data.kind={name}")
        settings = large()[name].model_validate({})
        folder, images = out or settings.prepared, settings.to_prepare(source, progress)
    elif source is not None:
        raise InputError(
            f"{name} is a path, and so needs no --from: leave it away, or name one of {', '.join(large())}"
        )
    else:
        folder = out or path.resolve().with_name(f"{name_of(path)}-prepared")
        images = open_arrays(path) if path.suffix == ".npz" else folder_manifest(path, size, progress)
    return folder, prepare(images, folder, workers, progress)


def large() -> dict[str, type[LargeSettings]]:
    """The sets that can be prepared, by name."""
    return {name: one for name, one in sorted(KINDS.items()) if issubclass(one, LargeSettings)}


def prepare(images: Manifest | ImageArray, folder: Path, workers: int = 1, progress: Progress | None = None) -> Index:
    """Makes a prepared folder, or what an earlier call left to do; returns at once where all is done.

    Args:
        images: what to prepare.
        folder: where; made if need be.
        workers: processes; with 1 the work is done in this one.
        progress: to report to.

    Raises:
        InputError: the folder holds something else, or too few files can be read.
        OSError: the disk is full, say; what is written so far serves the next call.
    """
    progress, fingerprint = progress or silent(), images.fingerprint()
    if is_prepared(folder):
        index = read_index(folder)
        if index.made_from != fingerprint:
            raise InputError(
                f"{folder} holds {index.name}, prepared from other files: choose another --out, or delete it"
            )
        progress.say(f"{folder} is prepared already: nothing to do.")
        return index
    with open_log(folder, fingerprint) as log:
        if isinstance(images, Manifest):
            index = _from_files(images, folder, log, workers, progress)
        else:
            index = _from_array(images, folder, progress)
        write_index(folder, index)
    (folder / PROGRESS).unlink()
    return index


# Of image files


@dataclass(frozen=True)
class Chunk:
    """Files that become neighbouring images of a split's draft, from `start` on."""

    part: str
    start: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Written:
    """A chunk that is on disk: its readable images, if all are grey, counts of values, and why files were skipped."""

    part: str
    start: int
    images: int
    is_grey: bool
    counts: tuple[int, ...]
    transparent: int
    skipped: dict[str, str]


class Log:
    """An open, locked `progress.jsonl`; `written` is what it says, by split and start."""

    def __init__(self, folder: Path, file: IO[str], fingerprint: str) -> None:
        self.path, self._file = folder / PROGRESS, file
        self.written: dict[tuple[str, int], Written] = {}
        file.seek(0)
        head, *lines = file.read().splitlines() or [""]
        if head == json.dumps(fingerprint):
            for chunk in filter(None, map(_parsed, lines)):
                self.written[chunk.part, chunk.start] = chunk
            return
        for path in folder.glob("*.npy*"):
            path.unlink()
        file.truncate(0)
        self._write(json.dumps(fingerprint) + "\n")

    def add(self, chunk: Written) -> None:
        """Notes a chunk that is written."""
        self._write("\n" + json.dumps(asdict(chunk)) + "\n")  # an earlier line may have been cut short
        self.written[chunk.part, chunk.start] = chunk

    def _write(self, text: str) -> None:
        with naming(self.path):
            self._file.write(text)
            self._file.flush()


@contextmanager
def open_log(folder: Path, fingerprint: str) -> Iterator[Log]:
    """The log of a folder, which is made if need be; what was begun under another fingerprint is removed.

    Raises:
        InputError: the folder holds something else, or another process prepares it.
    """
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / PROGRESS).is_file())):
        raise InputError(f"{folder} exists and is no prepared set: choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / PROGRESS).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder} is being prepared by another process: wait until that has ended") from None
        yield Log(folder, file, fingerprint)


def write_chunk(manifest: Manifest, draft: Path, chunk: Chunk) -> Written:
    """Decodes the files of a chunk and writes those that are readable to their place."""
    decoded = manifest.decode(chunk.names)
    images = decoded.images
    with naming(draft), draft.open("r+b") as file:
        read_header(file)
        file.seek(chunk.start * 3 * math.prod(manifest.size), os.SEEK_CUR)
        file.write(images.data)
        file.flush()
        os.fsync(file.fileno())
    counts = tuple(np.bincount(images.reshape(-1), minlength=256).tolist())
    grey, skipped = decoded.is_grey, dict(decoded.skipped)
    return Written(chunk.part, chunk.start, len(images), grey, counts, decoded.transparent, skipped)


def _from_files(manifest: Manifest, folder: Path, log: Log, workers: int, progress: Progress) -> Index:
    at_once = max(1, CHUNK_BYTES // (3 * math.prod(manifest.size)))
    chunks = [
        Chunk(part, start, tuple(names[start : start + at_once]))
        for part, names in manifest.parts.items()
        for start in range(0, len(names), at_once)
    ]
    for part, names in manifest.parts.items():
        array, draft = folder / f"{part}.npy", folder / f"{part}.npy.draft"
        is_done = all((part, chunk.start) in log.written for chunk in chunks if chunk.part == part)
        if not draft.exists() and not (is_done and array.exists()):
            log.written = {place: one for place, one in log.written.items() if place[0] != part}
            with draft.open("wb") as file:
                _write_header(file, (len(names), 3, *manifest.size))
    todo = [chunk for chunk in chunks if (chunk.part, chunk.start) not in log.written]
    total = sum(len(chunk.names) for chunk in chunks)
    with progress.task("prepare", total, "images", total - sum(len(chunk.names) for chunk in todo)) as task:
        for written, files in _written(manifest, folder, todo, workers):
            log.add(written)
            task.advance(files)
    return _index_of_files(manifest, folder, [log.written[chunk.part, chunk.start] for chunk in chunks])


def _written(manifest: Manifest, folder: Path, chunks: Sequence[Chunk], workers: int) -> Iterator[tuple[Written, int]]:
    """Writes chunks; gives each in the order in which they end, and how many files it had."""
    if workers == 1 or len(chunks) < 2 or sum(len(chunk.names) for chunk in chunks) < MIN_FOR_PROCESSES:
        for chunk in chunks:
            yield write_chunk(manifest, folder / f"{chunk.part}.npy.draft", chunk), len(chunk.names)
        return
    bare = replace(manifest, parts={}, labels=None, headers=None, skipped={})  # what is sent to a process stays small
    context = multiprocessing.get_context("forkserver")  # a fork of this process could inherit a lock that torch holds
    context.set_forkserver_preload([__name__])
    pool = ProcessPoolExecutor(min(workers, len(chunks)), context, _end_with_parent)
    try:
        files = {}
        for chunk in chunks:
            some = replace(bare, source=manifest.source.part(chunk.names))
            files[pool.submit(write_chunk, some, folder / f"{chunk.part}.npy.draft", chunk)] = len(chunk.names)
        for future in as_completed(files):
            yield future.result(), files[future]
    except BrokenProcessPool:
        raise InputError(
            f"a process that prepared {folder} was killed, most likely for want of memory: run the same command again"
            " with fewer --workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Lets this process end when the one that it works for was killed, which its queue would not tell."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            multiprocessing.connection.wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _index_of_files(manifest: Manifest, folder: Path, written: Sequence[Written]) -> Index:
    skipped = {**manifest.skipped, **{name: why for one in written for name, why in one.skipped.items()}}
    channels = 1 if all(one.is_grey for one in written) else 3
    parts = {}
    for part in manifest.parts:
        some = [one for one in written if one.part == part]
        if not sum(one.images for one in some):
            raise InputError(
                f"no file for the split {part!r} of {manifest.subject} could be read ({describe_skipped(skipped)})"
            )
        _finish(folder / f"{part}.npy", some, channels)
        counts: NDArray[np.int64] = np.array([one.counts for one in some], np.int64).sum(0) * channels // 3
        labels = manifest.labels_of(part, skipped)
        kept = {} if labels is None else {"labels": labels}
        parts[part] = _part(folder, part, sum(one.images for one in some), counts, kept)
    shape = (channels, *manifest.size)
    splits = _splits(folder, parts, shape)
    description = manifest.describe(splits, sum(one.transparent for one in written), skipped)
    return Index(manifest.name, shape, parts, manifest.class_names, None, description, manifest.fingerprint())


def _finish(path: Path, written: Sequence[Written], channels: int) -> None:
    """Turns a draft, of which all chunks are written, into the array."""
    draft = path.with_name(f"{path.name}.draft")
    if not draft.exists():  # done before an interruption
        return
    with draft.open("rb") as file:
        (slots, colours, *size), _, _ = read_header(file)
        begin, image_bytes = file.tell(), colours * math.prod(size)
        count = sum(one.images for one in written)
        if (count, channels) != (slots, colours):

            def copy(out: BinaryIO) -> None:
                _write_header(out, (count, channels, *size))
                for one in written:
                    file.seek(begin + one.start * image_bytes)
                    images = np.frombuffer(file.read(one.images * image_bytes), np.uint8)
                    out.write(images.reshape(one.images, colours, *size)[:, :channels].tobytes())

            write_atomically(path, copy)
            draft.unlink()
            return
    draft.replace(path)


# Of one array


def _from_array(images: ImageArray, folder: Path, progress: Progress) -> Index:
    """From the beginning to the end: what is compressed cannot be entered in the middle."""
    at_once, start = max(1, CHUNK_BYTES // math.prod(images.shape)), 0
    rows = {part: mask.numpy() for part, mask in images.rows().items()}
    counts = {part: np.zeros(256, np.int64) for part in rows}
    with ExitStack() as stack:
        files: dict[str, BinaryIO] = {}
        for part, mask in rows.items():
            files[part] = stack.enter_context((folder / f"{part}.npy.draft").open("wb"))
            _write_header(files[part], (int(mask.sum()), *images.shape))
        task = stack.enter_context(progress.task("prepare", images.images.shape[0], "images"))
        for chunk in images.chunks(at_once):
            for part, mask in rows.items():
                chosen = chunk[mask[start : start + len(chunk)]]
                with naming(folder / f"{part}.npy"):
                    files[part].write(chosen.tobytes())
                counts[part] += np.bincount(chosen.reshape(-1), minlength=256)
            start += len(chunk)
            task.advance(len(chunk))
        for part, file in files.items():
            file.flush()
            os.fsync(file.fileno())
            (folder / f"{part}.npy.draft").replace(folder / f"{part}.npy")
    parts = {}
    for part, mask in rows.items():
        kept = {what: values[torch.from_numpy(mask)] for what, values in images.kept().items()}
        parts[part] = _part(folder, part, int(mask.sum()), counts[part], kept)
    description = describe_set(images.subject, _splits(folder, parts, images.shape), images.class_names)
    names = images.class_names, images.factor_names
    return Index(images.name, images.shape, parts, *names, description, images.fingerprint())


def _part(folder: Path, part: str, images: int, counts: NDArray[np.int64], kept: Mapping[str, torch.Tensor]) -> Part:
    """A split whose images are written, once what is known of them is written too."""
    for what, values in kept.items():
        write_array(folder / f"{part}-{what}.npy", values.numpy())
    files = [f"{part}.npy", *(f"{part}-{what}.npy" for what in kept)]
    return Part(images, tuple(counts.tolist()), {file: sha256(folder / file) for file in files})


def _splits(folder: Path, parts: Mapping[str, Part], shape: Sequence[int]) -> dict[str, Split]:
    return {
        name: Split(PreparedImages(folder / f"{name}.npy", (part.images, *shape), part.counts), levels=255)
        for name, part in parts.items()
    }


def _write_header(file: BinaryIO, shape: Sequence[int]) -> None:
    npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": tuple(shape)})


def _parsed(line: str) -> Written | None:
    try:
        entry: dict[str, Any] = json.loads(line)
        return Written(**{**entry, "counts": tuple(entry["counts"])})
    except (ValueError, KeyError, TypeError):
        return None

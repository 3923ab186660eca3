"""Preparing: a collection is read once, by several processes, into one file of pixels a split, at constant memory.

    FOLDER/train.bin         grows block by block
    FOLDER/progress.jsonl    a fingerprint, then a line for each block that is on disk
    FOLDER/index.json        written last; without it the folder counts for nothing

A stopped preparation goes on after the blocks that `progress.jsonl` names, if the fingerprint is the same, else begins
anew. The process that prepares holds a lock on that file; a line that was cut short is not believed. A folder with an
index is complete and never written to again.
"""

import fcntl
import json
import math
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from vaebm.data.arrays import open_arrays
from vaebm.data.collection import BLOCK_BYTES, Block, Collection, all_skipped
from vaebm.data.describe import describe_skipped
from vaebm.data.manifest import processors
from vaebm.data.prepared import INDEX, PROGRESS, Index, Part, PreparedImages, is_prepared, read_index
from vaebm.data.sets import KINDS
from vaebm.data.sets.folder import folder_manifest, name_of
from vaebm.data.sets.published import LargeSettings
from vaebm.data.splits import Split
from vaebm.errors import InputError
from vaebm.files import naming, sha256, user_path, write_atomically
from vaebm.progress import Progress, silent


def prepare_set(
    subject: str | Path,
    source: Path | None = None,
    out: Path | None = None,
    *,
    size: int | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> tuple[Path, Index]:
    """Prepares a published set, by name, or the user's own images, by path; returns the folder and its index.

    Args:
        subject: the set's name, or the path of a folder, zip, tar or .npz.
        source: where a set's files lie; None where recipes look for them, to which they are downloaded if need be.
        out: the folder to make; None for where recipes look for the set, or for PATH-prepared.
        size: side that the user's images are cropped and resized to.
        workers: processes; None for as many as there are processors.
        progress: to report to.

    Raises:
        InputError: a file is missing or damaged, the set needs no preparing, or the folder holds something else.
        OSError: the disk is full, say; the same call then goes on.
    """
    workers, progress = workers or processors(), progress or silent()
    source, out = (None if path is None else user_path(path) for path in (source, out))
    large = {name: one for name, one in sorted(KINDS.items()) if issubclass(one, LargeSettings)}
    name, path = str(subject), user_path(subject)
    images: Collection
    if name in KINDS and not path.exists():
        if size is not None:
            raise InputError(f"{name} has a size of its own: leave --size away")
        if name not in large:
            raise InputError(f"{name} fits into memory and needs no preparing: use it with data.kind={name}")
        settings = large[name].model_validate({})
        folder, images = out or settings.prepared, settings.collection(source, progress)
    elif source is not None:
        raise InputError(f"{name} is a path, and so needs no --from: leave it away, or name one of {', '.join(large)}")
    else:
        folder = out or path.resolve().with_name(f"{name_of(path)}-prepared")
        images = open_arrays(path, size) if path.suffix.lower() == ".npz" else folder_manifest(path, size, progress)
    return folder, prepare(images, folder, workers, progress)


def prepare(images: Collection, folder: Path, workers: int = 1, progress: Progress | None = None) -> Index:
    """Makes a prepared folder, or what an earlier call left to do; with one worker in this process.

    Raises:
        InputError: the folder holds something else, or a split has no file that can be read.
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
    with open_log(folder, f"{fingerprint} in blocks of {BLOCK_BYTES}", math.prod(images.shape)) as log:
        done = sum(block.files for block in log.written)
        with (
            progress.task("prepare", images.count, "images", done) as task,
            closing(images.blocks(len(log.written), workers)) as blocks,  # its processes end when this block does
        ):
            for block in blocks:
                log.add(block)
                task.advance(block.files)
        index = _index(images, folder, log.written, fingerprint)
        write_atomically(folder / INDEX, index.model_dump_json().encode())  # the folder counts from here on
    (folder / PROGRESS).unlink()
    return index


class Written(BaseModel, frozen=True):
    """A block that is on disk: how many images it has, how often each of 256 values occurs, and as `Block` says."""

    part: str
    images: int
    counts: list[int]
    is_grey: bool
    files: int
    transparent: int
    skipped: dict[str, str]


class Log:
    """An open, locked `progress.jsonl`; `written` is what it says, in order."""

    def __init__(self, folder: Path, file: IO[str], fingerprint: str, image_bytes: int) -> None:
        self.folder, self._file = folder, file
        file.seek(0)
        head, *lines = file.read().splitlines() or [""]
        self.written: list[Written] = []
        for line in lines if head == json.dumps(fingerprint) else ():
            try:
                self.written.append(Written.model_validate_json(line))
            except ValidationError:  # cut short: the blocks before it count
                break
        expected: dict[str, int] = {}
        for block in self.written:
            expected[block.part] = expected.get(block.part, 0) + block.images * image_bytes
        sizes = {path.stem: path.stat().st_size for path in folder.glob("*.bin")}
        if any(sizes.get(part, 0) < size for part, size in expected.items()):
            self.written, expected = [], {}
        for part in sizes:
            os.truncate(folder / f"{part}.bin", expected.get(part, 0))
        file.truncate(0)
        for entry in (json.dumps(fingerprint), *(block.model_dump_json() for block in self.written)):
            self._note(entry)

    def add(self, block: Block) -> None:
        path = self.folder / f"{block.part}.bin"
        with naming(path), path.open("ab") as file:
            file.write(block.images.data)
            file.flush()
            os.fsync(file.fileno())
        said = {key: getattr(block, key) for key in ("part", "is_grey", "files", "transparent", "skipped")}
        counts = np.bincount(block.images.reshape(-1), minlength=256).tolist()
        written = Written(**said, images=len(block.images), counts=counts)
        self.written.append(written)
        self._note(written.model_dump_json())

    def _note(self, entry: str) -> None:
        with naming(self.folder / PROGRESS):
            self._file.write(f"{entry}\n")
            self._file.flush()


@contextmanager
def open_log(folder: Path, fingerprint: str, image_bytes: int) -> Iterator[Log]:
    """The log of a folder, which is made if need be; what was begun under another fingerprint is removed.

    Raises:
        InputError: the folder holds something else, or another process prepares it.
    """
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / PROGRESS).is_file())):
        raise InputError(f"{folder} exists and is no prepared set: choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / PROGRESS).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder} is being prepared by another process: wait until that has ended") from None
        yield Log(folder, file, fingerprint, image_bytes)


def _index(images: Collection, folder: Path, written: list[Written], fingerprint: str) -> Index:
    skipped = all_skipped(block.skipped for block in written)
    channels = 1 if all(block.is_grey for block in written) else images.shape[0]
    parts = {}
    for part in dict.fromkeys(["train", "test", *(block.part for block in written)]):
        some = [block for block in written if block.part == part]
        if not sum(block.images for block in some):
            raise InputError(f"no file for the split {part!r} could be read ({describe_skipped(skipped)})")
        counts: NDArray[np.int64] = np.array([block.counts for block in some]).sum(0) * channels // images.shape[0]
        known = images.known(part, skipped)
        for what, values in known.items():
            save = partial(np.save, arr=values.numpy(), allow_pickle=False)
            write_atomically(folder / f"{part}-{what}.npy", save)
        files = [f"{part}.bin", *(f"{part}-{what}.npy" for what in known)]
        digests = {file: sha256(folder / file) for file in files}
        parts[part] = Part(images=sum(block.images for block in some), counts=tuple(counts.tolist()), sha256=digests)
    index = Index(
        name=images.name,
        shape=(channels, *images.shape[1:]),
        stored_channels=images.shape[0],
        parts=parts,
        class_names=images.class_names,
        factor_names=images.factor_names,
        made_from=fingerprint,
    )
    splits = {part: Split(PreparedImages(folder, part, index), levels=255) for part in parts}
    description = images.describe(splits, sum(block.transparent for block in written), skipped)
    return index.model_copy(update={"description": description})

"""Preparing: a plan carried out by several processes, shard by shard, at constant memory.

    FOLDER/progress.jsonl    what is done so far (data/ledger.py)
    FOLDER/train-00000.npy   a shard: written under another name, synced, renamed (data/shards.py)
    FOLDER/index.json        written last; without it the folder counts for nothing

An interrupted preparation goes on with the shards that its `progress.jsonl` names, if the plan is the same, else begins
anew. A folder with an index is complete: it is never written to again.
"""

from __future__ import annotations

import multiprocessing.connection
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vaebm.data.arrays import ArraySet
from vaebm.data.found import found_in_files, found_in_folder, said_of_skipped
from vaebm.data.image_file import Filter, read_picture
from vaebm.data.image_source import ImageSource, UnreadableImage
from vaebm.data.ledger import Made, open_ledger
from vaebm.data.plan import Plan
from vaebm.data.shards import (
    Index,
    Part,
    Shard,
    Shards,
    is_prepared,
    read_index,
    write_array,
    write_index,
    write_shard,
)
from vaebm.data.splits import Split
from vaebm.errors import InputError
from vaebm.progress import Progress, silent

SHARD_BYTES = 2**24
MIN_FOR_PROCESSES = 1000  # images; fewer are done before other processes have started


@dataclass(frozen=True)
class Job:
    """The files of one shard."""

    file: str
    part: str
    names: tuple[str, ...]
    size: tuple[int, int]
    crop: int | None
    resample: Filter


def prepare(plan: Plan, folder: Path, workers: int = 1, progress: Progress | None = None) -> Index:
    """Makes the shards of a plan, or those that an earlier call left to do; returns at once where all is done.

    Args:
        plan: what to make.
        folder: where; made if need be.
        workers: processes; with 1 the work is done in this one.
        progress: to report to.

    Raises:
        InputError: the folder holds something else, or the files give too few images.
        OSError: the disk is full, say; what is written so far serves the next call.
    """
    progress, fingerprint = progress or silent(), plan.fingerprint()
    index = _complete(folder, fingerprint, progress)
    if index is not None:
        return index
    with open_ledger(folder, fingerprint) as ledger:
        jobs = list(_jobs(plan))
        todo = [job for job in jobs if job.file not in ledger.done]
        total = sum(len(job.names) for job in jobs)
        with progress.task("prepare", total, "images", total - sum(len(job.names) for job in todo)) as task:
            for made, images in _made(plan.source, folder, todo, workers):
                ledger.add(made)
                task.advance(images)
        index = _index(plan, fingerprint, folder, jobs, ledger.done)
        write_index(folder, index)
        ledger.close()
    return index


def prepare_arrays(arrays: ArraySet, folder: Path, progress: Progress | None = None) -> Index:
    """Makes the shards of images in an .npz, from its beginning to its end.

    Raises:
        InputError: the folder holds something else, or the file is damaged.
        OSError: the disk is full, say.
    """
    progress = progress or silent()
    fingerprint = f"{arrays.name} {arrays.images.path.resolve()} {arrays.images.path.stat().st_mtime_ns}"
    index = _complete(folder, fingerprint, progress)
    if index is not None:
        return index
    with open_ledger(folder, fingerprint) as ledger:
        index = _index_of_arrays(arrays, fingerprint, folder, progress)
        write_index(folder, index)
        ledger.close()
    return index


def _index_of_arrays(arrays: ArraySet, fingerprint: str, folder: Path, progress: Progress) -> Index:
    at_once = max(1, SHARD_BYTES // int(np.prod(arrays.shape)))
    test, start = arrays.test_rows().numpy(), 0
    shards: dict[str, list[Shard]] = {"train": [], "test": []}
    counts = {part: np.zeros(256, np.int64) for part in shards}
    with progress.task("prepare", len(test), "images") as task:
        for images in arrays.chunks(at_once):
            chosen = test[start : start + len(images)]
            for part, rows in (("train", ~chosen), ("test", chosen)):
                if rows.any():
                    path = folder / f"{part}-{len(shards[part]):05d}.npy"
                    shards[part].append(write_shard(path, images[rows]))
                    counts[part] += np.bincount(images[rows].reshape(-1), minlength=256)
            start += len(images)
            task.advance(len(images))
    parts = {}
    for part, rows in (("train", ~test), ("test", test)):
        kept = {"labels": arrays.labels, "factors": arrays.factors}
        digests = {
            what: write_array(folder / f"{part}-{what}.npy", values[torch.from_numpy(rows)].numpy())
            for what, values in kept.items()
            if values is not None
        }
        parts[part] = Part(tuple(shards[part]), tuple(counts[part].tolist()), digests)
    splits = {part: Split(Shards(folder, held, arrays.shape), levels=255) for part, held in parts.items()}
    found = found_in_files(arrays.what, splits, arrays.class_names)
    return Index(arrays.name, arrays.shape, parts, arrays.class_names, arrays.factor_names, found, fingerprint)


def make_shard(source: ImageSource, folder: Path, job: Job) -> Made:
    """Decodes the files of a job and writes what is readable."""
    images = np.empty((len(job.names), 3, *job.size), np.uint8)
    count, transparent, skipped = 0, 0, {}
    for name in job.names:
        try:
            picture = read_picture(partial(source.open, name), job.size, job.crop, job.resample)
        except UnreadableImage as reason:
            skipped[name] = str(reason)
            continue
        images[count] = picture.pixels.transpose(2, 0, 1)
        transparent += picture.transparent
        count += 1
    shard = write_shard(folder / job.file, images[:count]) if count else None
    counts = np.bincount(images[:count].reshape(-1), minlength=256)
    return Made(job.file, shard, tuple(counts.tolist()), skipped, transparent)


def _jobs(plan: Plan) -> Iterator[Job]:
    at_once = max(1, SHARD_BYTES // (3 * plan.size[0] * plan.size[1]))
    for part, names in plan.parts.items():
        for number, start in enumerate(range(0, len(names), at_once)):
            some = tuple(names[start : start + at_once])
            yield Job(f"{part}-{number:05d}.npy", part, some, plan.size, plan.crop, plan.resample)


def _made(source: ImageSource, folder: Path, jobs: Sequence[Job], workers: int) -> Iterator[tuple[Made, int]]:
    """What becomes of each job, in the order in which they end, and how many files it had."""
    if workers == 1 or len(jobs) < 2 or sum(len(job.names) for job in jobs) < MIN_FOR_PROCESSES:
        for job in jobs:
            yield make_shard(source, folder, job), len(job.names)
        return
    context = multiprocessing.get_context("forkserver")  # a fork of this process could inherit a lock that torch holds
    context.set_forkserver_preload([__name__])
    pool = ProcessPoolExecutor(min(workers, len(jobs)), context, _end_with_parent)
    try:
        files = {pool.submit(make_shard, source.part(job.names), folder, job): len(job.names) for job in jobs}
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
    """Lets this process end when the one that it works for was killed: its queue would never tell."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            multiprocessing.connection.wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _complete(folder: Path, fingerprint: str, progress: Progress) -> Index | None:
    """The index, where the folder is complete already.

    Raises:
        InputError: it is complete, but was made from something else.
    """
    if not is_prepared(folder):
        return None
    index = read_index(folder)
    if index.made_from != fingerprint:
        raise InputError(f"{folder} holds {index.name}, prepared from other files: choose another --out, or delete it")
    progress.say(f"{folder} is prepared already: nothing to do.")
    return index


def _index(plan: Plan, fingerprint: str, folder: Path, jobs: Sequence[Job], done: Mapping[str, Made]) -> Index:
    skipped = {**plan.skipped, **{name: why for made in done.values() for name, why in made.skipped.items()}}
    shards = [made.shard for made in done.values() if made.shard is not None]
    channels = max((shard.channels for shard in shards), default=0)
    parts, splits = {}, {}
    for part in plan.parts:
        made = [done[job.file] for job in jobs if job.part == part]
        counts: NDArray[np.int64] = np.array([one.counts for one in made], np.int64).sum(0) * channels // 3
        kept = [name for job in jobs if job.part == part for name in job.names if name not in skipped]
        if not kept:
            raise InputError(
                f"no file for the split {part!r} of {plan.what} could be read ({said_of_skipped(skipped)})"
            )
        digests = {}
        if plan.labels is not None:
            labels = np.array([plan.labels[name] for name in kept], np.int64)
            digests["labels"] = write_array(folder / f"{part}-labels.npy", labels)
        parts[part] = Part(tuple(one.shard for one in made if one.shard is not None), tuple(counts.tolist()), digests)
        splits[part] = Split(Shards(folder, parts[part], (channels, *plan.size)), levels=255)
    aside = said_of_skipped(skipped) if skipped else "nothing was skipped"
    if plan.headers is None:
        found = found_in_files(plan.what, splits, plan.class_names, aside)
    else:
        headers = [header for name, header in plan.headers.items() if name not in skipped]
        transparent = sum(made.transparent for made in done.values())
        found = found_in_folder(
            plan.source.path, headers, splits["train"], splits["test"], plan.class_names, transparent, skipped
        )
    return Index(plan.name, (channels, *plan.size), parts, plan.class_names, None, found, fingerprint)

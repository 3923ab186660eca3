"""Manifest: which image files become which images of which split, listed before any of them is decoded."""

import hashlib
import json
import math
import multiprocessing.connection
import os
import tempfile
import threading
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vaebm.data.collection import BLOCK_BYTES, Block, Collection
from vaebm.data.files.archives import ImageSource, UnreadableImage
from vaebm.data.files.image import WHITE, Filter, read_picture
from vaebm.errors import InputError

MIN_FOR_PROCESSES = 1000  # images; fewer are done before other processes have started
MAX_SOCKET_FOLDER = 60  # characters: a socket below it has some thirty more, of the 104 that macOS allows
GREY_KINDS = {"grey", "16-bit grey"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Manifest(Collection):
    """Image files by split."""

    source: ImageSource  # where the files lie
    size: tuple[int, int]  # height and width that the images get
    parts: Mapping[str, Sequence[str]]  # names of files by split, in order; "train" and "test" at least
    # side of the central square that is cut out first; None for the largest rectangle of that shape
    crop: int | None = None
    resample: Filter = "bilinear"  # how images are resized
    white: int = WHITE  # in 16-bit grey
    labels: Mapping[str, int] | None = None  # class by name of file

    @property
    def path(self) -> Path:
        return self.source.path

    @property
    def count(self) -> int:
        return sum(map(len, self.parts.values()))

    @property
    def shape(self) -> tuple[int, int, int]:
        """With one channel where all headers say grey; files may turn out to be grey that do not say so."""
        is_grey = self.headers and {header.kind for header in self.headers.values()} <= GREY_KINDS
        return (1 if is_grey else 3), *self.size

    def fingerprint(self) -> str:
        what = [self.name, str(self.path.resolve()), self.size, self.crop, self.resample]
        what += [self.white] if self.white != WHITE else []
        files = {part: list(names) for part, names in self.parts.items()}
        labels = None if self.labels is None else dict(self.labels)
        return hashlib.sha256(json.dumps([what, files, labels], sort_keys=True).encode()).hexdigest()

    def blocks(self, skip: int = 0, workers: int = 1) -> Generator[Block]:
        at_once, shape = max(1, BLOCK_BYTES // math.prod(self.shape)), self.shape
        todo = [
            (part, names[start : start + at_once])
            for part, names in self.parts.items()
            for start in range(0, len(names), at_once)
        ][skip:]
        if workers == 1 or len(todo) < 2 or sum(len(names) for _, names in todo) < MIN_FOR_PROCESSES:
            for part, names in todo:
                yield decode(self, part, names, shape)
            return
        bare = replace(self, parts={}, labels=None, headers={}, skipped={})  # all that a process has to be sent
        pool = ProcessPoolExecutor(min(workers, len(todo)), process_context(), _end_with_parent)
        pending: deque[Future[Block]] = deque()
        try:
            for part, names in todo:
                some = replace(bare, source=self.source.part(names))
                pending.append(pool.submit(decode, some, part, names, shape))
                if len(pending) > 2 * workers:  # so that memory stays bounded where the disk is slow
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool:
            raise InputError(
                f"a process that read {self.path} was killed, most likely for want of memory: run the same command"
                " again with fewer --workers"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)

    def known(self, part: str, skipped: Mapping[str, str]) -> dict[str, Tensor]:
        if self.labels is None:
            return {}
        return {"labels": torch.tensor([self.labels[name] for name in self.parts[part] if name not in skipped])}


def process_context() -> multiprocessing.context.BaseContext:
    """How processes start: a fork could inherit a lock that torch holds; the socket of a server has a short path."""
    method = "forkserver" if len(tempfile.gettempdir()) < MAX_SOCKET_FOLDER else "spawn"
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload([__name__])
    return context


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def train_and_test(names: Sequence[str], test: set[str]) -> dict[str, list[str]]:
    """Names by split, in order."""
    return {"train": [n for n in names if n not in test], "test": [n for n in names if n in test]}


def decode(manifest: Manifest, part: str, names: Sequence[str], shape: tuple[int, int, int]) -> Block:
    """Decodes files of a manifest in order to images of a shape, leaving out those that cannot be read."""
    images = np.empty((len(names), *shape), np.uint8)
    count, transparent, skipped = 0, 0, {}
    for name in names:
        try:
            opener = partial(manifest.source.open, name)
            picture = read_picture(opener, shape[1:], manifest.crop, manifest.resample, manifest.white)
        except UnreadableImage as reason:
            skipped[name] = str(reason)
            continue
        images[count] = picture.pixels.transpose(2, 0, 1)[: shape[0]]
        transparent += picture.transparent
        count += 1
    images = images[:count]
    return Block(part, images, bool((images == images[:, :1]).all()), len(names), transparent, skipped)


def _end_with_parent() -> None:
    """Lets this process end when the one that it works for was killed, which its queue would not tell."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            multiprocessing.connection.wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

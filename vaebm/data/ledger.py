"""The ledger of a preparation that is under way: which shards are made, so that an interrupted one goes on.

    FOLDER/progress.jsonl    the plan's fingerprint, then a line for each shard that is written

It is locked by the process that prepares, for as long as that lives. A line that was cut short is not believed; the
shard it speaks of is made again.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from vaebm.data.download import naming
from vaebm.data.shards import LEDGER, Shard
from vaebm.errors import InputError


@dataclass(frozen=True)
class Made:
    """What became of a job: its shard, if any file was readable, how often each value occurs, and what was skipped."""

    file: str
    shard: Shard | None
    counts: tuple[int, ...]
    skipped: Mapping[str, str]
    transparent: int


class Ledger:
    """An open, locked ledger; `done` is what it says, by file name of the shard."""

    def __init__(self, folder: Path, file: IO[str], fingerprint: str) -> None:
        self.folder, self._file = folder, file
        self.done: dict[str, Made] = {}
        file.seek(0)
        lines = file.read().splitlines()
        if lines and lines[0] == json.dumps(fingerprint):
            self.done = {made.file: made for line in lines[1:] if (made := _made(line)) is not None and self._has(made)}
        else:
            self._begin_anew(fingerprint)

    def add(self, made: Made) -> None:
        """Notes a shard that is written."""
        self._write("\n" + json.dumps(asdict(made)) + "\n")  # an earlier line may have been cut short
        self.done[made.file] = made

    def close(self) -> None:
        """Ends it: all is made, and the index says so."""
        (self.folder / LEDGER).unlink()

    def _has(self, made: Made) -> bool:
        return made.shard is None or (self.folder / made.file).is_file()

    def _begin_anew(self, fingerprint: str) -> None:
        for path in self.folder.glob("*-*.npy*"):
            path.unlink()
        self._file.truncate(0)
        self._write(json.dumps(fingerprint) + "\n")

    def _write(self, text: str) -> None:
        with naming(self.folder / LEDGER):
            self._file.write(text)
            self._file.flush()


@contextmanager
def open_ledger(folder: Path, fingerprint: str) -> Iterator[Ledger]:
    """The ledger of a folder, which is made if need be; what another plan left there is removed.

    Raises:
        InputError: the folder holds something else, or another process prepares it.
    """
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / LEDGER).is_file())):
        raise InputError(f"{folder} exists and is no prepared set: choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LEDGER).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder} is being prepared by another process: wait until that has ended") from None
        yield Ledger(folder, file, fingerprint)


def _made(line: str) -> Made | None:
    try:
        entry: dict[str, Any] = json.loads(line)
        shard = None if entry["shard"] is None else Shard(**entry["shard"])
        return Made(**{**entry, "shard": shard, "counts": tuple(entry["counts"])})
    except (ValueError, KeyError, TypeError):
        return None

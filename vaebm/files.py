"""Files: paths as people write them, written whole or not at all, held by one process, hashed, cached in one place."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vaebm.errors import InputError


def user_path(path: str | Path) -> Path:
    """A path, `~` being the home directory.

    Raises:
        InputError: this process has no home directory.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InputError(f"there is no home directory for {path}: write the whole path, or set HOME") from None


def write_atomically(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Writes a file so that it is on disk, whole, when this returns.

    Args:
        path: the file; its folder has to exist.
        content: the bytes, or a function that writes them to an open binary file.
    """
    with drafted(path) as draft, draft.open("wb") as file:
        if isinstance(content, bytes):
            file.write(content)
        else:
            content(file)


def write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Arrays by name into an .npz, and nothing else: older versions of NumPy would store an option as an array."""
    write_atomically(path, lambda file: np.savez_compressed(file, **arrays))


@contextmanager
def drafted(path: Path) -> Iterator[Path]:
    """A draft of a file, to be written inside the block; after it, it is synced and gets the file's name.

    Whatever writes it, its mode is that of any new file, as the umask says.
    """
    draft = path.with_name(f".{path.name}.draft")
    with naming(path):
        draft.open("wb").close()
        mode = stat.S_IMODE(draft.stat().st_mode)
        try:
            yield draft
            draft.chmod(mode)
            with draft.open("rb+") as file:
                os.fsync(file.fileno())
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        draft.replace(path)


@contextmanager
def locked(path: Path, what: Path) -> Iterator[None]:
    """Within, `what` is this process's alone; the file `path` names the owner, and goes when the block ends.

    The system frees the lock when its owner dies, however that happens.

    Raises:
        InputError: another process holds it.
    """
    file = path.open("a+", encoding="utf-8")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not path.exists() or not os.path.samestat(path.stat(), os.fstat(file.fileno())):
                raise BlockingIOError  # its last owner took it away just now
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "another process"
            raise InputError(
                f"{what} is in use by {owner}: wait until that has ended, or choose another --out"
            ) from None
        except OSError:  # a file system that cannot lock
            pass
        with naming(path):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}")
            file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """The system's refusals inside the block name `path`, which that of a full disk does not."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/vaebm, or ~/.cache/vaebm; what is in it can be downloaded or made again. It need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or user_path("~/.cache")) / "vaebm"

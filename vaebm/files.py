"""Files: written whole or not at all, hashed, and cached in one place."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write_atomically(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Writes a file so that it is on disk, whole, when this returns: to a draft beside it, synced, then renamed.

    Args:
        path: the file; its folder has to exist.
        content: the bytes, or a function that writes them to an open binary file.
    """
    draft = path.with_name(f".{path.name}.draft")
    with naming(path), draft.open("wb") as file:
        if isinstance(content, bytes):
            file.write(content)
        else:
            content(file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


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
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vaebm"

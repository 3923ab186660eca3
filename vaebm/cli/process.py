"""The process that a command runs in: what it inherits from whoever started it, and how it leaves its streams.

A closed stream is replaced by an empty one, characters that a stream's encoding lacks are shown escaped, warnings are a
line each, and variables that mean nothing here (a notebook's plotting backend, an empty RANK) are dropped.
"""

import os
import select
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TextIO, cast

NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def take_over() -> None:
    """Puts streams and variables in order."""
    for name in ("stdin", "stdout", "stderr"):  # in the order of their numbers, which a new file takes from the lowest
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115
        elif name != "stdin":
            cast(TextIO, stream).reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]
    warnings.formatwarning = lambda message, *_: f"vaebm: {message}\n"  # no line of code, which says nothing to users
    os.environ.pop("MPLBACKEND", None)  # reports draw into files alone
    for name in NUMBERS:
        if not os.environ.get(name):
            os.environ.pop(name, None)


def reader_left(stream: TextIO) -> bool:
    """Whether whoever read a stream has left it, after a pipe broke."""
    poll = select.poll()
    poll.register(stream.fileno(), 0)  # a pipe without a reader is in error, whatever is asked of it
    return bool(poll.poll(0))


def drop_unwritten(stream: TextIO) -> None:
    """What a stream still holds but cannot write is dropped, before Python tries again as it ends."""
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

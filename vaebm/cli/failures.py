"""What went wrong, as one line for a person and an exit status for a script.

| what went wrong | exit status |
| --- | --- |
| `InputError`, a wrong command line, a disk or a memory that does not suffice, a missing permission | 2 |
| `Diverged` | 3 |
| `Preempted` | 75 |
| `Interrupted`, Ctrl-C | 130 |
| anything else: a defect of ours | 1 |
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from typer.exceptions import TyperException

from vaebm.errors import Diverged, InputError, Interrupted, Preempted

_ADVICE = {
    errno.ENOSPC: "the disk of {path} is full: free some space, then run the same command again",
    errno.EDQUOT: "the quota of {path} is used up: free some space, then run the same command again",
    errno.EROFS: "{path} lies on a read-only disk: choose another place",
    errno.EACCES: "no permission for {path}: change its permissions or choose another place",
    errno.EPERM: "no permission for {path}: change its permissions or choose another place",
    errno.ENOENT: "{path} does not exist: check the path",
    errno.ENOTDIR: "{path} cannot exist, since a part of this path is a file: check the path",
    errno.EISDIR: "{path} is a folder where a file is needed: check the path",
    errno.ENAMETOOLONG: "the name {path} is too long: choose a shorter one",
}


def explain(error: BaseException) -> tuple[int, str]:
    """The exit status and the line, without the leading `vaebm:`, for whatever ended a command."""
    if isinstance(error, (InputError, Diverged, Preempted, Interrupted)):
        return error.exit_status, _one_line(str(error))
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return Interrupted.exit_status, "interrupted: what was finished is saved, run the same command again"
    if isinstance(error, TyperException):
        return InputError.exit_status, _of_command_line(error)
    if isinstance(error, OSError):
        return InputError.exit_status, _of_system(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return InputError.exit_status, "out of memory: use a smaller batch or another --device"
    what = _one_line(f"{type(error).__name__}: {error}")
    return 1, f"a defect of vaebm itself ({what}): please report it with the traceback that VAEBM_DEBUG=1 shows"


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Failures to write inside the block name `path` where the system does not say which file it was."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise
    except Exception as error:
        # safetensors passes the system's refusal on as text: "... No space left on device (os error 28)".
        refusal = re.search(r"\(os error (\d+)\)", str(error))
        if type(error).__name__ != "SafetensorError" or refusal is None:
            raise
        number = int(refusal[1])
        raise OSError(number, os.strerror(number), str(path)) from error


def _of_command_line(error: TyperException) -> str:
    message = _one_line(error.format_message()).removesuffix(".").replace("Value error, ", "")
    message = message[:1].lower() + message[1:]
    verb = getattr(getattr(error, "ctx", None), "command_path", None)
    if verb is None:
        return message
    return f"{message} See {verb} --help" if message.endswith("?") else f"{message}; see {verb} --help"


def _of_system(error: OSError) -> str:
    path = error.filename if error.filename is not None else "the output"
    advice = _ADVICE.get(error.errno or 0, "{path}: {reason}")
    reason = error.strerror or str(error)
    return _one_line(advice.format(path=path, reason=reason[:1].lower() + reason[1:]))


def _one_line(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines() if line.strip())

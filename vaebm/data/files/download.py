"""Downloads: the only file that opens a network connection.

A published file is fetched from its addresses in turn until one gives the bytes whose checksum is known:

    FILE.part    grows; an interrupted download is resumed by an HTTP Range request, or begun again where the server
                 does not support ranges or the file has changed
    FILE         exists only once the checksum was right, by a synced rename

A server that cuts the connection is asked for the rest as long as its answers bring some. Processes that want the same
file wait for the first one.
"""

import fcntl
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vaebm.errors import InputError
from vaebm.files import naming
from vaebm.progress import Progress

CHUNK_BYTES = 2**20
TIMEOUT_SECONDS = 30.0
MAX_ANSWERS = 20  # of one server that breaks off again and again
SCHEMES = ("http://", "https://")


@dataclass(frozen=True)
class Published:
    """A file as its publishers offer it."""

    name: str  # of the file
    digest: str | None  # "sha256:..." or "md5:..."; None where none was published
    addresses: tuple[str, ...]  # of the file itself, the likeliest to answer first
    page: str  # where a person finds it


def obtain(file: Published, folders: Sequence[Path], progress: Progress) -> Path:
    """The checked file: where it lies in one of the folders, else downloaded into the last of them.

    Raises:
        InputError: a copy that lies there is damaged, or no address gave the file; the message says what to do.
    """
    for folder in folders:
        if (folder / file.name).is_file():
            check(folder / file.name, file)
            return folder / file.name
    return fetch(file, folders[-1], progress)


def check(path: Path, file: Published) -> None:
    """Refuses a local copy that is not the published file. InputError: its checksum differs."""
    if difference := _difference(path, file):
        raise InputError(
            f"{path} is damaged or another file ({difference}): delete it to have it downloaded again, or get"
            f" {file.name} from {file.page}"
        )


def fetch(file: Published, folder: Path, progress: Progress) -> Path:
    """Downloads a file into a folder, going on with what an earlier call left there.

    Raises:
        InputError: no address gave it.
        OSError: the disk is full.
    """
    target, part = folder / file.name, folder / f"{file.name}.part"
    failures: list[str] = []
    for address in file.addresses:
        with _alone(folder, file.name):
            if target.is_file():  # another process was quicker
                return target
            failure = _from_address(address, part, progress)
            if failure is None and (difference := _difference(part, file)) is not None:
                part.unlink()  # nothing can be resumed from wrong bytes
                failure = f"gave another file ({difference})"
            if failure is None:
                with part.open("rb") as whole:
                    os.fsync(whole.fileno())
                return part.replace(target)
        failures.append(f"{address} {failure}")
    tried = f"no address gave it ({'; '.join(failures)})" if failures else "no program can fetch it"
    raise InputError(f"{target} is missing and {tried}: get {file.name} from {file.page} and put it at {target}")


def _from_address(address: str, part: Path, progress: Progress) -> str | None:
    """Lets `part` grow to the end of the file; returns None, or why it did not get there."""
    failure: str | None = "is no http address"
    for _ in range(MAX_ANSWERS if address.startswith(SCHEMES) else 0):
        before = _size(part)
        failure = _one_answer(address, part, before, progress)
        if failure is None or _size(part) == before:
            break
    return failure


def _one_answer(address: str, part: Path, have: int, progress: Progress) -> str | None:
    headers = {"User-Agent": "vaebm"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        request = urllib.request.Request(address, headers=headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            start = have if response.status == http.client.PARTIAL_CONTENT else 0
            if start and not (response.headers.get("Content-Range") or "").startswith(f"bytes {have}-"):
                part.unlink()
                return "answered with another part of the file"
            length = response.headers.get("Content-Length")
            return _receive(response, part, start, None if length is None else start + int(length), progress)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return f"answered {error.code}"
        if (error.headers.get("Content-Range") or "").rpartition("/")[2] == str(have):
            return None  # all of it was there already
        part.unlink()
        return "has a file of another size"
    except urllib.error.URLError as error:
        return f"did not answer ({getattr(error.reason, 'strerror', None) or error.reason})"
    except (http.client.HTTPException, TimeoutError, ConnectionError):
        return "broke off"


def _receive(
    response: http.client.HTTPResponse, part: Path, start: int, end: int | None, progress: Progress
) -> str | None:
    done = start
    with (
        part.open("ab" if start else "wb") as file,
        progress.task(f"download {part.stem}", (end or start) // 1000, "KB", start // 1000) as task,
    ):
        while True:
            try:
                block = response.read1(CHUNK_BYTES)
            except (http.client.HTTPException, OSError):
                return "broke off"
            if not block:
                return "broke off" if end is not None and done < end else None
            with naming(part):
                file.write(block)
            task.advance((done + len(block)) // 1000 - done // 1000)
            done += len(block)


@contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    """Only one process at a time fetches a file; the lock ends with its process, however that ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / f".{name}.lock").open("w")
    except OSError as error:
        raise InputError(
            f"{name} cannot be put into {folder} ({error.strerror}): set VAEBM_DATA or data.root to a folder for data"
            " sets that can be written to, or put the file there"
        ) from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _difference(path: Path, file: Published) -> str | None:
    if file.digest is None:
        return None
    kind, _, expected = file.digest.partition(":")
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, kind).hexdigest()
    return None if digest == expected else f"its {kind} is {digest[:12]}..., the published one {expected[:12]}..."


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0

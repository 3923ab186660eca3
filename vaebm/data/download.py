"""Downloads: the only file that touches the network.

A published file is fetched from its mirrors in turn until one gives the bytes whose checksum is known:

    FILE.part    grows; an interrupted download is resumed there by an HTTP Range request, or begun again where the
                 server does not know ranges or the file changed there
    FILE         exists only once the checksum was right, by a synced rename: nothing half-fetched is taken for whole

A mirror that cuts the connection is asked again for the rest, as long as its answers bring some. Processes that want
the same file wait for the first one. When no address answers, the message says which file to put where, from which
page.
"""

from __future__ import annotations

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
from vaebm.progress import Progress, silent

CHUNK_BYTES = 2**20
TIMEOUT_SECONDS = 30.0
MAX_ANSWERS = 20  # of one mirror that breaks off again and again
RANGE_NOT_SATISFIABLE = 416
AGENT = {"User-Agent": "vaebm"}
SCHEMES = ("http://", "https://")


@dataclass(frozen=True)
class Published:
    """A file as its publishers offer it.

    Args:
        name: of the file.
        digest: "sha256:..." or, where only that was published, "md5:..."; None where neither was: only its size as the
            server says it, and the reader of its format, then guard against damage.
        addresses: of the file itself, the likeliest to answer first; none where it cannot be fetched by a program.
        page: where a person finds it.
    """

    name: str
    digest: str | None
    addresses: tuple[str, ...]
    page: str


def obtain(file: Published, folders: Sequence[Path], progress: Progress | None = None) -> Path:
    """The file, whole and checked: where it lies in one of the folders, else downloaded into the last of them.

    Raises:
        InputError: a copy that lies there is damaged, or no address gave the file; the message says what to do.
    """
    found = find(file, folders)
    return found if found is not None else fetch(file, folders[-1], progress or silent())


def find(file: Published, folders: Sequence[Path]) -> Path | None:
    """The file where it lies in one of the folders, checked; None where it does not.

    Raises:
        InputError: the copy there is damaged.
    """
    for folder in folders:
        if (folder / file.name).is_file():
            check(folder / file.name, file)
            return folder / file.name
    return None


def check(path: Path, file: Published) -> None:
    """Refuses a local copy that is not the published file.

    Raises:
        InputError: its checksum differs.
    """
    difference = _difference(path, file)
    if difference:
        raise InputError(
            f"{path} is damaged or another file ({difference}): delete it to have it downloaded again, or get"
            f" {file.name} from {file.page}"
        )


def fetch(file: Published, folder: Path, progress: Progress) -> Path:
    """Downloads a file into a folder, going on with what an earlier try left there.

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
            reason = _from_mirror(address, part, progress)
            if reason is None and (difference := _difference(part, file)) is not None:
                part.unlink()  # nothing can be resumed from wrong bytes
                reason = f"gave another file ({difference})"
            if reason is None:
                with part.open("rb") as whole:
                    os.fsync(whole.fileno())
                part.replace(target)
                return target
        failures.append(f"{address} {reason}")
    tried = f"no address gave it ({'; '.join(failures)})" if failures else "no program can fetch it"
    raise InputError(f"{target} is missing and {tried}: get {file.name} from {file.page} and put it at {target}")


def _from_mirror(address: str, part: Path, progress: Progress) -> str | None:
    """Lets `part` grow to the end that the mirror knows; the reason why it did not get there, or None."""
    reason: str | None = "is no http address"
    for _ in range(MAX_ANSWERS if address.startswith(SCHEMES) else 0):
        before = _size(part)
        reason = _one_answer(address, part, before, progress)
        if reason is None or _size(part) == before:
            break
    return reason


def _one_answer(address: str, part: Path, have: int, progress: Progress) -> str | None:
    headers = AGENT | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with _answer(address, headers) as response:
            resumed = have > 0 and response.status == http.client.PARTIAL_CONTENT
            if resumed and not (response.headers.get("Content-Range") or "").startswith(f"bytes {have}-"):
                part.unlink()
                return "answered with another part of the file"
            length = response.headers.get("Content-Length")
            start = have if resumed else 0
            return _receive(response, part, start, None if length is None else start + int(length), progress)
    except urllib.error.HTTPError as error:
        if error.code != RANGE_NOT_SATISFIABLE:
            return f"answered {error.code}"
        if (error.headers.get("Content-Range") or "").rpartition("/")[2] == str(have):
            return None  # all of it was there already
        part.unlink()
        return "has a file of another size"
    except urllib.error.URLError as error:
        return f"did not answer ({getattr(error.reason, 'strerror', None) or error.reason})"
    except (http.client.HTTPException, TimeoutError, ConnectionError):
        return "broke off"


@contextmanager
def _answer(address: str, headers: dict[str, str]) -> Iterator[http.client.HTTPResponse]:
    request = urllib.request.Request(address, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
        yield response


def _receive(
    response: http.client.HTTPResponse, part: Path, start: int, end: int | None, progress: Progress
) -> str | None:
    name, done = part.name.removesuffix(".part"), start
    with (
        part.open("ab" if start else "wb") as file,
        progress.task(f"download {name}", _kilobytes(end or start), "KB", _kilobytes(start)) as task,
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
            task.advance(_kilobytes(done + len(block)) - _kilobytes(done))
            done += len(block)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """The system's refusals inside the block name `path`, as a full disk's does not."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


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
        found = hashlib.file_digest(content, kind).hexdigest()
    return None if found == expected else f"its {kind} is {found[:12]}..., the published one {expected[:12]}..."


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _kilobytes(count: int) -> int:
    return count // 1000

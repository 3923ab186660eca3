"""Downloads: the only file that touches the network.

A published file is fetched from its mirrors in turn until one gives the bytes whose checksum is known:

    FILE.part    grows; an interrupted download is resumed there by an HTTP Range request, or begun again where the
                 server does not know ranges or the file changed there
    FILE         exists only once the checksum was right, by a synced rename: nothing half-fetched is taken for whole

A mirror that cuts the connection is asked again for the rest, as long as each answer brings some. When no address
answers, the message says which file to put where, from which page.
"""

from __future__ import annotations

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
FRUITLESS_ANSWERS = 2  # of one mirror in a row, until the next one is asked
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
    progress = progress or silent()
    for folder in folders:
        if (folder / file.name).is_file():
            check(folder / file.name, file)
            return folder / file.name
    return fetch(file, folders[-1], progress)


def check(path: Path, file: Published) -> None:
    """Refuses a local copy that is not the published file.

    Raises:
        InputError: its checksum differs.
    """
    if file.digest is None:
        return
    kind, _, expected = file.digest.partition(":")
    found = _digest(path, kind)
    if found != expected:
        raise InputError(
            f"{path} is damaged or another file (its {kind} is {found[:12]}..., the published one's"
            f" {expected[:12]}...): delete it to have it downloaded again, or get {file.name} from {file.page}"
        )


def fetch(file: Published, folder: Path, progress: Progress) -> Path:
    """Downloads a file into a folder, going on with what an earlier try left there.

    Raises:
        InputError: no address gave it.
    """
    target, part = folder / file.name, folder / f"{file.name}.part"
    failures: list[str] = []
    for address in file.addresses:
        _make(folder)
        reason = _from_mirror(address, part, progress)
        if reason is None and (reason := _wrong(part, file)) is None:
            with part.open("rb") as whole:
                os.fsync(whole.fileno())
            part.replace(target)
            return target
        failures.append(f"{address} {reason}")
    tried = f"no address gave it ({'; '.join(failures)})" if failures else "it cannot be fetched by a program"
    raise InputError(f"{target} is missing and {tried}: get {file.name} from {file.page} and put it at {target}")


def _from_mirror(address: str, part: Path, progress: Progress) -> str | None:
    """Lets `part` grow to the end that the mirror knows; the reason why it did not get there, or None."""
    fruitless = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        reason = _one_answer(address, part, before, progress)
        if reason is None:
            return None
        after = part.stat().st_size if part.exists() else 0
        fruitless = 0 if after > before else fruitless + 1
        if fruitless == FRUITLESS_ANSWERS:
            return reason


def _one_answer(address: str, part: Path, have: int, progress: Progress) -> str | None:
    if not address.startswith(SCHEMES):
        return "is no http address"
    headers = AGENT | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with _answer(address, headers) as response:
            resumed = have > 0 and response.status == http.client.PARTIAL_CONTENT
            if resumed and not _continues(response, have):
                part.unlink()
                return "answered with another part of the file"
            length = response.headers.get("Content-Length")
            start = have if resumed else 0
            return _receive(response, part, start, None if length is None else start + int(length), progress)
    except urllib.error.HTTPError as error:
        if error.code == RANGE_NOT_SATISFIABLE:  # `part` is whole already, or longer than the file: the checksum tells
            total = (error.headers.get("Content-Range") or "").rpartition("/")[2]
            if total == str(have):
                return None
            part.unlink()
            return "has a file of another size"
        return f"answered {error.code}"
    except urllib.error.URLError as error:
        return f"did not answer ({error.reason})"
    except TimeoutError:
        return "stopped answering"
    except (http.client.HTTPException, ConnectionError) as error:
        return f"broke off ({type(error).__name__})"


@contextmanager
def _answer(address: str, headers: dict[str, str]) -> Iterator[http.client.HTTPResponse]:
    request = urllib.request.Request(address, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
        yield response


def _continues(response: http.client.HTTPResponse, have: int) -> bool:
    return (response.headers.get("Content-Range") or "").startswith(f"bytes {have}-")


def _receive(
    response: http.client.HTTPResponse, part: Path, start: int, end: int | None, progress: Progress
) -> str | None:
    name, done = part.name.removesuffix(".part"), start
    with (
        part.open("ab" if start else "wb") as file,
        progress.task(f"download {name}", _kilobytes(end or start), "KB", _kilobytes(start)) as task,
    ):
        while block := response.read(CHUNK_BYTES):
            file.write(block)
            task.advance(_kilobytes(done + len(block)) - _kilobytes(done))
            done += len(block)
    return "broke off" if end is not None and done < end else None


def _wrong(part: Path, file: Published) -> str | None:
    """Why the fetched bytes are not the file; they are then removed, since nothing can be resumed from them."""
    if file.digest is None:
        return None
    kind, _, expected = file.digest.partition(":")
    if _digest(part, kind) == expected:
        return None
    part.unlink()
    return f"gave a file with another {kind}"


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be made ({error.strerror}): set VAEBM_DATA or data.root to a folder for data sets"
        ) from None


def _kilobytes(count: int) -> int:
    return count // 1000

r"""Where many image files lie: a folder, a zip, or a tar.

A source lists the names of its files, sorted and with forward slashes (hidden files, what systems leave beside them,
and what this package makes are passed over), and opens one by its name. Bytes of a name that are no UTF-8 are escaped,
as in `caf\xe9.png`. A source can be sent to another process, which then opens the archive anew.

Nothing is unpacked, links in an archive are passed over, and one whose names lead out of it is refused.
"""

import hashlib
import io
import os
import re
import tarfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from vaebm.errors import InputError

MAX_MEMBER_BYTES = 2**29  # a file in an archive is read whole
LITTER = "__MACOSX"
LINKED, OWN = "counted already, by another name", "made by vaebm"
SUPPORTED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
ENCRYPTED = 1  # bit of a member's flags
ARCHIVES = (".zip", ".tar", ".npz")
"""Suffixes of files that hold many images."""


class UnreadableImage(Exception):
    """This file gives no picture; the message says why in a few words."""


class ImageSource(ABC):
    """Files by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.passed_over: dict[str, str] = {}  # why, by folder or file

    @abstractmethod
    def names(self) -> list[str]:
        """Names of all files that are not hidden, sorted. InputError: they cannot be listed."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """One of the files, readable and seekable. UnreadableImage: it is no file that could hold a picture."""

    def part(self, names: Iterable[str]) -> "ImageSource":
        """A source that need only know these names."""
        return self

    @abstractmethod
    def size(self, name: str) -> int:
        """Of a file, in bytes."""

    def copies(self, names: Iterable[str]) -> dict[str, str]:
        """The first name of the same content, for each name that comes later."""
        by_size: dict[int, list[str]] = {}
        for name in names:
            by_size.setdefault(self.size(name), []).append(name)
        first: dict[tuple[int, bytes], str] = {}
        copies: dict[str, str] = {}
        for size, alike in by_size.items():
            for name in alike if len(alike) > 1 else ():
                with self.open(name) as file:
                    earlier = first.setdefault((size, hashlib.sha256(file.read()).digest()), name)
                if earlier != name:
                    copies[name] = earlier
        return copies


class FolderSource(ImageSource):
    """A folder and all below it; links are followed, but each file and folder counts once."""

    def names(self) -> list[str]:
        def refuse(error: OSError) -> None:
            raise InputError(f"{error.filename} cannot be listed ({error.strerror}): check its permissions") from None

        names: list[str] = []
        folders: set[Path] = set()
        inodes: set[tuple[int, int]] = set()
        for folder, subfolders, files in os.walk(self.path, followlinks=True, onerror=refuse):
            here = Path(folder)
            below = here.relative_to(self.path)
            reason = LINKED if here.resolve() in folders else OWN if folders and _is_own(subfolders, files) else None
            if reason is not None:
                self.passed_over[_shown(below.as_posix())] = reason
                subfolders.clear()
                continue
            folders.add(here.resolve())
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            for name in sorted(files):
                if name.startswith("."):
                    continue
                known = _inode(here / name)
                if known in inodes:
                    self.passed_over[_shown((below / name).as_posix())] = LINKED
                else:
                    names.append(_shown((below / name).as_posix()))
                if known is not None:
                    inodes.add(known)
        return sorted(names)

    def size(self, name: str) -> int:
        return self._path(name).stat().st_size

    def _path(self, name: str) -> Path:
        path = self.path / name
        return path if path.exists() or "\\x" not in name else self.path / _unescaped(name)

    def open(self, name: str) -> BinaryIO:
        path = self._path(name)
        if not path.is_file():  # a pipe would block, a broken link has nothing to say
            raise UnreadableImage("not a regular file")
        return path.open("rb")


class ZipSource(ImageSource):
    """The members of a zip."""

    def names(self) -> list[str]:
        members = _zip(self.path).infolist()
        _check_inside(self.path, (info.filename for info in members))
        return sorted(info.filename for info in members if not info.is_dir() and _visible(info.filename))

    def size(self, name: str) -> int:
        return _zip(self.path).getinfo(name).file_size

    def open(self, name: str) -> BinaryIO:
        archive = _zip(self.path)
        if archive.getinfo(name).file_size > MAX_MEMBER_BYTES:
            raise UnreadableImage("too large to decode safely")
        return io.BytesIO(archive.read(name))


class TarSource(ImageSource):
    """The members of a tar that is not compressed, since a compressed one cannot be searched."""

    def __init__(self, path: Path, places: Mapping[str, tuple[int, int]] | None = None) -> None:
        super().__init__(path)
        self.places = _tar(path) if places is None else places

    def names(self) -> list[str]:
        return sorted(self.places)

    def size(self, name: str) -> int:
        return self.places[name][1]

    def open(self, name: str) -> BinaryIO:
        start, size = self.places[name]
        if size > MAX_MEMBER_BYTES:
            raise UnreadableImage("too large to decode safely")
        with self.path.open("rb") as file:
            file.seek(start)
            return io.BytesIO(file.read(size))

    def part(self, names: Iterable[str]) -> ImageSource:
        return TarSource(self.path, {name: self.places[name] for name in names})


def open_source(path: Path) -> ImageSource:
    """The source at a path.

    Raises:
        InputError: there is none, or it is neither a folder nor an archive that can be searched.
    """
    if path.is_dir():
        return FolderSource(path)
    if path.suffix.lower() == ".zip":
        _zip(path)
        return ZipSource(path)
    if path.suffix.lower() == ".tar":
        return TarSource(path)
    if path.is_file():
        raise InputError(f"{path} is a file: give the folder that holds the images, or a zip, tar or npz")
    raise InputError(f"{path} does not exist: give an existing folder of images as data.root")


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Refusals of an archive inside the block say what to do.

    Raises:
        InputError: in place of the errors of zipfile, tarfile and the system.
    """
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, NotImplementedError):
        raise InputError(f"{path} is truncated or no {kind}: get it whole, then try again") from None
    except OSError as error:
        if str(error.filename) != str(path):
            raise
        raise InputError(f"{path} cannot be read ({error.strerror}): check the path and its permissions") from None


def open_zip(path: Path) -> zipfile.ZipFile:
    """A zip that Python can unpack. InputError: it is encrypted, or compressed in another way."""
    archive = zipfile.ZipFile(path)
    for member in archive.infolist():
        if member.flag_bits & ENCRYPTED or member.compress_type not in SUPPORTED:
            how = "encrypted" if member.flag_bits & ENCRYPTED else "compressed in a way that Python cannot read"
            archive.close()
            raise InputError(f"{path} is {how}: unpack it, and zip it anew without a password, or use the folder")
    return archive


def _is_own(folders: Iterable[str], files: Iterable[str]) -> bool:
    """Whether a folder is a run, or a prepared set."""
    names = {*folders, *files}
    run = "recipe.yaml" in names and names & {"metrics.jsonl", "checkpoints", "model", "data.json"}
    prepared = "train.bin" in names and names & {"index.json", "progress.jsonl"}
    return bool(run or prepared)


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _shown(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _unescaped(name: str) -> str:
    return os.fsdecode(re.sub(rb"\\x([0-9a-f]{2})", lambda byte: bytes.fromhex(byte[1].decode()), name.encode()))


def _visible(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return LITTER not in parts and not any(part.startswith(".") and part != "." for part in parts)


def _check_inside(path: Path, names: Iterable[str]) -> None:
    """Refuses names that whoever unpacks the archive would write elsewhere."""
    for name in names:
        inside = PurePosixPath(name.replace("\\", "/"))
        if not name or inside.is_absolute() or ".." in inside.parts:
            raise InputError(
                f"{path} holds {_shown(name)!r}, a name that leads out of it: do not unpack it, get another"
            )


@lru_cache(maxsize=1)
def _opened_zip(path: Path, _size: int, _changed: int) -> zipfile.ZipFile:
    return open_zip(path)


def _zip(path: Path) -> zipfile.ZipFile:
    with reading(path, "zip archive"):
        stat = path.stat()
        return _opened_zip(path, stat.st_size, stat.st_mtime_ns)


def _tar(path: Path) -> dict[str, tuple[int, int]]:
    with reading(path, "tar archive"), tarfile.open(path, "r:") as archive:
        members = archive.getmembers()
        _check_inside(path, (m.name for m in members))
        places = {
            _shown(m.name.removeprefix("./")): (m.offset_data, m.size)
            for m in members
            if m.isfile() and _visible(m.name)
        }
    if places and max(start + size for start, size in places.values()) > path.stat().st_size:
        raise InputError(f"{path} is truncated: get it whole, then try again")
    return places

"""Where many image files lie: a folder, a zip, or a tar.

A source lists the names of its files, sorted and with forward slashes (hidden files and what systems leave beside them
are passed over), and opens one by its name. It can be sent to another process, which then opens the archive anew.
"""

import io
import os
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
ARCHIVES = (".zip", ".tar", ".npz")
"""Suffixes of files that hold many images."""


class UnreadableImage(Exception):
    """This file gives no picture; the message says why in a few words."""


class ImageSource(ABC):
    """Files by name."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def names(self) -> list[str]:
        """Names of all files that are not hidden, sorted. InputError: they cannot be listed."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """One of the files, readable and seekable. UnreadableImage: it is no file that could hold a picture."""

    def part(self, names: Iterable[str]) -> "ImageSource":
        """A source that need only know these names."""
        return self


class FolderSource(ImageSource):
    """A folder and all below it; linked folders are followed, but each only once."""

    def names(self) -> list[str]:
        def refuse(error: OSError) -> None:
            raise InputError(f"{error.filename} cannot be listed ({error.strerror}): check its permissions") from None

        names: list[str] = []
        seen: set[Path] = set()
        for folder, subfolders, files in os.walk(self.path, followlinks=True, onerror=refuse):
            here = Path(folder)
            seen.add(here.resolve())
            subfolders[:] = [
                name for name in subfolders if not name.startswith(".") and (here / name).resolve() not in seen
            ]
            below = here.relative_to(self.path)
            names += [(below / name).as_posix() for name in files if not name.startswith(".")]
        return sorted(names)

    def open(self, name: str) -> BinaryIO:
        path = self.path / name
        if not path.is_file():  # a pipe would block, a broken link has nothing to say
            raise UnreadableImage("not a regular file")
        return path.open("rb")


class ZipSource(ImageSource):
    """The members of a zip."""

    def names(self) -> list[str]:
        members = _zip(self.path).infolist()
        return sorted(info.filename for info in members if not info.is_dir() and _visible(info.filename))

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
    except (zipfile.BadZipFile, tarfile.TarError, EOFError):
        raise InputError(f"{path} is truncated or no {kind}: get it whole, then try again") from None
    except OSError as error:
        if str(error.filename) != str(path):
            raise
        raise InputError(f"{path} cannot be read ({error.strerror}): check the path and its permissions") from None


def _visible(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return LITTER not in parts and not any(part.startswith(".") and part != "." for part in parts)


@lru_cache(maxsize=1)
def _opened_zip(path: Path, _size: int, _changed: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def _zip(path: Path) -> zipfile.ZipFile:
    with reading(path, "zip archive"):
        stat = path.stat()
        return _opened_zip(path, stat.st_size, stat.st_mtime_ns)


def _tar(path: Path) -> dict[str, tuple[int, int]]:
    with reading(path, "tar archive"), tarfile.open(path, "r:") as archive:
        places = {
            m.name.removeprefix("./"): (m.offset_data, m.size) for m in archive if m.isfile() and _visible(m.name)
        }
    if places and max(start + size for start, size in places.values()) > path.stat().st_size:
        raise InputError(f"{path} is truncated: get it whole, then try again")
    return places

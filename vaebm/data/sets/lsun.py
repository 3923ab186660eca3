"""LSUN Church outdoor, 64 x 64: photographs of churches, the largest central square resized (bilinear).

As published, two LMDB databases, or the images that its own tool exports from them. A value in a database is the bytes
of one file:

    FOLDER/church_outdoor_train_lmdb/data.mdb      key, 40 hexadecimal digits -> a WebP or JPEG file
    FOLDER/church_outdoor_train_lmdb.zip           the same, packed; it is unpacked beside itself

A record is named by its database's folder and its key. Databases are opened without a lock file, so they may lie on a
read-only disk, and anew in every process. This needs the package `lmdb`: pip install "vaebm[lsun]".

What lies below a folder whose name says "val" is held out (300 as published: 126,227 for training); where there is
none, the 300 whose names have the smallest SHA-256, a tenth at most.

Reference: Yu, Seff, Zhang, Song, Funkhouser, Xiao, [LSUN: construction of a large-scale image dataset using deep
learning with humans in the loop](https://arxiv.org/abs/1506.03365), 2015.
"""

import io
import os
import zipfile
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, ClassVar, Literal

from vaebm.data.collection import HELD_OUT_FRACTION, held_out
from vaebm.data.files.archives import ImageSource, reading
from vaebm.data.files.download import Published
from vaebm.data.manifest import Manifest, train_and_test
from vaebm.data.sets.published import PicturesSettings, holds_pictures, pictures_in
from vaebm.errors import InputError
from vaebm.files import write_atomically
from vaebm.progress import Progress

SIDE = 64
HELD_OUT = 300
DATABASE = "data.mdb"
BLOCK_BYTES = 2**24


class LSUNChurch64Settings(PicturesSettings):
    """Churches of 64 x 64 pixels."""

    kind: Literal["lsun_church64"] = "lsun_church64"

    shape: ClassVar[tuple[int, int, int]] = (3, SIDE, SIDE)

    def missing(self, place: Path) -> list[Published]:
        if holds_pictures(place):
            return []
        there = {path.name for path in databases(place)} | {path.stem for path in place.rglob("*.zip")}
        return [file for file in self.needed if Path(file.name).stem not in there]

    def manifest(self, place: Path, progress: Progress) -> Manifest:
        if place.is_file() and place.name in {file.name for file in self.needed}:
            raise InputError(f"{place} is one of LSUN's databases: name the folder that holds them by --from")
        for file in self.needed:
            for archive in place.rglob(file.name):
                unpack(archive, progress)
        if databases(place):
            source: ImageSource = DatabaseSource(place)
            names = source.names()
        else:
            source, names = pictures_in(place, self.needed[0])
        test = {name for name in names if any("val" in part for part in PurePosixPath(name).parts[:-1])}
        parts = train_and_test(names, test or held_out(names, min(HELD_OUT_FRACTION, HELD_OUT / len(names))))
        return Manifest(name=self.kind, subject="LSUN's churches", source=source, size=(SIDE, SIDE), parts=parts)


class DatabaseSource(ImageSource):
    """The records of all databases below a folder."""

    def names(self) -> list[str]:
        names = []
        for folder in databases(self.path):
            with _opened(folder).begin() as records:
                below = folder.relative_to(self.path).as_posix()
                names += [f"{below}/{os.fsdecode(key)}" for key in records.cursor().iternext(values=False)]
        return sorted(names)

    def size(self, name: str) -> int:
        return len(self._record(name))

    def open(self, name: str) -> BinaryIO:
        return io.BytesIO(self._record(name))

    def _record(self, name: str) -> bytes:
        below, _, key = name.rpartition("/")
        with _opened(self.path / below).begin() as records:
            return bytes(records.get(os.fsencode(key)))


def databases(place: Path) -> list[Path]:
    """Folders of the databases below a folder, sorted."""
    return sorted(path.parent for path in place.rglob(DATABASE))


def unpack(archive: Path, progress: Progress) -> None:
    """Unpacks the database in a zip into a folder beside it, named as the zip is; returns at once where that is there.

    Raises:
        InputError: the zip is damaged, or holds no database.
        OSError: the disk is full.
    """
    target = archive.with_suffix("") / DATABASE
    if target.exists():
        return
    with reading(archive, "zip archive"), zipfile.ZipFile(archive) as packed:
        member = next((info for info in packed.infolist() if Path(info.filename).name == DATABASE), None)
        if member is None:
            raise InputError(f"{archive} holds no {DATABASE}: get LSUN's own archive of that name")
        target.parent.mkdir(exist_ok=True)
        with packed.open(member) as source, progress.task(f"unpack {archive.name}", member.file_size, "bytes") as task:

            def copy(out: BinaryIO) -> None:
                while block := source.read(BLOCK_BYTES):
                    out.write(block)
                    task.advance(len(block))

            write_atomically(target, copy)


@lru_cache(maxsize=8)
def _opened(folder: Path) -> Any:  # an lmdb.Environment, which a process may open only once
    path = folder / DATABASE
    try:
        import lmdb
    except ImportError:
        raise InputError(f'{path} is read by the package lmdb: pip install "vaebm[lsun]"') from None
    try:
        database = lmdb.open(str(folder), readonly=True, lock=False, readahead=False)
    except lmdb.Error as error:
        raise InputError(f"{path} is no LMDB database or damaged ({error}): get it whole, then try again") from None
    pages = database.info()["last_pgno"] + 1
    if path.stat().st_size < pages * database.stat()["psize"]:  # reading beyond the end would kill the process
        database.close()
        raise InputError(f"{path} is truncated: get it whole, then try again")
    return database

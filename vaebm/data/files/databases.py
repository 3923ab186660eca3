"""Image files in LMDB databases, the form in which LSUN is published: a value is the bytes of one file.

    FOLDER/church_outdoor_train_lmdb/data.mdb      key, 40 hexadecimal digits -> a WebP or JPEG file
    FOLDER/church_outdoor_train_lmdb.zip           the same, packed; it is unpacked beside itself

A record is named by its database's folder and its key. Databases are opened without a lock file, so they may lie on a
read-only disk, and anew in every process. This needs the package `lmdb`: pip install "vaebm[lsun]".
"""

import io
import os
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from vaebm.data.files.archives import ImageSource, reading
from vaebm.errors import InputError
from vaebm.files import write_atomically
from vaebm.progress import Progress

DATABASE = "data.mdb"
BLOCK_BYTES = 2**24


class DatabaseSource(ImageSource):
    """The records of all databases below a folder."""

    def names(self) -> list[str]:
        names = []
        for folder in databases(self.path):
            with _opened(folder).begin() as records:
                below = folder.relative_to(self.path).as_posix()
                names += [f"{below}/{os.fsdecode(key)}" for key in records.cursor().iternext(values=False)]
        return sorted(names)

    def open(self, name: str) -> BinaryIO:
        below, _, key = name.rpartition("/")
        with _opened(self.path / below).begin() as records:
            return io.BytesIO(records.get(os.fsencode(key)))


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

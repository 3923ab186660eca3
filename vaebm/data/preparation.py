"""A preparation, in the words of `vaebm data prepare NAME|PATH --from FOLDER`: which plan, and into which folder.

NAME    a published set that does not fit into memory     into ROOT/NAME/prepared, where recipes look for it
PATH    a folder, zip, tar or .npz of the user's          into PATH-prepared, a folder that trains as PATH does
"""

from __future__ import annotations

import os
from pathlib import Path

from vaebm.data import KINDS
from vaebm.data.arrays import open_arrays
from vaebm.data.folder import folder_plan, name_of
from vaebm.data.prepare import prepare, prepare_arrays
from vaebm.data.prepared import PreparedSettings
from vaebm.data.shards import Index
from vaebm.data.splits import DataSettings
from vaebm.data.sprites import SpritesSettings
from vaebm.errors import InputError
from vaebm.progress import Progress, silent


def prepare_set(
    subject: str | Path,
    source: Path | None = None,
    out: Path | None = None,
    *,
    size: int | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> tuple[Path, Index]:
    """Prepares a published set or the user's own images.

    Args:
        subject: the set's name, or a path.
        source: where a set's files lie; None where recipes look for them, to which they are downloaded if need be.
        out: the folder of the shards; None for the usual one.
        size: side that the user's images are cropped and resized to.
        workers: processes; None for as many as there are processors.
        progress: to report to.

    Returns:
        The folder of the shards, and their index.

    Raises:
        InputError: a file is missing or damaged, the set needs no preparing, or the folder holds something else.
        OSError: the disk is full, say; the same call then goes on.
    """
    workers, progress = workers or len(os.sched_getaffinity(0)), progress or silent()
    name = str(subject)
    if name in KINDS and not Path(name).exists():
        if size is not None:
            raise InputError(f"{name} has a size of its own: leave --size away")
        return _prepare_published(name, KINDS[name], source, out, workers, progress)
    if source is not None:
        raise InputError(
            f"{name} is a path, and so needs no --from: leave it away, or name one of {', '.join(large())}"
        )
    path = Path(name).expanduser()
    folder = out or path.resolve().with_name(f"{name_of(path)}-prepared")
    if path.suffix == ".npz":
        return folder, prepare_arrays(open_arrays(path), folder, progress)
    return folder, prepare(folder_plan(path, size, progress), folder, workers, progress)


def large() -> list[str]:
    """Names of the sets that can be prepared."""
    return sorted(name for name, one in KINDS.items() if issubclass(one, PreparedSettings | SpritesSettings))


def _prepare_published(
    name: str, kind: type[DataSettings], source: Path | None, out: Path | None, workers: int, progress: Progress
) -> tuple[Path, Index]:
    if issubclass(kind, SpritesSettings):
        sprites = kind()
        folder = out or sprites.prepared
        return folder, prepare_arrays(sprites.arrays(source, progress), folder, progress)
    if not issubclass(kind, PreparedSettings):
        raise InputError(f"{name} fits into memory and needs no preparing: use it with data.kind={name}")
    settings = kind.model_validate({})
    folder = out or settings.prepared
    place = source or settings.folders(name)[1]
    settings.make_ready(place, source is None, progress)
    return folder, prepare(settings.plan(place), folder, workers, progress)

"""A survey of image files: what their headers say, before any pixel is decoded, and what follows from their names.

shape       `size` given: size x size
            all alike, at most 4,096 pixels (64 x 64): as they are, square or not
            all alike, larger: 64 x 64, or their own shorter side where that is less
            of several sizes: an error that asks for `size`
classes     first-level subfolders, if every image lies in one of them and there are at least two
held out    the tenth whose names have the smallest SHA-256: neither machine, disk order nor seed moves it
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from vaebm.data.found import counted, enumerated, said_of_skipped
from vaebm.data.image_file import Header, read_header, read_picture
from vaebm.data.image_source import ImageSource, UnreadableImage
from vaebm.errors import InputError
from vaebm.progress import Progress, silent

HELD_OUT_SHARE = 0.1
MIN_IMAGES = 20
MIN_SIDE = 8
MAX_UNASKED_SIDE = 64


@dataclass(frozen=True)
class Survey:
    """Images by name, sorted, and why the other files are none."""

    source: ImageSource
    headers: dict[str, Header]
    skipped: dict[str, str]


def survey(source: ImageSource, names: Sequence[str] | None = None, progress: Progress | None = None) -> Survey:
    """Reads all headers of a source, or those of `names`."""
    headers, skipped = {}, {}
    names = source.names() if names is None else names
    with (progress or silent()).task("look at files", len(names), "files") as task:
        for name in names:
            try:
                headers[name] = read_header(partial(source.open, name))
            except UnreadableImage as reason:
                skipped[name] = str(reason)
            task.advance()
    return Survey(source, headers, skipped)


def enough(root: Path, images: Collection[str], skipped: Mapping[str, str]) -> None:
    """Refuses what is too little to train on.

    Raises:
        InputError: there are fewer than MIN_IMAGES.
    """
    if len(images) >= MIN_IMAGES:
        return
    what = f"holds {counted(len(images), 'readable image')}" if images or skipped else "is empty"
    aside = f" ({said_of_skipped(skipped)})" if skipped else ""
    raise InputError(f"{root} {what}{aside}: give a folder with at least {MIN_IMAGES} images")


def shape_of(found: Survey, size: int | None) -> tuple[int, int]:
    """The height and width that all images get. Files that would decide it, but are broken, move to `skipped`.

    Raises:
        InputError: they are of several sizes, or too small.
    """
    root = found.source.path
    if size is not None:
        if size < MIN_SIDE:
            raise InputError(f"data.size={size} is too small: give at least {MIN_SIDE}")
        return size, size
    sizes = Counter((header.height, header.width) for header in found.headers.values())
    (common, _), *_ = sizes.most_common(1)
    for name in [name for name, header in found.headers.items() if (header.height, header.width) != common]:
        try:
            read_picture(partial(found.source.open, name), common)
        except UnreadableImage as reason:
            found.skipped[name] = str(reason)
            broken = found.headers.pop(name)
            sizes[broken.height, broken.width] -= 1
            continue
        listed = [f"{width} x {height} ({count:,})" for (height, width), count in (+sizes).most_common()]
        raise InputError(
            f"{root} holds images of {len(listed)} sizes (width x height), {enumerated(listed)}: "
            "set data.size=32 to centre-crop and resize"
        )
    if min(common) < MIN_SIDE:
        raise InputError(
            f"the images in {root} are {common[1]} x {common[0]} pixels, below {MIN_SIDE} x {MIN_SIDE}: "
            "set data.size=32 to enlarge them"
        )
    if common[0] * common[1] <= MAX_UNASKED_SIDE**2:
        return common
    side = min(MAX_UNASKED_SIDE, *common)
    return side, side


def classes_of(names: Sequence[str]) -> tuple[str, ...] | None:
    """First-level subfolders, where they are classes."""
    if any(len(PurePosixPath(name).parts) < 2 for name in names):
        return None
    folders = sorted({PurePosixPath(name).parts[0] for name in names})
    return tuple(folders) if len(folders) > 1 else None


def label_of(name: str, classes: Sequence[str]) -> int:
    """The class of a name."""
    return classes.index(PurePosixPath(name).parts[0])


def held_out(names: Sequence[str], share: float = HELD_OUT_SHARE) -> set[str]:
    """The names that are held out."""
    ranked = sorted(names, key=lambda name: hashlib.sha256(os.fsencode(name)).digest())
    return set(ranked[: round(share * len(names))])

"""A folder of the user's own images.

Every file below the folder is tried (hidden ones are passed over); what is no image, truncated or too large is counted
and named, not fatal. The images become one shape:

    `size` given            largest central square, resized to size x size
    all alike, <= 4,096 px  as they are, square or not (4,096 = 64 x 64)
    all alike, larger       largest central square, resized to 64 x 64, or to its own side where that is shorter
    of several sizes        an error that asks for `size`

They stay grey where every image is grey (also when stored as RGB), else all are RGB. First-level subfolders are classes
if every image lies in one of them and there are at least two. A tenth is held out: the files whose names (paths below
the folder) have the smallest SHA-256, a choice that neither the machine, the disk's order nor the run's seed moves.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vaebm.data.found import counted, enumerated, found_in_folder, said_of_skipped
from vaebm.data.image_file import Header, UnreadableImage, read_header, read_picture
from vaebm.data.splits import DataSet, DataSettings, Split
from vaebm.errors import InputError
from vaebm.progress import Progress

HELD_OUT_SHARE = 0.1
FEWEST_IMAGES = 20
SMALLEST_SIDE = 8
LARGEST_UNASKED_SIDE = 64
LEVELS = 255


class FolderSettings(DataSettings):
    """A folder of images, subfolders included; `size` crops and resizes them to size x size."""

    kind: Literal["folder"] = "folder"
    root: str
    size: int | None = None

    def load(self, progress: Progress | None = None) -> DataSet:
        """Reads the folder; shape (1 or 3, H, W)."""
        root = Path(self.root).expanduser()
        if self.size is not None and self.size < SMALLEST_SIDE:
            raise InputError(f"data.size={self.size} is too small: give at least {SMALLEST_SIDE}")
        skipped: dict[str, str] = {}
        headers = _headers(root, skipped)
        _enough(root, headers, skipped)
        shape = _shape(root, headers, self.size, skipped)
        pictures = _decode(root, headers, shape, skipped)
        _enough(root, pictures.names, skipped)
        return _data_set(root, pictures, headers, skipped)


@dataclass(frozen=True, eq=False)
class _Pictures:
    """The readable images in the order of their names; pixels (N, C, H, W) uint8."""

    names: list[str]
    pixels: Tensor
    transparent: int


def _files(root: Path) -> list[str]:
    """Paths below `root` with forward slashes, sorted; linked folders are followed, but each only once."""

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename} cannot be listed ({error.strerror}): check its permissions") from None

    if root.is_file():
        raise InputError(f"{root} is a file: give the folder that holds the images")
    if not root.is_dir():
        raise InputError(f"{root} does not exist: give an existing folder of images as data.root")
    found: list[str] = []
    seen: set[Path] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=refuse):
        here = Path(folder)
        seen.add(here.resolve())
        subfolders[:] = [
            name for name in subfolders if not name.startswith(".") and (here / name).resolve() not in seen
        ]
        found += [(here / name).relative_to(root).as_posix() for name in files if not name.startswith(".")]
    return sorted(found)


def _headers(root: Path, skipped: dict[str, str]) -> dict[str, Header]:
    headers = {}
    for name in _files(root):
        try:
            headers[name] = read_header(root / name)
        except UnreadableImage as reason:
            skipped[name] = str(reason)
    return headers


def _enough(root: Path, images: Collection[str], skipped: Mapping[str, str]) -> None:
    if len(images) >= FEWEST_IMAGES:
        return
    what = f"holds {counted(len(images), 'readable image')}" if images or skipped else "is empty"
    aside = f" ({said_of_skipped(skipped)})" if skipped else ""
    raise InputError(f"{root} {what}{aside}: give a folder with at least {FEWEST_IMAGES} images")


def _shape(root: Path, headers: dict[str, Header], size: int | None, skipped: dict[str, str]) -> tuple[int, int]:
    """The height and width that all images get. Files that would decide it, but turn out broken, move to `skipped`."""
    if size is not None:
        return size, size
    sizes = Counter((header.height, header.width) for header in headers.values())
    (common, _), *_ = sizes.most_common(1)
    for name in [name for name, header in headers.items() if (header.height, header.width) != common]:
        try:
            read_picture(root / name, common)
        except UnreadableImage as reason:
            skipped[name] = str(reason)
            broken = headers.pop(name)
            sizes[broken.height, broken.width] -= 1
            continue
        listed = [f"{width} x {height} ({count:,})" for (height, width), count in (+sizes).most_common()]
        raise InputError(
            f"{root} holds images of {len(listed)} sizes (width x height), {enumerated(listed)}: "
            "set data.size=32 to centre-crop and resize"
        )
    if min(common) < SMALLEST_SIDE:
        raise InputError(
            f"the images in {root} are {common[1]} x {common[0]} pixels, below {SMALLEST_SIDE} x {SMALLEST_SIDE}: "
            "set data.size=32 to enlarge them"
        )
    if common[0] * common[1] <= LARGEST_UNASKED_SIDE**2:
        return common
    side = min(LARGEST_UNASKED_SIDE, *common)
    return side, side


def _decode(root: Path, headers: Collection[str], shape: tuple[int, int], skipped: dict[str, str]) -> _Pictures:
    names: list[str] = []
    pixels = np.empty((len(headers), *shape, 3), dtype=np.uint8)
    transparent, grey = 0, True
    for name in headers:
        try:
            picture = read_picture(root / name, shape)
        except UnreadableImage as reason:
            skipped[name] = str(reason)
            continue
        pixels[len(names)] = picture.pixels
        names.append(name)
        transparent += picture.transparent
        grey = grey and bool((picture.pixels == picture.pixels[:, :, :1]).all())
    channels_first = pixels[: len(names), :, :, : 1 if grey else 3].transpose(0, 3, 1, 2)
    return _Pictures(names, torch.from_numpy(np.ascontiguousarray(channels_first)), transparent)


def _classes(names: list[str]) -> tuple[str, ...] | None:
    if any(len(PurePosixPath(name).parts) < 2 for name in names):
        return None
    folders = sorted({PurePosixPath(name).parts[0] for name in names})
    return tuple(folders) if len(folders) > 1 else None


def _labels(names: list[str], classes: tuple[str, ...]) -> Tensor:
    index = {folder: label for label, folder in enumerate(classes)}
    return torch.tensor([index[PurePosixPath(name).parts[0]] for name in names])


def _held_out(names: list[str]) -> Tensor:
    """(N,) bool: which images are held out, the tenth with the smallest SHA-256 of the name."""
    rank = sorted(range(len(names)), key=lambda row: hashlib.sha256(os.fsencode(names[row])).digest())
    held_out = torch.zeros(len(names), dtype=torch.bool)
    held_out[rank[: round(HELD_OUT_SHARE * len(names))]] = True
    return held_out


def _data_set(root: Path, pictures: _Pictures, headers: Mapping[str, Header], skipped: Mapping[str, str]) -> DataSet:
    names, held_out = pictures.names, _held_out(pictures.names)
    classes = _classes(names)
    labels = None if classes is None else _labels(names, classes)
    train, test = (
        Split(pictures.pixels[rows], None if labels is None else labels[rows], LEVELS) for rows in (~held_out, held_out)
    )
    return DataSet(
        name=root.resolve().name,
        kind="image",
        shape=tuple(pictures.pixels.shape[1:]),
        train=train,
        test=test,
        class_names=classes,
        found=found_in_folder(
            root, [headers[name] for name in names], train, test, classes, pictures.transparent, skipped
        ),
    )

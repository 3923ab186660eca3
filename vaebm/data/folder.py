"""A user's own images: a folder, a zip or tar of image files, an .npz of arrays, or a folder that was prepared.

Every file of a folder or archive is tried (hidden ones are passed over); what is no image, truncated or too large is
counted and named, not fatal. All become one shape (`data/survey.py`: `size` crops the largest central square and
resizes it to size x size), and stay grey where every image is grey (also when stored as RGB), else all are RGB.

An .npz holds `images` (N, H, W, C), (N, H, W) or (N, C, H, W) uint8, C = 1 or 3, and may hold `labels` (N,). A prepared
folder (`vaebm data prepare`) is read from disk as training goes on, so it may be larger than the memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from vaebm.data.arrays import MAX_IN_MEMORY, open_arrays
from vaebm.data.found import found_in_folder
from vaebm.data.image_file import read_picture
from vaebm.data.image_source import UnreadableImage, open_source
from vaebm.data.plan import Plan
from vaebm.data.prepared import prepared_set
from vaebm.data.shards import is_prepared, is_unfinished
from vaebm.data.splits import DataSet, ImageSettings
from vaebm.data.survey import Survey, classes_of, enough, held_out, label_of, shape_of, survey
from vaebm.errors import InputError
from vaebm.progress import Progress, silent


class FolderSettings(ImageSettings):
    """A folder of images, subfolders included, or an archive; `size` crops and resizes them to size x size."""

    kind: Literal["folder"] = "folder"
    root: str
    size: int | None = Field(None, description="side that images are cropped and resized to; null: as they are")

    def load(self, progress: Progress | None = None) -> DataSet:
        """Reads the images; shape (1 or 3, H, W).

        Raises:
            InputError: there are no images there, or not of one size; the message says what to do.
        """
        root = Path(self.root).expanduser()
        if is_prepared(root):
            data = prepared_set(root, self)
            if self.size not in (None, data.shape[2]):
                raise InputError(
                    f"{root} was prepared with {data.shape[2]} x {data.shape[1]} pixels, not data.size={self.size}: "
                    "leave the size away, or prepare the images again into another folder"
                )
            return data
        if root.suffix == ".npz":
            return open_arrays(root).load(self)
        if is_unfinished(root):
            raise InputError(f"{root} is only half prepared: run the same `vaebm data prepare` again to go on")
        found = survey(open_source(root), progress=progress)
        enough(root, found.headers, found.skipped)
        shape = shape_of(found, self.size)
        fits_in_memory(root, len(found.headers), shape)
        pictures = _decode(found, shape, progress or silent())
        enough(root, pictures.names, found.skipped)
        return self._data_set(root, pictures, found)

    def _data_set(self, root: Path, pictures: _Pictures, found: Survey) -> DataSet:
        names, chosen = pictures.names, held_out(list(found.headers))
        rows = torch.tensor([name in chosen for name in names])
        classes = classes_of(names)
        labels = None if classes is None else torch.tensor([label_of(name, classes) for name in names])
        train, test = (
            self.split(pictures.pixels[part], None if labels is None else labels[part]) for part in (~rows, rows)
        )
        headers = [found.headers[name] for name in names]
        return DataSet(
            name=name_of(root),
            shape=tuple(pictures.pixels.shape[1:]),
            train=train,
            test=test,
            class_names=classes,
            found=found_in_folder(root, headers, train, test, classes, pictures.transparent, found.skipped),
        )


def folder_plan(root: Path, size: int | None = None, progress: Progress | None = None) -> Plan:
    """How the images of a folder or an archive become shards: the same images as `FolderSettings.load` reads.

    Raises:
        InputError: there are no images there, or not of one size.
    """
    found = survey(open_source(root), progress=progress)
    enough(root, found.headers, found.skipped)
    shape = shape_of(found, size)
    names = list(found.headers)
    chosen, classes = held_out(names), classes_of(names)
    return Plan(
        name_of(root),
        f"the images of {root}",
        found.source,
        shape,
        {"train": [n for n in names if n not in chosen], "test": [n for n in names if n in chosen]},
        labels=None if classes is None else {name: label_of(name, classes) for name in names},
        class_names=classes,
        headers=found.headers,
        skipped=found.skipped,
    )


def name_of(root: Path) -> str:
    """What a set of the user's own is called."""
    return root.resolve().stem if root.is_file() else root.resolve().name


@dataclass(frozen=True, eq=False)
class _Pictures:
    """The readable images in the order of their names; pixels (N, C, H, W) uint8."""

    names: list[str]
    pixels: Tensor
    transparent: int


def fits_in_memory(root: Path, images: int, shape: Sequence[int]) -> None:
    """Refuses to read into memory what is meant to be read from shards.

    Raises:
        InputError: more than MAX_IN_MEMORY bytes, three channels assumed.
    """
    size = images * 3 * shape[0] * shape[1]
    if size > MAX_IN_MEMORY:
        raise InputError(
            f"{root} holds {images:,} images, which would take {size / 1e9:.0f} GB of memory: make shards of them once"
            f" with `vaebm data prepare {root}`, then use the folder that it names"
        )


def _decode(found: Survey, shape: tuple[int, int], progress: Progress) -> _Pictures:
    names: list[str] = []
    pixels = np.empty((len(found.headers), *shape, 3), dtype=np.uint8)
    transparent, grey = 0, True
    with progress.task("read images", len(found.headers), "images") as task:
        for name in found.headers:
            task.advance()
            try:
                picture = read_picture(partial(found.source.open, name), shape)
            except UnreadableImage as reason:
                found.skipped[name] = str(reason)
                continue
            pixels[len(names)] = picture.pixels
            names.append(name)
            transparent += picture.transparent
            grey = grey and bool((picture.pixels == picture.pixels[:, :, :1]).all())
    channels_first = pixels[: len(names), :, :, : 1 if grey else 3].transpose(0, 3, 1, 2)
    return _Pictures(names, torch.from_numpy(np.ascontiguousarray(channels_first)), transparent)

"""LSUN Church outdoor, 64 x 64: photographs of churches, the largest central square resized (bilinear).

As published, two LMDB databases (`data/files/databases.py`), or the images that its own tool exports from them. What
lies below a folder whose name says "val" is held out (300 as published: 126,227 for training); where there is none, the
300 whose names have the smallest SHA-256, a tenth at most.

Reference: Yu, Seff, Zhang, Song, Funkhouser, Xiao, [LSUN: construction of a large-scale image dataset using deep
learning with humans in the loop](https://arxiv.org/abs/1506.03365), 2015.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

from vaebm.data.collection import HELD_OUT_FRACTION, held_out
from vaebm.data.files.archives import ImageSource
from vaebm.data.files.databases import DatabaseSource, databases, unpack
from vaebm.data.files.download import Published
from vaebm.data.manifest import Manifest, train_and_test
from vaebm.data.sets.large import PicturesSettings, holds_pictures, pictures_in
from vaebm.errors import InputError
from vaebm.progress import Progress

SIDE = 64
HELD_OUT = 300


class LSUNChurch64Settings(PicturesSettings):
    """Churches of 64 x 64 pixels."""

    kind: Literal["lsun_church64"] = "lsun_church64"

    shape: ClassVar[tuple[int, int, int]] = (3, SIDE, SIDE)
    needed: ClassVar[tuple[Published, ...]] = tuple(
        Published(
            f"church_outdoor_{part}_lmdb.zip",
            None,
            (f"http://dl.yf.io/lsun/scenes/church_outdoor_{part}_lmdb.zip",),  # their https has no valid certificate
            "https://www.yf.io/p/lsun",
        )
        for part in ("train", "val")
    )

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

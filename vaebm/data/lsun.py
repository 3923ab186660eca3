"""LSUN Church outdoor, 64 x 64: photographs of churches, the largest central square resized (bilinear).

As published, two LMDB databases (data/lmdb_source.py), or the images that its own tool exports from them. What lies
below a folder whose name says "val" is held out (300 as published: 126,227 for training); where there is none, the 300
whose names have the smallest SHA-256, a tenth at most.

Reference: Yu, Seff, Zhang, Song, Funkhouser, Xiao, LSUN: construction of a large-scale image dataset using deep
learning with humans in the loop, 2015.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

from vaebm.data import addresses
from vaebm.data.download import Published
from vaebm.data.image_source import ImageSource
from vaebm.data.lmdb_source import LmdbSource, databases, unpack
from vaebm.data.plan import Plan
from vaebm.data.prepared import PreparedSettings, holds_pictures, pictures_in
from vaebm.data.survey import HELD_OUT_SHARE, held_out
from vaebm.errors import InputError
from vaebm.progress import Progress

SIDE = 64
HELD_OUT = 300


class LSUNChurch64Settings(PreparedSettings):
    """Churches of 64 x 64 pixels."""

    kind: Literal["lsun_church64"] = "lsun_church64"

    needed: ClassVar[tuple[Published, ...]] = (addresses.LSUN_TRAIN, addresses.LSUN_VAL)

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, SIDE, SIDE

    def missing(self, place: Path) -> list[Published]:
        if holds_pictures(place):
            return []
        there = {path.name for path in databases(place)} | {path.stem for path in place.rglob("*.zip")}
        return [file for file in self.needed if Path(file.name).stem not in there]

    def make_ready(self, place: Path, fetch: bool, progress: Progress) -> None:
        if place.is_file() and place.name in {file.name for file in self.needed}:
            raise InputError(f"{place} is one of LSUN's databases: name the folder that holds them by --from")
        super().make_ready(place, fetch, progress)
        for file in self.needed:
            for archive in place.rglob(file.name):
                unpack(archive, progress)

    def plan(self, folder: Path) -> Plan:
        if databases(folder):
            source: ImageSource = LmdbSource(folder)
            names = source.names()
        else:
            source, names = pictures_in(folder, addresses.LSUN_TRAIN)
        test = {name for name in names if any("val" in part for part in PurePosixPath(name).parts[:-1])}
        test = test or held_out(names, min(HELD_OUT_SHARE, HELD_OUT / len(names)))
        parts = {"train": [n for n in names if n not in test], "test": [n for n in names if n in test]}
        return Plan(self.kind, "LSUN's outdoor churches", source, (SIDE, SIDE), parts, resample="bilinear")

"""LSUN Church outdoor, 64 x 64: photographs of churches, the largest central square resized (bilinear).

The published lmdb has to be exported to images first, as its own tool does. Images below a folder whose name says "val"
are held out (300 as published: 126,227 for training); where there is none, the 300 whose names have the smallest
SHA-256, a tenth at most.

Reference: Yu, Seff, Zhang, Song, Funkhouser, Xiao, LSUN: construction of a large-scale image dataset using deep
learning with humans in the loop, 2015.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

from vaebm.data import addresses
from vaebm.data.download import Published
from vaebm.data.plan import Plan
from vaebm.data.prepared import PreparedSettings, pictures_in
from vaebm.data.survey import HELD_OUT_SHARE, held_out

SIDE = 64
HELD_OUT = 300


class LSUNChurch64Settings(PreparedSettings):
    """Churches of 64 x 64 pixels."""

    kind: Literal["lsun_church64"] = "lsun_church64"

    needed: ClassVar[tuple[Published, ...]] = (addresses.LSUN_CHURCH,)

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, SIDE, SIDE

    def plan(self, folder: Path) -> Plan:
        source, names = pictures_in(folder, addresses.LSUN_CHURCH)
        test = {name for name in names if any("val" in part for part in PurePosixPath(name).parts[:-1])}
        test = test or held_out(names, min(HELD_OUT_SHARE, HELD_OUT / len(names)))
        parts = {"train": [n for n in names if n not in test], "test": [n for n in names if n in test]}
        return Plan(self.kind, "LSUN's outdoor churches", source, (SIDE, SIDE), parts, resample="bilinear")

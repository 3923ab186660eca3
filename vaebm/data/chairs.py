"""3D Chairs: 1,393 chairs rendered from 62 directions each, 86,366 images resized to 64 x 64 (bilinear).

A tenth of the chairs is held out, each with all its directions: those whose folders have the smallest SHA-256.

Reference: Aubry, Maturana, Efros, Russell, Sivic, Seeing 3D chairs: exemplar part-based 2D-3D alignment using a large
dataset of CAD models, 2014.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

from vaebm.data import addresses
from vaebm.data.download import Published
from vaebm.data.plan import Plan
from vaebm.data.prepared import PreparedSettings, pictures_in
from vaebm.data.survey import held_out
from vaebm.errors import InputError

SIDE = 64
RENDERS = "renders"


class ChairsSettings(PreparedSettings):
    """Rendered chairs of 64 x 64 pixels."""

    kind: Literal["chairs"] = "chairs"

    needed: ClassVar[tuple[Published, ...]] = (addresses.CHAIRS,)

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, SIDE, SIDE

    def plan(self, folder: Path) -> Plan:
        source, names = pictures_in(folder, addresses.CHAIRS)
        names = [name for name in names if PurePosixPath(name).parent.name == RENDERS]
        chairs = sorted({_chair(name) for name in names})
        if len(chairs) < 2:
            raise InputError(
                f"{folder} holds no CHAIR/{RENDERS}/*.png: give the folder that {self.needed[0].name} holds"
            )
        test = held_out(chairs) or {chairs[0]}
        parts = {
            "train": [name for name in names if _chair(name) not in test],
            "test": [name for name in names if _chair(name) in test],
        }
        return Plan(self.kind, "rendered chairs", source, (SIDE, SIDE), parts, resample="bilinear")


def _chair(name: str) -> str:
    return PurePosixPath(name).parent.parent.name

"""3D Chairs: 1,393 chairs rendered from 62 directions each, 86,366 images resized to 64 x 64 (bilinear).

A tenth of the chairs is held out, each with all its directions: those whose folders have the smallest SHA-256.

Reference: Aubry, Maturana, Efros, Russell, Sivic, [Seeing 3D chairs: exemplar part-based 2D-3D alignment using a large
dataset of CAD models](https://www.di.ens.fr/willow/research/seeing3Dchairs), 2014.
"""

from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

from vaebm.data.collection import held_out
from vaebm.data.manifest import Manifest, train_and_test
from vaebm.data.sets.published import PicturesSettings, pictures_in, published_files
from vaebm.errors import InputError
from vaebm.progress import Progress

SIDE = 64
RENDERS = "renders"
(TAR,) = published_files("chairs").values()


class ChairsSettings(PicturesSettings):
    """Rendered chairs of 64 x 64 pixels."""

    kind: Literal["chairs"] = "chairs"

    shape: ClassVar[tuple[int, int, int]] = (3, SIDE, SIDE)

    def manifest(self, place: Path, progress: Progress) -> Manifest:
        source, names = pictures_in(place, TAR)
        chair_of = {
            name: PurePosixPath(name).parent.parent.name for name in names if PurePosixPath(name).parent.name == RENDERS
        }
        chairs = sorted(set(chair_of.values()))
        if len(chairs) < 2:
            raise InputError(f"{place} holds no CHAIR/{RENDERS}/*.png: give the folder that {TAR.name} holds")
        test = held_out(chairs) or {chairs[0]}
        parts = train_and_test(list(chair_of), {name for name, chair in chair_of.items() if chair in test})
        return Manifest(name=self.kind, subject="rendered chairs", source=source, size=(SIDE, SIDE), parts=parts)

"""CelebA and CelebA-HQ: photographs of faces.

    celeba64       202,599 aligned faces of 178 x 218 pixels; the central 140 x 140 are resized to 64 x 64 (bilinear).
                   Its own partition: 162,770 for training, 19,867 for validation, 19,962 held out.
    celebahq256    30,000 faces, resized to 256 x 256. The first nine tenths in the order of their numbers are for
                   training, the last tenth is held out. The paper models 5 bits of each pixel: `bits: 5`.

References: Liu, Luo, Wang, Tang, [Deep learning face attributes in the wild](https://arxiv.org/abs/1411.7766), 2015;
Karras, Aila, Laine, Lehtinen, [Progressive growing of GANs](https://arxiv.org/abs/1710.10196), 2018.
"""

import re
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

from vaebm.data.collection import HELD_OUT_FRACTION
from vaebm.data.manifest import Manifest
from vaebm.data.sets.published import PicturesSettings, pictures_in, published_files
from vaebm.errors import InputError
from vaebm.progress import Progress
from vaebm.wording import counted

CROP, SMALL, LARGE = 140, 64, 256
PARTS = {"0": "train", "1": "validation", "2": "test"}
IMAGES, PARTITION = published_files("celeba64").values()
(HQ,) = published_files("celebahq256").values()


class CelebA64Settings(PicturesSettings):
    """Aligned faces of 64 x 64 pixels."""

    kind: Literal["celeba64"] = "celeba64"

    shape: ClassVar[tuple[int, int, int]] = (3, SMALL, SMALL)

    def manifest(self, place: Path, progress: Progress) -> Manifest:
        source, names = pictures_in(place, IMAGES)
        beside = place if place.is_dir() else place.parent
        partition = next(iter(sorted(beside.rglob(PARTITION.name))), None)
        if partition is None:
            raise InputError(f"{beside / PARTITION.name} is missing: get it from {IMAGES.page}")
        by_number = {PurePosixPath(name).stem: name for name in names}
        listed = _read_partition(partition)
        missing = [file for file in listed if PurePosixPath(file).stem not in by_number]
        if missing:
            raise InputError(
                f"{partition} lists {counted(len(missing), 'image')} that {source.path} does not hold, such as"
                f" {missing[0]}: get {IMAGES.name} whole from {IMAGES.page}"
            )
        parts: dict[str, list[str]] = {part: [] for part in PARTS.values()}
        for file, part in listed.items():
            parts[part].append(by_number[PurePosixPath(file).stem])
        subject = "CelebA's aligned faces"
        return Manifest(name=self.kind, subject=subject, source=source, size=(SMALL, SMALL), parts=parts, crop=CROP)


class CelebAHQ256Settings(PicturesSettings):
    """Faces of 256 x 256 pixels."""

    kind: Literal["celebahq256"] = "celebahq256"

    shape: ClassVar[tuple[int, int, int]] = (3, LARGE, LARGE)

    def manifest(self, place: Path, progress: Progress) -> Manifest:
        source, names = pictures_in(place, HQ)
        names = sorted(names, key=_number)
        rows = len(names) - round(HELD_OUT_FRACTION * len(names))
        parts = {"train": names[:rows], "test": names[rows:]}
        return Manifest(name=self.kind, subject="CelebA-HQ's faces", source=source, size=(LARGE, LARGE), parts=parts)


def _read_partition(path: Path) -> dict[str, str]:
    """File name to split."""
    listed = {}
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        file, _, part = line.strip().rpartition(" ")
        if line.strip():
            if not file or part not in PARTS:
                raise InputError(f"{path}, line {number} is no file name and a split 0, 1 or 2: replace the file")
            listed[file.strip()] = PARTS[part]
    if set(listed.values()) != set(PARTS.values()):
        raise InputError(f"{path} does not list images of all three splits: replace it by the published file")
    return listed


def _number(name: str) -> tuple[int, str]:
    digits = re.findall(r"\d+", PurePosixPath(name).stem)
    return (int(digits[-1]) if digits else 0), name

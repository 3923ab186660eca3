"""CelebA and CelebA-HQ: photographs of faces.

celeba64      202,599 aligned faces of 178 x 218 pixels; the central 140 x 140 are resized to 64 x 64 (bilinear).
              Its own partition: 162,770 for training, 19,867 for validation, 19,962 held out.
celebahq256   30,000 faces, resized to 256 x 256. The first nine tenths in the order of their numbers are for training,
              the last tenth is held out. The paper models 5 bits of each pixel: `bits: 5`.

References: Liu, Luo, Wang, Tang, Deep learning face attributes in the wild, 2015; Karras, Aila, Laine, Lehtinen,
Progressive growing of GANs, 2018.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

from vaebm.data import addresses
from vaebm.data.download import Published
from vaebm.data.found import counted
from vaebm.data.plan import Plan
from vaebm.data.prepared import PreparedSettings, pictures_in
from vaebm.errors import InputError

CROP, SMALL, LARGE = 140, 64, 256
PARTS = {"0": "train", "1": "validation", "2": "test"}
TEST_SHARE = 0.1


class CelebA64Settings(PreparedSettings):
    """Aligned faces of 64 x 64 pixels."""

    kind: Literal["celeba64"] = "celeba64"

    needed: ClassVar[tuple[Published, ...]] = (addresses.CELEBA_IMAGES, addresses.CELEBA_PARTITION)

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, SMALL, SMALL

    def plan(self, folder: Path) -> Plan:
        source, names = pictures_in(folder, addresses.CELEBA_IMAGES)
        partition = _partition(folder)
        by_number = {PurePosixPath(name).stem: name for name in names}
        listed = _read_partition(partition)
        missing = [file for file in listed if PurePosixPath(file).stem not in by_number]
        if missing:
            raise InputError(
                f"{partition} lists {counted(len(missing), 'image')} that {source.path} does not hold, such as"
                f" {missing[0]}: get {addresses.CELEBA_IMAGES.name} whole from {addresses.CELEBA_IMAGES.page}"
            )
        parts: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
        for file, part in listed.items():
            parts[part].append(by_number[PurePosixPath(file).stem])
        return Plan(self.kind, "CelebA's aligned faces", source, (SMALL, SMALL), parts, CROP, "bilinear")


class CelebAHQ256Settings(PreparedSettings):
    """Faces of 256 x 256 pixels."""

    kind: Literal["celebahq256"] = "celebahq256"

    needed: ClassVar[tuple[Published, ...]] = (addresses.CELEBAHQ,)

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, LARGE, LARGE

    def plan(self, folder: Path) -> Plan:
        source, names = pictures_in(folder, addresses.CELEBAHQ)
        names = sorted(names, key=_number)
        rows = len(names) - round(TEST_SHARE * len(names))
        parts = {"train": names[:rows], "test": names[rows:]}
        return Plan(self.kind, "CelebA-HQ's faces", source, (LARGE, LARGE), parts, resample="bilinear")


def _partition(folder: Path) -> Path:
    beside = folder if folder.is_dir() else folder.parent
    name = addresses.CELEBA_PARTITION.name
    found = next((path for path in sorted(beside.rglob(name))), None)
    if found is None:
        raise InputError(f"{beside / name} is missing: get it from {addresses.CELEBA_PARTITION.page}")
    return found


def _read_partition(path: Path) -> dict[str, str]:
    """File name to split.

    Raises:
        InputError: a line is no such pair.
    """
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

"""CIFAR-10 and CIFAR-100: 60,000 colour images of 32 x 32 pixels in ten, or in a hundred, classes.

    train         the first 45,000 of the training images, in the files' order (all 50,000 with `validation: 0`)
    validation    the last 5,000 of the training images
    test          the 10,000 of the test file

Read from the binary version, as its archive or unpacked: of each image a label byte (CIFAR-100: coarse, then fine),
then 3,072 pixel bytes, colour planes first. Reference: Krizhevsky, [Learning multiple layers of features from tiny
images](https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf), 2009.
"""

import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch

from vaebm.data.files.download import Published, check
from vaebm.data.sets.published import Labelled, LabelledSettings, published_files
from vaebm.errors import InputError
from vaebm.progress import Progress

SIDE, PIXELS = 32, 3072
HUNDRED_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
willow_tree wolf woman worm
"""


class CIFARSettings(LabelledSettings):
    """What the two have in common."""

    shape: ClassVar[tuple[int, int, int]] = (3, SIDE, SIDE)
    archive: ClassVar[Published]  # the published file
    folder: ClassVar[str]  # in the archive, and unpacked
    files: ClassVar[Mapping[str, Published]]  # the batches in it; the last one is the test images
    label_bytes: ClassVar[int]  # of an image; the last of them is its class
    other_forms: ClassVar[tuple[str, ...]]  # patterns of files that hold the set in a form that is not read

    def read(self, progress: Progress | None) -> tuple[Labelled, Labelled]:
        place = self._place(progress)
        contents = self._from_folder(place) if place.is_dir() else self._from_archive(place)
        *train, test = (self._batch(place / name, content) for name, content in contents.items())
        images, labels = (torch.cat(values) for values in zip(*train, strict=True))
        return (images, labels), test

    def _place(self, progress: Progress | None) -> Path:
        """A folder that holds any of the batches, or the archive."""
        for root in self.folders():
            for place in (root / self.folder, root):
                if any((place / name).is_file() for name in self.files):
                    return place
            if (root / self.archive.name).is_file():
                return self.obtain(self.archive, progress)
        for root in self.folders():
            for other in [path for pattern in self.other_forms for path in sorted(root.glob(pattern))]:
                raise InputError(
                    f"{other} is another form of the set, which is not read: put {self.archive.name} from"
                    f" {self.archive.page} into {root}, or unpack it there into {self.folder}"
                )
        return self.obtain(self.archive, progress)

    def _from_folder(self, folder: Path) -> dict[str, bytes]:
        for name, file in self.files.items():
            path = folder / name
            if not path.is_file():
                raise InputError(f"{path} is missing, though others of its set are there: add it, or delete {folder}")
            check(path, file)
        return {name: (folder / name).read_bytes() for name in self.files}

    def _from_archive(self, path: Path) -> dict[str, bytes]:
        """In one pass, since what is compressed cannot be searched."""
        contents = {}
        try:
            with tarfile.open(path) as archive:
                for member in archive:
                    folder, _, name = member.name.rpartition("/")
                    file = archive.extractfile(member) if folder == self.folder and name in self.files else None
                    if file is not None:
                        contents[name] = file.read()
        except (tarfile.TarError, EOFError, zlib.error):
            raise InputError(f"{path} is truncated or damaged: delete it to have it downloaded again") from None
        if missing := sorted(set(self.files) - set(contents)):
            raise InputError(f"{path} holds no {missing[0]}: delete it to have it downloaded again")
        return {name: contents[name] for name in self.files}

    def _batch(self, path: Path, content: bytes) -> Labelled:
        if len(content) % (self.label_bytes + PIXELS):
            raise InputError(f"{path} is no CIFAR batch: replace it by the published file")
        rows = np.frombuffer(content, np.uint8).reshape(-1, self.label_bytes + PIXELS)
        images = rows[:, self.label_bytes :].reshape(-1, 3, SIDE, SIDE)
        return self.labelled(images, rows[:, self.label_bytes - 1], path)


class CIFAR10Settings(CIFARSettings):
    """Ten classes of 6,000 images each."""

    kind: Literal["cifar10"] = "cifar10"

    subject: ClassVar[str] = "CIFAR-10"
    class_names: ClassVar[tuple[str, ...]] = (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    )  # fmt: skip
    archive, *_ = published_files("cifar10").values()
    files = published_files("cifar10_unpacked")
    folder: ClassVar[str] = "cifar-10-batches-bin"
    label_bytes: ClassVar[int] = 1
    other_forms: ClassVar[tuple[str, ...]] = ("cifar-10-python*", "cifar-10-batches-py", "data_batch_1*")


class CIFAR100Settings(CIFARSettings):
    """A hundred classes of 600 images each, by their fine labels."""

    kind: Literal["cifar100"] = "cifar100"

    subject: ClassVar[str] = "CIFAR-100"
    class_names: ClassVar[tuple[str, ...]] = tuple(HUNDRED_CLASSES.split())
    archive, *_ = published_files("cifar100").values()
    files = published_files("cifar100_unpacked")
    folder: ClassVar[str] = "cifar-100-binary"
    label_bytes: ClassVar[int] = 2
    other_forms: ClassVar[tuple[str, ...]] = ("cifar-100-python*",)

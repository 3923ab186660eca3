"""MNIST, Fashion-MNIST and StackedMNIST.

MNIST and Fashion-MNIST are 70,000 grey images of 28 x 28 pixels in ten classes:

    train         the first 55,000 of the training files (all 60,000 with `validation: 0`)
    validation    the last 5,000 of the training files
    test          the 10,000 of the test files

They are published in the IDX format, gzipped, an array of unsigned bytes:

    0 0 8 ndim | ndim sizes, big-endian uint32 | the bytes, last axis fastest        8 stands for unsigned bytes

StackedMNIST puts three random digits into the colours of one image: 1,000 modes that are known and can be counted. Its
draws depend on the settings alone, never on a run's seed.

    x = (d_i, d_j, d_k),   i, j, k uniform over the digits of MNIST's split of the same name
    label = 100 c_i + 10 c_j + c_k

`size: 32` puts two black pixels on every side, for nets that halve their images often.

References: LeCun, Bottou, Bengio, Haffner, [Gradient-based learning applied to document
recognition](https://doi.org/10.1109/5.726791), 1998; Xiao, Rasul, Vollgraf, [Fashion-MNIST: a novel image dataset for
benchmarking machine learning algorithms](https://arxiv.org/abs/1708.07747), 2017; Metz, Poole, Pfau, Sohl-Dickstein,
[Unrolled generative adversarial networks](https://arxiv.org/abs/1611.02163), 2017, as the [VAEBM
paper](https://arxiv.org/abs/2010.00654) (section 5.2) follows it.
"""

import gzip
import math
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from vaebm.data.describe import describe
from vaebm.data.files.download import Published
from vaebm.data.sets.published import REPLACE, Labelled, LabelledSettings, PublishedSettings, published_files
from vaebm.data.splits import DataSet
from vaebm.errors import InputError
from vaebm.progress import Progress

UNSIGNED_BYTES = 8
MAX_IDX_BYTES = 2**28  # the published ones have a fifth of that
SIDE = 28
CHANNELS = 3
SEEDS = {"train": 1, "test": 2, "validation": 3}


def read_idx(path: Path, ndim: int) -> NDArray[np.uint8]:
    """The array of `ndim` axes in a file. InputError: the file is truncated, damaged, or holds something else."""
    try:
        with gzip.open(path) as file:  # a small file may stand for more than the memory holds
            content = file.read(MAX_IDX_BYTES)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise InputError(f"{path} is truncated or damaged: delete it to have it downloaded again") from None
    start = 4 + 4 * ndim
    if len(content) < start or content[:4] != bytes((0, 0, UNSIGNED_BYTES, ndim)):
        raise InputError(f"{path} is no IDX file of bytes with {ndim} axes: replace it by the published file")
    sizes = struct.unpack(f">{ndim}I", content[4:start])
    if len(content) - start != math.prod(sizes):
        raise InputError(f"{path} does not hold {math.prod(sizes):,} bytes, as its header promises: replace it")
    return np.frombuffer(content, np.uint8, offset=start).reshape(sizes)


class IDXSettings(LabelledSettings):
    """What sets in MNIST's format have in common."""

    size: Literal[28, 32] = Field(28, description="Side of the images; 32 puts two black pixels on every side.")

    files: ClassVar[Mapping[str, Published]]

    @property
    def shape(self) -> tuple[int, int, int]:
        return 1, self.size, self.size

    def read(self, progress: Progress | None) -> tuple[Labelled, Labelled]:
        return self._pair("train", progress), self._pair("t10k", progress)

    def _pair(self, part: str, progress: Progress | None) -> Labelled:
        paths = [
            self.obtain(self.files[f"{part}-{what}-ubyte.gz"], progress) for what in ("images-idx3", "labels-idx1")
        ]
        images, labels = read_idx(paths[0], 3), read_idx(paths[1], 1)
        if images.shape[1:] != (SIDE, SIDE):
            raise InputError(f"{paths[0]} does not hold images of {SIDE} x {SIDE} pixels: {REPLACE}")
        border = (self.size - SIDE) // 2
        padded = np.pad(images, ((0, 0), (border, border), (border, border)))
        return self.labelled(padded[:, None], labels, paths[1])


class MNISTSettings(IDXSettings):
    """MNIST, handwritten digits."""

    kind: Literal["mnist"] = "mnist"

    subject: ClassVar[str] = "MNIST's handwritten digits"
    class_names: ClassVar[tuple[str, ...]] = tuple("0123456789")
    files: ClassVar[Mapping[str, Published]] = published_files("mnist")


class FashionMNISTSettings(IDXSettings):
    """Articles of clothing."""

    kind: Literal["fashion_mnist"] = "fashion_mnist"

    subject: ClassVar[str] = "Fashion-MNIST's articles of clothing"
    class_names: ClassVar[tuple[str, ...]] = (
        "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
    )  # fmt: skip
    files: ClassVar[Mapping[str, Published]] = published_files("fashion_mnist")


class StackedMNISTSettings(PublishedSettings):
    """StackedMNIST, three digits in the three colours."""

    kind: Literal["stacked_mnist"] = "stacked_mnist"
    size: Literal[28, 32] = Field(32, description="Side of the images; 32 puts two black pixels on every side.")
    train_size: int = Field(60_000, ge=1, description="Number of training stacks.")
    test_size: int = Field(10_000, ge=1, description="Number of held-out stacks.")
    validation: int = Field(
        5_000, ge=0, lt=60_000, description="Number of validation stacks, and of MNIST's digits kept for them."
    )

    class_names: ClassVar[tuple[str, ...]] = tuple(f"{number:03d}" for number in range(10**CHANNELS))

    @property
    def shape(self) -> tuple[int, int, int]:
        return CHANNELS, self.size, self.size

    def load(self, progress: Progress | None = None) -> DataSet:
        """The data set; shape (3, size, size), a thousand classes."""
        digits = MNISTSettings(root=self.root, size=self.size, validation=self.validation).parts(progress)
        stacks = {"train": self.train_size, "test": self.test_size, "validation": self.validation}
        splits = {}
        for name, (images, labels) in digits.items():
            generator = torch.Generator().manual_seed(SEEDS[name])
            rows = torch.randint(len(images), (stacks[name], CHANNELS), generator=generator)
            channels = labels[rows]
            classes = 100 * channels[:, 0] + 10 * channels[:, 1] + channels[:, 2]
            splits[name] = self.split(images[rows, 0], classes, factors=channels)
        description = describe("stacks of three MNIST digits", splits, self.class_names)
        factor_names = ("red digit", "green digit", "blue digit")
        return DataSet(self.kind, splits, description, self.class_names, factor_names)

"""MNIST and Fashion-MNIST: 70,000 grey images of 28 x 28 pixels in ten classes, in the IDX format.

    train         the first 55,000 of the training files (all 60,000 with `validation: 0`)
    validation    the last 5,000 of the training files
    test          the 10,000 of the test files

`size: 32` puts two black pixels on every side, for nets that halve their images often.

References: LeCun, Bottou, Bengio, Haffner, [Gradient-based learning applied to document
recognition](https://doi.org/10.1109/5.726791), 1998; Xiao, Rasul, Vollgraf, [Fashion-MNIST: a novel image dataset for
benchmarking machine learning algorithms](https://arxiv.org/abs/1708.07747), 2017.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from vaebm.data.files.download import Published
from vaebm.data.files.idx import read_idx
from vaebm.data.sets.published import REPLACE, Labelled, LabelledSettings
from vaebm.errors import InputError
from vaebm.progress import Progress

SIDE = 28


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
        paths = [self.obtain(self.files[f"{part}-{what}"], progress) for what in ("images-idx3", "labels-idx1")]
        images, labels = read_idx(paths[0], 3), read_idx(paths[1], 1)
        if images.shape[1:] != (SIDE, SIDE):
            raise InputError(f"{paths[0]} does not hold images of {SIDE} x {SIDE} pixels: {REPLACE}")
        border = (self.size - SIDE) // 2
        padded = np.pad(images, ((0, 0), (border, border), (border, border)))
        return self.labelled(padded[:, None], labels, paths[1])


def _published(digests: dict[str, str], folders: tuple[str, ...], page: str) -> dict[str, Published]:
    return {
        name: Published(
            f"{name}-ubyte.gz", f"sha256:{digest}", tuple(f"{folder}/{name}-ubyte.gz" for folder in folders), page
        )
        for name, digest in digests.items()
    }


class MNISTSettings(IDXSettings):
    """MNIST, handwritten digits."""

    kind: Literal["mnist"] = "mnist"

    subject: ClassVar[str] = "MNIST's handwritten digits"
    class_names: ClassVar[tuple[str, ...]] = tuple("0123456789")
    files: ClassVar[Mapping[str, Published]] = _published(
        {
            "train-images-idx3": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "t10k-images-idx3": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels-idx1": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
        (
            "https://storage.googleapis.com/cvdf-datasets/mnist",
            "https://ossci-datasets.s3.amazonaws.com/mnist",
            "http://yann.lecun.com/exdb/mnist",
        ),
        "http://yann.lecun.com/exdb/mnist",
    )


class FashionMNISTSettings(IDXSettings):
    """Articles of clothing."""

    kind: Literal["fashion_mnist"] = "fashion_mnist"

    subject: ClassVar[str] = "Fashion-MNIST's articles of clothing"
    class_names: ClassVar[tuple[str, ...]] = (
        "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
    )  # fmt: skip
    files: ClassVar[Mapping[str, Published]] = _published(
        {
            "train-images-idx3": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
        ),
        "https://github.com/zalandoresearch/fashion-mnist",
    )

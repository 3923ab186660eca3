"""StackedMNIST: three random MNIST digits as the colours of one image, 1,000 modes that are known and can be counted.

    x = (d_i, d_j, d_k),   i, j, k uniform over the digits of MNIST's split of the same name
    label = 100 c_i + 10 c_j + c_k

`size: 32`, the usual form, puts two black pixels on every side. The draws depend on the settings alone, never on a
run's seed. References: Metz, Poole, Pfau, Sohl-Dickstein, [Unrolled generative adversarial
networks](https://arxiv.org/abs/1611.02163), 2017, as the [VAEBM paper](https://arxiv.org/abs/2010.00654) (section 5.2)
follows it.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field

from vaebm.data.describe import describe
from vaebm.data.sets.mnist import MNISTSettings
from vaebm.data.sets.published import PublishedSettings
from vaebm.data.splits import DataSet
from vaebm.progress import Progress

CHANNELS = 3
SEEDS = {"train": 1, "test": 2, "validation": 3}


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

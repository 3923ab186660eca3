"""StackedMNIST: three random MNIST digits as the colours of one image, 1,000 modes that are known and can be counted.

    x = (d_i, d_j, d_k),   i, j, k uniform over the digits of MNIST's split of the same name
    label = 100 c_i + 10 c_j + c_k

`size: 32`, the usual form, puts two black pixels on every side. The draws depend on the settings alone, never on a
run's seed. Reference: Metz, Poole, Pfau, Sohl-Dickstein, Unrolled generative adversarial networks, 2017, as the
VAEBM paper (Xiao et al., 2021, section 5.2) follows it.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field

from vaebm.data.found import found_in_files
from vaebm.data.mnist import VALIDATION, MNISTSettings
from vaebm.data.splits import DataSet
from vaebm.data.stored import StoredSettings
from vaebm.progress import Progress

CHANNELS = 3
SEEDS = {"train": 1, "test": 2, "validation": 3}


class StackedMNISTSettings(StoredSettings):
    """Stacked digits."""

    kind: Literal["stacked_mnist"] = "stacked_mnist"
    size: Literal[28, 32] = 32
    train_size: int = Field(60_000, ge=1)
    test_size: int = Field(10_000, ge=1)
    validation: int = Field(VALIDATION, ge=0, lt=60_000, description="stacks of MNIST's digits held from training")

    @property
    def shape(self) -> tuple[int, int, int]:
        return CHANNELS, self.size, self.size

    @property
    def class_names(self) -> tuple[str, ...] | None:
        return tuple(f"{number:03d}" for number in range(1000))

    def load(self, progress: Progress | None = None) -> DataSet:
        """The data set; shape (3, size, size), a thousand classes."""
        digits = MNISTSettings(root=self.root, size=self.size, validation=self.validation).read(progress)
        stacks = {"train": self.train_size, "test": self.test_size, "validation": self.validation}
        parts = {}
        for name, (images, labels) in digits.items():
            generator = torch.Generator().manual_seed(SEEDS[name])
            rows = torch.randint(len(images), (stacks[name], CHANNELS), generator=generator)
            channels = labels[rows]
            parts[name] = self.split(
                images[rows, 0], 100 * channels[:, 0] + 10 * channels[:, 1] + channels[:, 2], factors=channels
            )
        return DataSet(
            name=self.kind,
            shape=(CHANNELS, self.size, self.size),
            train=parts["train"],
            test=parts["test"],
            validation=parts.get("validation"),
            class_names=self.class_names,
            found=found_in_files("stacks of three MNIST digits", parts, self.class_names),
            factor_names=("red digit", "green digit", "blue digit"),
        )

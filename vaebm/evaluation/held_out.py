"""Held-out data in two parts: what samples are compared with, and what they are compared to reach.

    reference   the test split
    floor       the validation split, measured like samples: real data to which nothing was fitted either, so the
                distance of a perfect model at that number of images

Samples and the floor are both strangers to the reference. Against training images a model may pass the floor by
remembering them: classifier, mixture and energy have seen them, and held-out images have not been seen by anything.

Where a set has no validation split, its test split is divided by a fixed random choice; a handful of test data is both.
"""

from typing import NamedTuple

import torch

from vaebm.data import DataSet
from vaebm.data.splits import Split

CHOICE_SEED = 0  # of real images, the same for every run and seed
MOST = 20_000  # images of a part that was divided
FEWEST = 8  # test data that are divided


class HeldOut(NamedTuple):
    """The two parts."""

    reference: Split
    floor: Split

    @classmethod
    def of(cls, data: DataSet) -> "HeldOut":
        """Of a data set."""
        if data.validation is not None:
            return cls(data.test, data.validation)
        if len(data.test) < FEWEST:
            return cls(data.test, data.test)
        order = torch.randperm(len(data.test), generator=torch.Generator().manual_seed(CHOICE_SEED))
        half = len(order) // 2
        first, second = (rows[:MOST].sort().values for rows in (order[half:], order[:half]))
        return cls(data.test.subset(first), data.test.subset(second))

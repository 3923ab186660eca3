"""The 1,797 handwritten digits that come with scikit-learn: real data of 8 x 8 pixels, no download.

Each pixel counts the ink in a 4 x 4 block of a 32 x 32 scan, so values run from 0 to 16 and half of them are exactly 0.
The split is fixed and stratified by class: 360 digits are held out, 1,437 are for training.

Reference: E. Alpaydin, C. Kaynak, [Optical Recognition of Handwritten Digits](https://doi.org/10.24432/C50P49), UCI
Machine Learning Repository, 1998 (its test part, as scikit-learn's `load_digits` has it).
"""

from typing import Literal

import numpy as np
import torch

from vaebm.data.settings import DataSettings
from vaebm.data.splits import DataSet, Split, saturated_fraction
from vaebm.progress import Progress

LEVELS = 16
HELD_OUT = 360


class DigitsSettings(DataSettings):
    """scikit-learn's 8 x 8 digits."""

    kind: Literal["digits"] = "digits"

    def load(self, progress: Progress | None = None) -> DataSet:
        """The data set; shape (1, 8, 8), ten classes."""
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        images, classes = load_digits().images.astype(np.uint8)[:, None], load_digits().target
        rows = train_test_split(np.arange(len(images)), test_size=HELD_OUT, random_state=0, stratify=classes)
        train, test = (
            Split(torch.from_numpy(images[part]), torch.from_numpy(classes[part].astype(np.int64)), LEVELS)
            for part in (np.sort(part) for part in rows)
        )
        description = (
            f"{len(images):,} handwritten digits of 8 x 8 pixels, grey, in ten classes; "
            f"{len(train):,} for training and {len(test)} held out; pixel values 0 to {LEVELS}, "
            f"{saturated_fraction(train):.0%} of them exactly black or white; nothing was skipped."
        )
        return DataSet("digits", {"train": train, "test": test}, description, tuple("0123456789"))

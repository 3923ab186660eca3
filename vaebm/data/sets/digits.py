"""The 1,797 handwritten digits that come with scikit-learn: real data of 8 x 8 pixels, no download.

Each pixel counts the ink in a 4 x 4 block of a 32 x 32 scan, so values run from 0 to 16 and half of them are exactly 0.
The splits are fixed and stratified by class:

    test          360 digits, held out
    validation    200 of the other 1,437 (none with `validation: 0`)
    train         the rest

Reference: E. Alpaydin, C. Kaynak, [Optical Recognition of Handwritten Digits](https://doi.org/10.24432/C50P49), UCI
Machine Learning Repository, 1998 (its test part, as scikit-learn's `load_digits` has it).
"""

from typing import Literal

import numpy as np
import torch
from pydantic import Field

from vaebm.data.settings import DataSettings
from vaebm.data.splits import DataSet, Split, saturated_fraction
from vaebm.progress import Progress

LEVELS = 16
HELD_OUT = 360


class DigitsSettings(DataSettings):
    """scikit-learn's 8 x 8 digits."""

    kind: Literal["digits"] = "digits"
    validation: int = Field(200, ge=0, le=1000, description="Number of training digits kept for validation.")

    def load(self, progress: Progress | None = None) -> DataSet:
        """The data set; shape (1, 8, 8), ten classes."""
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        images, classes = load_digits().images.astype(np.uint8)[:, None], load_digits().target
        train, test = train_test_split(np.arange(len(images)), test_size=HELD_OUT, random_state=0, stratify=classes)
        rows = {"train": train, "test": test}
        if self.validation:
            rows["train"], rows["validation"] = train_test_split(
                train, test_size=self.validation, random_state=0, stratify=classes[train]
            )
        splits = {
            name: Split(torch.from_numpy(images[part]), torch.from_numpy(classes[part].astype(np.int64)), LEVELS)
            for name, part in ((name, np.sort(part)) for name, part in rows.items())
        }
        validation = f"{self.validation} for validation, " if self.validation else ""
        description = (
            f"{len(images):,} handwritten digits of 8 x 8 pixels, grey, in ten classes; "
            f"{len(splits['train']):,} for training, {validation}{HELD_OUT} held out; pixel values 0 to {LEVELS}, "
            f"{saturated_fraction(splits['train']):.0%} of them exactly black or white; nothing was skipped."
        )
        return DataSet("digits", splits, description, tuple("0123456789"))

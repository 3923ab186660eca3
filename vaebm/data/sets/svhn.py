"""SVHN: house numbers from street photographs, cropped to digits of 32 x 32 pixels in colour (the "format 2" files).

    train         the first 68,257 of the training images (all 73,257 with `validation: 0`)
    validation    the last 5,000 of the training images
    test          the 26,032 of the test file

The files are MATLAB 5 arrays, X (32, 32, 3, N) and y (N, 1), where 10 stands for the digit 0; a MATLAB 5 file holds
numbers and nothing that could run. Reference: Netzer et al., [Reading digits in natural images with unsupervised
feature learning](http://ufldl.stanford.edu/housenumbers/nips2011_housenumbers.pdf), 2011.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np

from vaebm.data.files.download import Published
from vaebm.data.sets.published import REPLACE, Labelled, LabelledSettings, published_files
from vaebm.errors import InputError
from vaebm.progress import Progress

SHAPE = (32, 32, 3)


class SVHNSettings(LabelledSettings):
    """Street View House Numbers."""

    kind: Literal["svhn"] = "svhn"

    shape: ClassVar[tuple[int, int, int]] = (3, 32, 32)
    subject: ClassVar[str] = "house numbers (SVHN)"
    class_names: ClassVar[tuple[str, ...]] = tuple("0123456789")
    files: ClassVar[Mapping[str, Published]] = published_files("svhn")

    def read(self, progress: Progress | None) -> tuple[Labelled, Labelled]:
        return self._part("train", progress), self._part("test", progress)

    def _part(self, part: str, progress: Progress | None) -> Labelled:
        from scipy.io import loadmat

        path = self.obtain(self.files[f"{part}_32x32.mat"], progress)
        try:
            arrays = loadmat(path, variable_names=["X", "y"])
            images, labels = arrays["X"], arrays["y"].reshape(-1)
        except Exception as error:  # noqa: BLE001 - a damaged file raises what its bytes happen to lead to
            raise InputError(
                f"{path} is truncated or no MATLAB 5 file with X and y ({type(error).__name__}): delete it to have it"
                " downloaded again"
            ) from None
        if images.shape[:3] != SHAPE or images.dtype != np.uint8 or images.ndim != 4:
            raise InputError(f"{path} holds no colour images of 32 x 32 pixels: {REPLACE}")
        return self.labelled(images.transpose(3, 2, 0, 1), labels % 10, path)

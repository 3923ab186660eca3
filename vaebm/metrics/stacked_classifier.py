"""StackedMNIST's classifier: the recipe's classifier of single digits, which reads every channel of an image.

    class = 100 a + 10 b + c     of an image whose channels it takes for the digits a, b and c
    features = its 64 features of each channel, in order: 192

By the protocol a thousand classes are told apart with three classifications of ten. The classifier of digits is trained
on the channels of the stacks of the training split, by the protocol of `metrics/classifier.py`.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from vaebm.data.splits import DataSet, Split
from vaebm.errors import InputError
from vaebm.metrics.arrays import Array, as_images
from vaebm.metrics.classifier import Classifier, train_classifier

DIGITS = 10


def is_stacked(data: DataSet) -> bool:
    """Whether these are stacks of digits: a digit of every channel as the factors, a class of every combination."""
    channels = data.shape[0]
    factors, classes = data.factor_names or (), data.class_names or ()
    return data.modality.pictured and len(factors) == channels and len(classes) == DIGITS**channels


class StackedClassifier:
    """A classifier of digits (1, H, W) that reads images of several channels.

    Args:
        digits: of ten classes.
        channels: of an image.
    """

    def __init__(self, digits: Classifier, channels: int = 3) -> None:
        self.digits, self.channels = digits, channels
        self.classes = DIGITS**channels

    def features(self, images: Tensor) -> Tensor:
        """(B, channels * 64) of images (B, channels, H, W) in [-1, 1].

        Raises:
            InputError: images of another shape than it was trained on.
        """
        return self.digits.features(self._each(images)).reshape(len(images), -1)

    def predict(self, images: Array) -> Tensor:
        """Classes (n,) int64 of images (n, channels, H, W) in [-1, 1]."""
        images = as_images(images)
        digits = self.digits.predict(self._each(images)).reshape(len(images), self.channels)
        place = DIGITS ** torch.arange(self.channels - 1, -1, -1)
        return (digits * place).sum(1)

    def sha256(self) -> str:
        """Of the digits' classifier."""
        return self.digits.sha256()

    def _each(self, images: Tensor) -> Tensor:
        """(B * channels, 1, H, W)."""
        if images.ndim != 4 or images.shape[1] != self.channels:
            raise InputError(f"stacks have {self.channels} channels, and these images are {tuple(images.shape[1:])}")
        return images.reshape(-1, 1, *images.shape[2:])


def train_stacked_classifier(split: Split) -> StackedClassifier:
    """Trains the classifier of digits on the channels of stacks, whose digits are the split's factors (N, channels).

    Raises:
        InputError: the split holds no stacks of digits.
    """
    if split.factors is None or split.levels is None or split.factors.shape[1] != split.values.shape[1]:
        raise InputError("a classifier of stacks needs images with the digit of every channel as their factors")
    values = split.values if isinstance(split.values, Tensor) else split.values[torch.arange(len(split))]
    channels = values.shape[1]
    digits = replace(
        split, values=values.reshape(-1, 1, *values.shape[2:]), labels=split.factors.flatten().long(), factors=None
    )
    return StackedClassifier(train_classifier(digits, DIGITS), channels)

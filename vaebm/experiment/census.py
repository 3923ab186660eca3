"""Census: what is counted of images without features, by the same rules for samples and for held-out images.

    pixels_between_ends   share of values that are neither black nor white (metrics/saturation.py)
    class_gap             where there are labels: largest difference of class shares from the training data's
    modes_covered         of stacked digits, in its place: classes that occur among the thousand,
    mode_kl               and the divergence of their shares from the training data's (metrics/class_histogram.py)

Classes of samples, and of held-out images, are what the recipe's classifier takes them for; of training data they are
the labels. All but the first depend on the number of images: compare at equal ones. Of several draws it is the mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from vaebm import metrics
from vaebm.data import DataSet
from vaebm.experiment.yardstick import AnyClassifier, some_of
from vaebm.metrics.measurement import Measurement
from vaebm.metrics.stacked_classifier import is_stacked

NAMES = ("pixels_between_ends", "class_gap", "modes_covered", "mode_kl")


class Census:
    """Counts on one data set; the classifier is made when it is first needed.

    Args:
        n: images in a draw.
        data: of images.
        classifier: makes or reads the recipe's classifier; not called without labels.
    """

    def __init__(self, n: int, data: DataSet, classifier: Callable[[], AnyClassifier]) -> None:
        self.n, self.data, self._classifier = n, data, classifier

    @property
    def protocol(self) -> dict[str, Any]:
        """What the settings say before it is measured."""
        return {"samples_asked": self.n}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What can be counted of these data."""
        if self.data.train.labels is None or self.data.class_names is None:
            return NAMES[:1]
        if not is_stacked(self.data):
            return NAMES[:2]
        every_class = torch.bincount(self.data.train.labels, minlength=len(self.data.class_names)).all()
        return (NAMES[0], *NAMES[2:]) if every_class else NAMES[:1]

    @cached_property
    def held_out(self) -> Tensor:
        """Which held-out images are counted, indices (n or fewer,)."""
        return some_of(len(self.data.test), self.n)

    def of_held_out(self, names: Sequence[str]) -> list[Measurement]:
        """Of held-out images."""
        return self.of_draws([self.data.test.batch(self.held_out).x], names)

    def of_draws(self, draws: Sequence[Tensor], names: Sequence[str]) -> list[Measurement]:
        """Of draws of equally many images in the model's range; of `names`, those that apply."""
        counted = [self._count(draw, set(names).intersection(self.names)) for draw in draws]
        return [Measurement.mean_of([count[name] for count in counted]) for name in counted[0]]

    def _count(self, images: Tensor, names: set[str]) -> dict[str, Measurement]:
        found: dict[str, Measurement] = {}
        if "pixels_between_ends" in names:
            assert self.data.test.levels is not None
            found["pixels_between_ends"] = metrics.pixels_between_ends(images, self.data.test.levels)
        if names - {"pixels_between_ends"}:
            labels, classifier = self.data.train.labels, self._classifier()
            assert labels is not None
            classes = classifier.predict(images)
            by_class = (
                metrics.class_modes(classes, labels, classifier.classes)
                if is_stacked(self.data)
                else {"class_gap": metrics.class_gap(classes, labels, classifier.classes)}
            )
            of = {"classifier": classifier.sha256(), "split": "train"}
            found |= {name: m.with_settings(**of) for name, m in by_class.items() if name in names}
        return found

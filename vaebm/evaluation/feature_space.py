"""A feature space: features, how many samples are looked at there, and the real images that they are compared with.

    distance            Fréchet or kernel distance of features(all samples) to features(reference_n test images)
    precision, recall,  of features(n samples) against features(n test images), since they depend on how dense
    density, coverage   either set lies

The test images are the reference, and the floor are validation images (evaluation/held_out.py).

Several kinds of features may stand beside each other in a recipe, each with its own numbers:

    evaluation: {features: {classifier: {n: 10000}, inception-768: {n: 5000, reference_n: 10000}}}

Where fewer real images are asked for than there are, a fixed random choice is taken: files are often sorted. (The first
half of MNIST's test images was written by other people than the second, and has three times the distance to the
training images that a random half has.) Images of the floor are as many as the samples where there are as many, since
the bias of a Fréchet distance depends on n.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from vaebm import metrics
from vaebm.data.splits import Split
from vaebm.evaluation.held_out import CHOICE_SEED, HeldOut
from vaebm.evaluation.noise_scale import best_scale
from vaebm.evaluation.settings import INCEPTION_LAYERS, FeatureSettings, FeaturesName
from vaebm.progress import Progress

INCEPTION_SAMPLES, INCEPTION_REFERENCES = 5_000, 10_000
SCALE_SAMPLES = 500  # of a slow network, by which a noise scale is chosen
AnyClassifier = metrics.Classifier | metrics.StackedClassifier


class FeatureSpace:
    """One kind of features on held-out data; the network and the reference are made when they are first needed.

    There are `n` samples where the settings do not say; `classifier` makes or reads the recipe's, and an Inception
    network runs on `device`.
    """

    def __init__(
        self,
        name: FeaturesName,
        settings: FeatureSettings,
        n: int,
        held_out: HeldOut,
        classifier: Callable[[], AnyClassifier],
        device: torch.device,
        progress: Progress,
    ) -> None:
        self.name, self.settings, self.held_out, self.device = name, settings, held_out, device
        self._classifier, self._progress = classifier, progress
        slow = name in INCEPTION_LAYERS
        self.n = settings.n or (min(n, INCEPTION_SAMPLES) if slow else n)
        most = len(held_out.reference)
        self.reference_n = min(settings.reference_n or (INCEPTION_REFERENCES if slow else most), most)

    @property
    def fewest(self) -> int:
        """Images in the smallest of the sets that are compared."""
        return min(len(self.held_out.floor), self.n, self.reference_n)

    def protocol(self, balls: bool) -> dict[str, Any]:
        """What settings say before it is measured; with `balls` it is against as many real images as samples."""
        reference_n = min(self.n, self.reference_n) if balls else self.reference_n
        protocol = {"features": self.name, "samples_asked": self.n, "reference_n": reference_n, "split": "test"}
        return protocol | ({"precision": self.settings.precision} if self.name in INCEPTION_LAYERS else {})

    @cached_property
    def features(self) -> metrics.Features:
        if self.name == "pixels":
            return metrics.pixel_features()
        if self.name == "classifier":
            return metrics.classifier_features(self._classifier())
        layer = INCEPTION_LAYERS[self.name]
        return metrics.inception_layer(layer, precision=self.settings.precision, device=self.device)

    @cached_property
    def reference(self) -> Tensor:
        """Rows of the test images, (reference_n, dim)."""
        return self._real_rows("test images", self.held_out.reference, self.reference_n)

    @cached_property
    def manifold(self) -> metrics.Manifold:
        """Rows of as many test images as there are samples, with the balls about them."""
        return metrics.Manifold(self.reference[some_of(self.reference_n, self.n)], "reference")

    @cached_property
    def floor(self) -> Tensor:
        """Rows of n images of the floor, or of all where there are fewer."""
        return self._real_rows("held-out images", self.held_out.floor, self.n)

    def rows(self, images: Tensor) -> Tensor:
        with self._advancing("images", len(images)) as advance:
            return self.features(images, advance)

    def noise_scale(self, rendered: Callable[[float, int], Tensor]) -> float:
        """The scale at which samples are closest to the floor's images.

        `rendered` gives samples (m, *data_shape) with their pixel noise at a scale, m of them at most as it is told.
        """
        count = min(self.n, SCALE_SAMPLES) if self.features.slow else self.n
        moments = metrics.Moments.of(self.floor[:count], "floor")

        def distance(scale: float) -> float:
            rows = self.rows(rendered(scale, count))
            return metrics.frechet_from_moments(metrics.Moments.of(rows), moments)

        return best_scale(distance)

    def _real_rows(self, what: str, split: Split, count: int) -> Tensor:
        indices = some_of(len(split), count)
        with self._advancing(what, len(indices)) as advance:
            return metrics.real_features(self.features, split, indices, advance)

    @contextmanager
    def _advancing(self, what: str, count: int) -> Iterator[Callable[[int], None] | None]:
        if not self.features.slow:
            yield None
            return
        with self._progress.task(f"{self.name} features of {what}", count, "images") as task:
            yield task.advance


def some_of(count: int, wanted: int) -> Tensor:
    """Indices (min(count, wanted),): all in order, or a fixed random choice."""
    if wanted >= count:
        return torch.arange(count)
    return torch.randperm(count, generator=torch.Generator().manual_seed(CHOICE_SEED))[:wanted]

"""Yardstick: features, how many samples are looked at on them, and the real images that these are compared with.

    distance            Frechet or kernel distance of features(n samples) to features(reference_n training images)
    precision, recall,  of features(n samples) against features(n training images), since they depend on how dense
    density, coverage   either set lies

Several may stand beside each other in a recipe, each with its own numbers:

    evaluation: {features: {classifier: {n: 10000}, inception-768: {n: 5000, reference_n: 10000}}}

Where fewer real images are asked for than there are, a fixed random choice is taken: files are often sorted. (The first
half of MNIST's test images was written by other people than the second, and has three times the distance to the
training images that a random half has.) Held-out images are as many as the samples where there are as many, since the
bias of a Frechet distance depends on n.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from vaebm import metrics
from vaebm.data import DataSet
from vaebm.metrics.measurement import Measurement
from vaebm.progress import Progress

AnyClassifier = metrics.Classifier | metrics.StackedClassifier
FeaturesName = Literal["classifier", "pixels", "inception-64", "inception-192", "inception-768", "inception-2048"]
INCEPTION_LAYERS: dict[str, Literal[64, 192, 768, 2048]] = {
    "inception-64": 64,
    "inception-192": 192,
    "inception-768": 768,
    "inception-2048": 2048,
}
INCEPTION_SAMPLES, INCEPTION_REFERENCES = 5_000, 10_000
DISTANCES = ("frechet_distance", "kernel_distance")
PRECISION_RECALL, DENSITY_COVERAGE = ("precision", "recall"), ("density", "coverage")
NAMES = (*DISTANCES, *PRECISION_RECALL, *DENSITY_COVERAGE)
FEWEST = 20  # images: fewer give no block estimate of a kernel distance, and hardly neighbours
CHOICE_SEED = 0  # of real images, the same for every run and seed


class YardstickSettings(BaseModel):
    """What a recipe says of one kind of features."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    n: int | None = Field(None, ge=2, description="samples; null: evaluation.n, for inception 5,000 at most")
    reference_n: int | None = Field(None, ge=2, description="training images; null: all, for inception 10,000 at most")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="of an inception network; compare within")


class Yardstick:
    """One kind of features on one data set; the network and the reference are made when they are first needed.

    Args:
        name: of the features.
        settings: what the recipe says of them.
        n: samples, where the settings do not say.
        data: of images.
        classifier: makes or reads the recipe's classifier.
        device: where an Inception network is to run.
        progress: told of what takes long.
    """

    def __init__(
        self,
        name: FeaturesName,
        settings: YardstickSettings,
        n: int,
        data: DataSet,
        classifier: Callable[[], AnyClassifier],
        device: torch.device,
        progress: Progress,
    ) -> None:
        self.name, self.settings, self.data, self.device = name, settings, data, device
        self._classifier, self._progress = classifier, progress
        slow = name in INCEPTION_LAYERS
        self.n = settings.n or (min(n, INCEPTION_SAMPLES) if slow else n)
        wanted = settings.reference_n or (INCEPTION_REFERENCES if slow else len(data.train))
        self.reference_n = min(wanted, len(data.train))

    def protocol(self, name: str) -> dict[str, Any]:
        """What a measurement's settings say of the yardstick before it is measured."""
        reference_n = self.reference_n if name in DISTANCES else min(self.n, self.reference_n)
        protocol = {"features": self.name, "samples_asked": self.n, "reference_n": reference_n}
        return protocol | ({"precision": self.settings.precision} if self.name in INCEPTION_LAYERS else {})

    @cached_property
    def features(self) -> metrics.Features:
        """The map from images to rows."""
        if self.name == "pixels":
            return metrics.pixel_features()
        if self.name == "classifier":
            return metrics.classifier_features(self._classifier())
        layer = INCEPTION_LAYERS[self.name]
        return metrics.inception_layer(layer, precision=self.settings.precision, device=self.device)

    @cached_property
    def reference(self) -> Tensor:
        """Rows of the training images, (reference_n, dim)."""
        indices = some_of(len(self.data.train), self.reference_n)
        with self._advancing("training images", len(indices)) as advance:
            return metrics.real_features(self.features, self.data.train, indices, advance)

    @cached_property
    def held_out(self) -> Tensor:
        """Which held-out images are looked at, indices (n or fewer,)."""
        return some_of(len(self.data.test), self.n)

    @cached_property
    def manifold(self) -> metrics.Manifold:
        """Rows of as many training images as there are samples, with the balls about them."""
        return metrics.Manifold(self.reference[some_of(self.reference_n, self.n)], "reference")

    @property
    def names(self) -> tuple[str, ...]:
        """What can be measured: the Frechet distance alone of a handful of images."""
        return NAMES if min(len(self.data.test), self.n, self.reference_n) >= FEWEST else NAMES[:1]

    def rows(self, images: Tensor) -> Tensor:
        """Feature rows of images (n, C, H, W) in the model's range."""
        with self._advancing("images", len(images)) as advance:
            return self.features(images, advance)

    def of_held_out(self, names: Collection[str] = NAMES) -> list[Measurement]:
        """Measurements of held-out images; of `names`, those that can be."""
        with self._advancing("held-out images", len(self.held_out)) as advance:
            rows = metrics.real_features(self.features, self.data.test, self.held_out, advance)
        return self._measured([rows], names)

    def of_draws(self, draws: Sequence[Tensor], names: Collection[str] = NAMES) -> list[Measurement]:
        """The same of draws of equally many samples, in the model's range: the mean over draws."""
        return self._measured([self.rows(draw) for draw in draws], names)

    def _measured(self, draws: Sequence[Tensor], names: Collection[str]) -> list[Measurement]:
        found, names = [], set(names).intersection(self.names)
        if "frechet_distance" in names and len(draws) > 1:
            found.append(metrics.repeated_frechet(draws, self.reference))
        elif "frechet_distance" in names:
            found.append(metrics.frechet_distance(draws[0], self.reference))
        if "kernel_distance" in names:
            found.append(metrics.kernel_distance(torch.cat(list(draws)), self.reference))
        for measure, of in ((metrics.precision_recall, PRECISION_RECALL), (metrics.density_coverage, DENSITY_COVERAGE)):
            if names.intersection(of):
                by_draw = [measure(draw, self.manifold) for draw in draws]
                found += [Measurement.mean_of([one[name] for one in by_draw]) for name in of if name in names]
        return [m.with_settings(**self.protocol(m.name) | self.features.settings, split="train") for m in found]

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

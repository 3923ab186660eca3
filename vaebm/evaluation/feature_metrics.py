"""Feature metrics: distances and neighbourhoods of features of samples, against those of test images.

Distances are of all draws together, since their bias falls with the number of samples; what depends on how dense either
set lies is a mean over draws of equal n.

The formulas are in metrics/frechet.py, metrics/kernel_distance.py and metrics/manifold.py; what is compared with what,
in evaluation/feature_space.py.
"""

from collections.abc import Sequence

import torch

from vaebm import metrics
from vaebm.evaluation.metric import Given, Metric, Need
from vaebm.evaluation.quantity import Quantity
from vaebm.metrics.measurement import Measurement

FEWEST = 20  # images: fewer give no block estimate of a kernel distance, and hardly neighbours
FEATURES: frozenset[Need] = frozenset({"features"})


class FrechetDistance(Metric):
    """Of all draws together."""

    quantities = (
        Quantity("frechet_distance", "Fréchet distance", "the Fréchet distance to test data", better="lower"),
    )
    needs = FEATURES

    def measure(self, given: Given) -> list[Measurement]:
        return [metrics.frechet_distance(torch.cat(given.rows), given.space.reference)]


class KernelDistance(Metric):
    """Of all draws together."""

    quantities = (Quantity("kernel_distance", "kernel distance", "the kernel distance to test data", better="lower"),)
    needs, fewest = FEATURES, FEWEST

    def measure(self, given: Given) -> list[Measurement]:
        return [metrics.kernel_distance(torch.cat(given.rows), given.space.reference)]


class PrecisionRecall(Metric):
    """The mean over draws."""

    quantities = (
        Quantity("precision", "precision", "the fraction of samples among the data", "%", "higher", 100.0),
        Quantity("recall", "recall", "the fraction of the data among samples", "%", "higher", 100.0),
    )
    needs, fewest, balls = FEATURES, FEWEST, True

    def measure(self, given: Given) -> list[Measurement]:
        return mean_over_draws([metrics.precision_recall(rows, given.space.manifold) for rows in given.rows])


class DensityCoverage(Metric):
    """The mean over draws."""

    quantities = (
        Quantity("density", "density", "the density of the data about samples", better="higher"),
        Quantity("coverage", "coverage", "the fraction of the data with samples nearby", "%", "higher", 100.0),
    )
    needs, fewest, balls = FEATURES, FEWEST, True

    def measure(self, given: Given) -> list[Measurement]:
        return mean_over_draws([metrics.density_coverage(rows, given.space.manifold) for rows in given.rows])


def mean_over_draws(by_draw: Sequence[dict[str, Measurement]]) -> list[Measurement]:
    """Of every measurement by name, the mean over draws."""
    return [Measurement.mean_of([one[name] for one in by_draw]) for name in by_draw[0]]

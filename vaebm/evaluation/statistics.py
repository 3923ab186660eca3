"""Statistics: what is counted of samples without features, by the same rules for samples and held-out data.

    modes_covered, ...     of points whose truth is a known mixture, against its modes (metrics/modes.py)
    pixels_between_ends    share of values that are neither black nor white (metrics/saturation.py)
    memorised_fraction     of fewer than 1,000 training images: the fraction of samples that repeats one of them
                           (metrics/memorisation.py)
    class_gap              where there are labels: largest difference of class shares from the training data's
    modes_covered          of stacked digits, in its place: classes that occur among the thousand,
    mode_kl                and the divergence of their shares from the training data's (metrics/modes.py)
    seconds_per_thousand   how long the model's samples take to draw and to show, on the machine that measures

Classes of samples, and of held-out images, are what the recipe's classifier takes them for; of training data they are
the labels. All but pixels and time depend on the number of samples: compare at equal ones. Of several draws it is the
mean.
"""

import torch

from vaebm import metrics
from vaebm.data import DataSet, ModesTruth
from vaebm.data.collection import FEW
from vaebm.evaluation.drawn import RECONSTRUCTION
from vaebm.evaluation.feature_metrics import mean_over_draws
from vaebm.evaluation.held_out import HeldOut
from vaebm.evaluation.metric import Given, Metric, Need
from vaebm.evaluation.quantity import Quantity
from vaebm.metrics.classifier import is_stacked
from vaebm.metrics.measurement import Measurement
from vaebm.models import Model

MODES_COVERED = Quantity("modes_covered", "modes covered", "the number of modes covered", better="higher", whole=True)
MODE_KL = Quantity("mode_kl", "KL of mode shares", "the KL divergence of mode shares", "nats", "lower")


class Modes(Metric):
    """Of data whose truth is a mixture of equal round Gaussians."""

    quantities = (
        MODES_COVERED,
        Quantity("within_three_sigma", "within 3 σ of a mode", "the share within 3 σ of a mode", "%", "higher", 100.0),
        MODE_KL,
    )
    needs = frozenset({"samples"})

    def applies(self, subject: str, data: DataSet, model: Model) -> bool:
        return isinstance(data.truth, ModesTruth)

    def measure(self, given: Given) -> list[Measurement]:
        truth = given.data.truth
        assert isinstance(truth, ModesTruth)
        return mean_over_draws([metrics.mode_measurements(x, truth.modes, truth.scale) for x in given.draws])


SAMPLES: frozenset[Need] = frozenset({"samples"})


def has_classes(data: DataSet) -> bool:
    """Whether these are images with labels to train a classifier on."""
    return data.modality.pictured and data.train.labels is not None and data.class_names is not None


class PixelsBetweenEnds(Metric):
    """Neither more nor less is better: compare with held-out images."""

    quantities = (
        Quantity(
            "pixels_between_ends",
            "pixels between ends",
            "the fraction of pixels between black and white",
            "%",
            "held_out",
            100.0,
        ),
    )
    needs = SAMPLES

    def applies(self, subject: str, data: DataSet, model: Model) -> bool:
        return data.test.levels is not None

    def measure(self, given: Given) -> list[Measurement]:
        levels = given.data.test.levels
        assert levels is not None
        found = [metrics.pixels_between_ends(draw, levels) for draw in given.draws]
        return [Measurement.mean_of(found)]


class Memorisation(Metric):
    """Of few images, which a model may learn by heart."""

    quantities = (
        Quantity(
            "memorised_fraction",
            "repeats of training images",
            "the fraction of samples that repeats a training image",
            "%",
            "lower",
            100.0,
        ),
    )
    needs = SAMPLES

    def applies(self, subject: str, data: DataSet, model: Model) -> bool:
        if not data.modality.pictured or len(data.train) >= FEW or subject == RECONSTRUCTION:
            return False
        reference, floor = HeldOut.of(data)
        return len(reference) >= 3 and (subject != "held_out" or floor is not reference)

    def measure(self, given: Given) -> list[Measurement]:
        train, held_out = given.data.train.all().flatten(1), HeldOut.of(given.data).reference.all().flatten(1)
        found = [metrics.memorised_fraction(draw.clamp(-1, 1).flatten(1), train, held_out) for draw in given.draws]
        return [Measurement.mean_of(found)]


class ClassGap(Metric):
    """Of labelled images."""

    quantities = (
        Quantity(
            "class_gap", "class gap", "the largest difference of class shares from the data's", "%", "lower", 100.0
        ),
    )
    needs = SAMPLES

    def applies(self, subject: str, data: DataSet, model: Model) -> bool:
        return has_classes(data) and not is_stacked(data)

    def measure(self, given: Given) -> list[Measurement]:
        return by_class(given)


class StackModes(Metric):
    """Of stacked digits."""

    quantities = (MODES_COVERED, MODE_KL)
    needs = SAMPLES

    def applies(self, subject: str, data: DataSet, model: Model) -> bool:
        labels, classes = data.train.labels, data.class_names
        if labels is None or classes is None or not is_stacked(data):
            return False
        return bool(torch.bincount(labels, minlength=len(classes)).all())  # else no divergence is finite

    def measure(self, given: Given) -> list[Measurement]:
        return by_class(given)


def by_class(given: Given) -> list[Measurement]:
    """The mean over draws of what their classes say."""
    labels, classifier = given.data.train.labels, given.classifier
    assert labels is not None
    by_draw = []
    for draw in given.draws:
        classes = classifier.predict(draw)
        if is_stacked(given.data):
            by_draw.append(metrics.class_modes(classes, labels, classifier.classes))
        else:
            by_draw.append({"class_gap": metrics.class_gap(classes, labels, classifier.classes)})
    of = {"classifier": classifier.sha256(), "split": "train"}
    return [m.with_settings(**of) for m in mean_over_draws(by_draw)]


class DrawingTime(Metric):
    """Of one drawing of all samples, so there is no standard error."""

    quantities = (
        Quantity("seconds_per_thousand", "time for 1,000 samples", "the time to draw 1,000 samples", "s", "lower"),
    )
    needs = frozenset({"time"})

    def measure(self, given: Given) -> list[Measurement]:
        assert given.seconds is not None
        machine = {"device": str(given.model.device), "threads": torch.get_num_threads()}
        n = sum(map(len, given.draws))
        return [Measurement("seconds_per_thousand", given.seconds, 0.0, n, machine)]

"""Modes: samples of a mixture that is known, against its modes (metrics/modes.py). Of several draws it is the mean."""

from __future__ import annotations

from vaebm import metrics
from vaebm.data import DataSet
from vaebm.evaluation.feature_metrics import mean_over_draws
from vaebm.evaluation.metric import Given, Metric
from vaebm.evaluation.quantity import Quantity
from vaebm.metrics.measurement import Measurement
from vaebm.models import Model

MODES_COVERED = Quantity("modes_covered", "modes covered", "the number of modes covered", better="higher", whole=True)
MODE_KL = Quantity("mode_kl", "KL of mode shares", "the KL divergence of mode shares", "nats", "lower")


class Modes(Metric):
    """Of data whose truth is a mixture of equal round Gaussians."""

    quantities = (
        MODES_COVERED,
        Quantity(
            "within_three_sigma", "within 3 σ of a mode", "the fraction within 3 σ of a mode", "%", "higher", 100.0
        ),
        MODE_KL,
    )
    needs = frozenset({"samples"})

    def applies(self, subject: str, data: DataSet, model: Model) -> bool:
        return data.truth is not None

    def measure(self, given: Given) -> list[Measurement]:
        truth = given.data.truth
        assert truth is not None
        return mean_over_draws([metrics.mode_measurements(x, truth.modes, truth.scale) for x in given.draws])

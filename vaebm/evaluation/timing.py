"""Timing: how long a thousand samples of the model take to draw and to show, on the machine that measures."""

import torch

from vaebm.evaluation.metric import Given, Metric
from vaebm.evaluation.quantity import Quantity
from vaebm.metrics.measurement import Measurement


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

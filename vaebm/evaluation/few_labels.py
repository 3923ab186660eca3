"""Few-label accuracy of a model's codes and of the data themselves (metrics/few_labels.py).

of the model      posterior means, `model.encode`, of training data that are labelled and of test data
of held-out data  their values, pixels as they are, by the same probe: the floor that a representation has to pass

Both at 1, 10, 100 and all labels a class, as far as there are so many; of very large sets, those of a random part.
"""

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from vaebm import metrics
from vaebm.data import DataSet
from vaebm.errors import InputError
from vaebm.evaluation.drawn import FLOORS
from vaebm.evaluation.metric import ROWS_AT_ONCE, Given, Metric
from vaebm.evaluation.quantity import Quantity
from vaebm.evaluation.statistics import has_classes
from vaebm.metrics.classifier import is_stacked
from vaebm.metrics.measurement import Measurement
from vaebm.models import Model

PER_CLASS = (1, 10, 100, None)  # labels, None for all
MAX_VALUES = 200_000_000  # of the training data that are looked at


class FewLabelAccuracy(Metric):
    """Of the model's codes, and of held-out data's own values."""

    quantities = (Quantity("few_label_accuracy", "few-label accuracy", "the few-label accuracy", "%", "higher", 100.0),)
    needs = frozenset({"codes"})

    def applies(self, subject: str, data: DataSet, model: Model) -> bool:
        classes = has_classes(data) and data.test.labels is not None and not is_stacked(data)
        return classes and subject in (*FLOORS, model.subjects[0])

    def measure(self, given: Given) -> list[Measurement]:
        train, test, model = given.data.train, given.data.test, given.model
        own = given.subject in FLOORS
        encode: Callable[[Tensor], Tensor] = (lambda x: x.flatten(1)) if own else model.encode
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(given.seed))
        order = order[: MAX_VALUES // math.prod(given.data.shape)].sort().values
        with torch.no_grad():
            batches = (train.batch(part).x for part in order.split(ROWS_AT_ONCE))
            rows = torch.cat([encode(x.to(model.device)).cpu() for x in batches])
            test_rows = test.all().flatten(1) if own else given.codes
        assert train.labels is not None
        assert test.labels is not None
        labels = train.labels[order]
        least = int(labels.bincount()[labels.unique()].min())
        representation = "pixels" if own else "posterior_mean"
        try:
            return [
                metrics.few_label_accuracy(
                    rows, labels, test_rows, test.labels, per_class, seed=given.seed
                ).with_settings(representation=representation)
                for per_class in PER_CLASS
                if per_class is None or per_class <= least
            ]
        except InputError as reason:
            warnings.warn(f"few_label_accuracy of {given.subject} is not measured: {reason}", stacklevel=2)
            return []

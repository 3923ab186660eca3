"""Few-label accuracy: how well a linear classifier reads classes off a representation from few labelled examples.

    labelled    `per_class` examples of each class, drawn at random without replacement; or all there are
    rows        (c - mean) / scale, the mean of each value and one scale for all of them from all training rows, whose
                labels that does not need
    classifier  logistic regression with an L2 penalty of weight 1, as scikit-learn has it
    value       accuracy on test rows, the mean of draws of the labelled; its standard error from their spread, or over
                test rows where all are labelled

Evaluated so by Wu et al., Conjugate energy-based models, ICML 2021, https://arxiv.org/abs/2106.13798
"""

import math
from statistics import fmean, stdev

import torch
from torch import Tensor

from vaebm.errors import InputError
from vaebm.metrics.arrays import Array, Rows, as_count, as_rows, as_tensor, same_dim
from vaebm.metrics.measurement import Measurement

DRAWS = 10
MAX_ITERATIONS = 300


def few_label_accuracy(
    codes: Rows,
    labels: Array,
    test_codes: Rows,
    test_labels: Array,
    per_class: int | None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Measurement:
    """Accuracy, between 0 and 1.

    Args:
        codes: (n, dim), of training data.
        labels: (n,), their classes, whole numbers.
        test_codes: (m, dim).
        test_labels: (m,).
        per_class: labelled examples of each class; None for all.
        draws: of these examples.
        seed: of the draws.

    Raises:
        InputError: rows and labels do not belong together, there is one class alone, a class has fewer examples, or
            codes that do not vary.
    """
    rows, test = as_rows(codes, "codes"), as_rows(test_codes, "test_codes")
    same_dim(test, rows)
    y, y_test = _classes(labels, len(rows), "labels"), _classes(test_labels, len(test), "test_labels")
    scale = float((rows - rows.mean(0)).square().mean().sqrt())
    if scale <= 1e-6 * max(1.0, float(rows.abs().max())):
        raise InputError("all codes are the same: the representation is dead, and says nothing of any class")
    rows, test = (((values - rows.mean(0)) / scale).float() for values in (rows, test))
    classes, counts = y.unique(return_counts=True)
    if len(classes) < 2:
        raise InputError(f"all labels are {int(classes[0])}: give examples of at least 2 classes")
    fewest = int(counts.min())
    if per_class is not None and as_count(per_class, "per_class") > fewest:
        raise InputError(f"per_class is {per_class}, but a class has {fewest} training examples: lower it")
    generator = torch.Generator().manual_seed(seed)
    chosen = [_labelled(y, per_class, generator) for _ in range(draws)] if per_class else [torch.arange(len(y))]
    hits = [_hits(rows[index], y[index], test, y_test) for index in chosen]
    accuracies = [float(hit.double().mean()) for hit in hits]
    if len(accuracies) > 1:
        stderr = stdev(accuracies) / math.sqrt(len(accuracies))
    else:
        stderr = float(hits[0].double().std()) / math.sqrt(len(test))
    settings = {"labels": per_class or "all", "label_draws": len(chosen), "split": "test"}
    return Measurement("few_label_accuracy", fmean(accuracies), stderr, len(test), settings)


def _classes(labels: Array, n: int, name: str) -> Tensor:
    found = as_tensor(labels, name)
    if found.shape != (n,) or found.is_floating_point():
        raise InputError(f"{name} has shape {tuple(found.shape)} and type {found.dtype}: give {n} whole numbers")
    return found.long()


def _labelled(y: Tensor, per_class: int, generator: torch.Generator) -> Tensor:
    """Rows of `per_class` examples of each class."""
    order = torch.randperm(len(y), generator=generator)
    return torch.cat([order[y[order] == label][:per_class] for label in y.unique()])


def _hits(rows: Tensor, y: Tensor, test: Tensor, y_test: Tensor) -> Tensor:
    """(m,) bool: whether the classifier that is fitted to the rows is right."""
    from sklearn.linear_model import LogisticRegression

    classifier = LogisticRegression(max_iter=MAX_ITERATIONS).fit(rows.numpy(), y.numpy())
    return torch.from_numpy(classifier.predict(test.numpy())) == y_test

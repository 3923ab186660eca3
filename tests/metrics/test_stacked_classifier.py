"""Three classifications an image: classes and features by channel, in order."""

from __future__ import annotations

import pytest
import torch

from vaebm.data import DigitsSettings, Split
from vaebm.errors import InputError
from vaebm.metrics import StackedClassifier, classifier_features, train_stacked_classifier


def stacks(split: Split, n: int, seed: int) -> Split:
    """Stacks of three of scikit-learn's digits."""
    assert split.labels is not None
    assert isinstance(split.values, torch.Tensor)
    rows = torch.randint(len(split), (n, 3), generator=torch.Generator().manual_seed(seed))
    digits = split.labels[rows]
    labels = 100 * digits[:, 0] + 10 * digits[:, 1] + digits[:, 2]
    return Split(split.values[rows, 0], labels, split.levels, factors=digits)


@pytest.fixture(scope="module")
def classifier() -> StackedClassifier:
    return train_stacked_classifier(stacks(DigitsSettings().load().train, 1500, 0))


def test_it_reads_the_digits_of_held_out_stacks(classifier: StackedClassifier) -> None:
    held_out = stacks(DigitsSettings().load().test, 500, 1)
    predicted = classifier.predict(held_out.all())
    assert predicted.dtype == torch.int64
    assert (classifier.classes, predicted.shape) == (1000, (500,))
    assert (predicted == held_out.labels).double().mean() > 0.9


def test_features_are_those_of_the_channels_side_by_side(classifier: StackedClassifier) -> None:
    images = stacks(DigitsSettings().load().test, 5, 2).all()
    features = classifier_features(classifier)
    rows = features(images)
    assert rows.shape == (5, 192)
    for channel in range(3):
        expected = classifier.digits.features(images[:, channel : channel + 1])
        assert torch.allclose(rows[:, 64 * channel : 64 * (channel + 1)], expected)
    assert features.settings == {"features": "classifier", "sha256": classifier.digits.sha256()}


def test_other_images_are_refused(classifier: StackedClassifier) -> None:
    with pytest.raises(InputError, match="stacks have 3 channels"):
        classifier.predict(torch.zeros(2, 1, 8, 8))
    with pytest.raises(InputError, match="the digit of every channel"):
        train_stacked_classifier(DigitsSettings().load().train)

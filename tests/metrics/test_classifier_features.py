from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from vaebm.data import DataSet, DigitsSettings, GaussiansSettings, Split
from vaebm.errors import InputError
from vaebm.metrics import (
    Classifier,
    Features,
    Measurement,
    classifier_features,
    frechet_distance,
    kernel_distance,
    pixel_features,
    train_classifier,
)
from vaebm.metrics.classifier import BATCH


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return DigitsSettings().load()


@pytest.fixture(scope="module")
def classifier(digits: DataSet) -> Classifier:
    before = torch.get_rng_state()
    trained = train_classifier(digits.train, 10)
    assert torch.equal(torch.get_rng_state(), before), "training touched the global generator"
    return trained


@pytest.fixture(scope="module")
def features(classifier: Classifier) -> Features:
    return classifier_features(classifier)


def noisy(images: Tensor, scale: float) -> Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images + scale * noise).clamp(-1.0, 1.0)


def blurred(images: Tensor, fraction: float) -> Tensor:
    smooth = functional.avg_pool2d(functional.pad(images, (1, 1, 1, 1), value=-1.0), 3, 1)
    return images + fraction * (smooth - images)


def without_classes_below(digits: DataSet, first: int) -> Tensor:
    assert digits.test.labels is not None
    kept = (digits.test.labels >= first).nonzero()[:, 0]
    return digits.test.batch(kept.repeat(2)[: len(digits.test)]).x


def test_it_knows_held_out_digits(digits: DataSet, classifier: Classifier) -> None:
    for split, least in ((digits.test, 0.97), (digits.train, 0.99)):
        assert (classifier.predict(split.all()) == split.labels).double().mean() >= least


def test_features_are_rows_of_unit_mean_square_whatever_the_chunks(digits: DataSet, features: Features) -> None:
    rows = features(digits.train.all())
    assert (rows.shape, rows.dtype) == ((1237, 64), torch.float32)
    assert rows.square().mean().item() == pytest.approx(1.0, rel=1e-3)
    assert torch.allclose(features(digits.train.all()[1020:1030]), rows[1020:1030], atol=1e-5)
    assert features.settings == {"features": "classifier", "sha256": features.sha256}


def test_the_distance_grows_with_every_kind_of_damage(digits: DataSet, features: Features) -> None:
    reference = features(digits.train.all())

    def distance(images: Tensor) -> float:
        return frechet_distance(features(images), reference).value

    held_out = digits.test.all()
    by_noise = [distance(noisy(held_out, scale)) for scale in (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)]
    by_blur = [distance(blurred(held_out, fraction)) for fraction in (0.0, 0.25, 0.5, 1.0)]
    by_loss = [distance(without_classes_below(digits, first)) for first in (0, 1, 2, 4, 6)]
    for distances in (by_noise, by_blur, by_loss):
        assert distances == sorted(distances)
    assert by_noise[3] > 1.5 * by_noise[0]
    assert by_blur[1] > 2 * by_blur[0]
    assert by_loss[1] > 2 * by_loss[0]


def test_held_out_digits_are_as_near_as_draws_of_training_digits(digits: DataSet, features: Features) -> None:
    reference = features(digits.train.all())
    generator = torch.Generator().manual_seed(0)
    some = [reference[torch.randperm(len(reference), generator=generator)[:360]] for _ in range(20)]
    draws = Measurement.mean_of([frechet_distance(rows, reference) for rows in some])
    held_out = frechet_distance(features(digits.test.all()), reference)
    assert 0.5 < held_out.value / draws.value < 1.5


def test_the_kernel_distance_sees_the_same(digits: DataSet, features: Features) -> None:
    reference = features(digits.train.all())
    held_out, damaged = (
        kernel_distance(features(images), reference) for images in (digits.test.all(), blurred(digits.test.all(), 1.0))
    )
    assert abs(held_out.value) < 3 * held_out.stderr
    assert damaged.value > 3 * damaged.stderr


def test_a_saved_classifier_comes_back_whole(tmp_path: Path, digits: DataSet, classifier: Classifier) -> None:
    path = tmp_path / "classifier.safetensors"
    classifier.save(path)
    loaded = Classifier.load(path)
    assert loaded.sha256() == classifier.sha256()
    assert torch.equal(loaded.features(digits.test.all()), classifier.features(digits.test.all()))
    assert [file.name for file in tmp_path.iterdir()] == ["classifier.safetensors"]
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="is damaged: delete it"):
        Classifier.load(path)
    with pytest.raises(InputError, match="does not exist"):
        Classifier.load(tmp_path / "none.safetensors")


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (3, 48, 80), (1, 9, 31), (2, 64, 64)])
def test_any_shape_trains_the_same_way_twice(shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaebm.metrics.classifier.MAX_IMAGES", 2 * BATCH)
    values = torch.randint(0, 256, (30, *shape), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    split = Split(values, torch.arange(30) % 3, 255)
    first, again = train_classifier(split, 3), train_classifier(split, 3)
    assert first(split.all()).shape == (30, 3)
    assert first.features(split.all()).shape == (30, 64)
    assert first.sha256() == again.sha256()


def test_what_it_cannot_learn_is_refused(digits: DataSet, classifier: Classifier) -> None:
    with pytest.raises(InputError, match="needs labels"):
        train_classifier(Split(digits.train.values, None, 16), 10)
    with pytest.raises(InputError, match="for images"):
        train_classifier(GaussiansSettings(train_size=100).load().train, 25)
    with pytest.raises(InputError, match="at least 2 classes"):
        Classifier((1, 8, 8), 1)
    with pytest.raises(InputError, match="sides of 8"):
        Classifier((1, 7, 8), 10)
    with pytest.raises(InputError, match="train one for these"):
        classifier_features(classifier)(torch.zeros(4, 3, 32, 32))
    with pytest.raises(InputError, match="images have shape"):
        pixel_features()(torch.zeros(4, 2))


def test_pixel_features_average_blocks_down_to_eight(digits: DataSet) -> None:
    pixels = pixel_features()
    assert torch.equal(pixels(digits.test.all()), digits.test.all().flatten(1))
    images = torch.linspace(-1, 1, 2 * 3 * 16 * 16).reshape(2, 3, 16, 16)
    rows = pixels(images)
    assert rows.shape == (2, 3 * 64)
    assert rows[0, 0] == images[0, 0, :2, :2].mean()
    assert (pixels.name, pixels.sha256, pixels.settings) == ("pixels", None, {"features": "pixels"})

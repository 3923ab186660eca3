"""What the doors of the metrics take: any layout, precision and kind of number, and far or stray rows."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vaebm import metrics
from vaebm.data import DigitsSettings, GaussiansSettings
from vaebm.data.transforms import to_model
from vaebm.errors import InputError
from vaebm.metrics import Measurement, PlaneQuadrature
from vaebm.metrics.arrays import as_images, as_rows
from vaebm.metrics.features import inception_layer

ON_ROWS: list[Callable[[Any, Any], Any]] = [
    metrics.frechet_distance,
    metrics.kernel_distance,
    metrics.precision_recall,
    metrics.density_coverage,
    lambda a, b: metrics.mode_measurements(a, b, 1.0),
]


def normal(n: int, dim: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dim))


@pytest.mark.parametrize("measure", ON_ROWS)
def test_rows_of_any_layout_give_the_same(measure: Callable[[Any, Any], Any]) -> None:
    a, b = normal(60, 3, 0), normal(50, 3, 1)
    expected = measure(a, b)
    for same in (
        a[::-1][::-1],
        a.astype(">f8"),
        np.asfortranarray(a),
        np.ascontiguousarray(a[:, ::-1])[:, ::-1],
        a.astype(np.longdouble),
        torch.from_numpy(a).requires_grad_(),
    ):
        assert measure(same, b) == expected
    frozen = b.copy()
    frozen.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert measure(a, frozen) == expected


def test_reversed_rows_are_the_same_set() -> None:
    a = normal(40, 2, 0)
    assert metrics.frechet_distance(a[::-1], a).value == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    "wrong", [np.array([["a", "b"]] * 3), np.ones((4, 2), complex), torch.ones(4, 2, dtype=torch.complex64)]
)
def test_what_are_no_real_numbers_is_refused(wrong: Any) -> None:
    with pytest.raises(InputError, match="real"):
        as_rows(wrong)


def test_classes_of_any_whole_type() -> None:
    labels = np.arange(4).repeat(25)
    expected = metrics.class_gap(torch.from_numpy(labels[:40]), torch.from_numpy(labels), 4)
    for kind in (np.uint8, np.int32, ">i8"):
        assert metrics.class_gap(labels[:40].astype(kind), labels[::-1], np.int64(4)) == expected
    for wrong in (labels * 1.0, labels[:, None], labels - 1, labels + 1):
        with pytest.raises(InputError, match=r"whole numbers|beyond"):
            metrics.class_gap(wrong, labels, 4)
    for classes in (0, 2.5, "4"):
        with pytest.raises(InputError, match="whole number"):
            metrics.class_gap(labels, labels, classes)  # type: ignore[arg-type]


def test_numbers_of_numpy_and_torch_become_plain_ones() -> None:
    points = normal(30, 2, 0)
    for std in (points.std(), torch.tensor(0.5)):
        measured = metrics.mode_measurements(points, points[:3], std)
        assert measured == metrics.mode_measurements(points, points[:3], float(std))
    assert metrics.precision_recall(points, points, np.int64(3)) == metrics.precision_recall(points, points, 3)
    of = {
        "std": np.float32(0.5),
        "sizes": (np.int64(1), torch.tensor(2)),
        "yes": np.bool_(True),
        "a": {"b": np.ones(2)},
    }
    measured = Measurement("recall", np.float32(0.5), torch.tensor(0.25), np.int64(7), of)  # type: ignore[arg-type]
    assert measured.settings == {"std": 0.5, "sizes": [1, 2], "yes": True, "a": {"b": [1.0, 1.0]}}
    assert [type(v) for v in (measured.value, measured.stderr, measured.n)] == [float, float, int]
    assert Measurement.from_json(json.loads(json.dumps(measured.to_json()))) == measured
    images = torch.zeros(3, 1, 4, 4)
    assert metrics.pixels_between_ends(images, np.int64(16)) == metrics.pixels_between_ends(images, 16)


@pytest.mark.parametrize("std", [0.0, -1.0, math.nan, math.inf])
def test_a_deviation_is_positive(std: float) -> None:
    with pytest.raises(InputError, match="positive"):
        metrics.mode_measurements(normal(9, 2, 0), normal(2, 2, 1), std)


@pytest.mark.parametrize("far", [1e6, 1e12])
def test_one_outlier_widens_no_ball_but_its_own(far: float) -> None:
    generated, real = normal(2000, 2, 0), normal(2000, 2, 1)
    expected = metrics.density_coverage(generated, real) | metrics.precision_recall(generated, real)
    real[0] = far
    measured = metrics.density_coverage(generated, real)
    assert measured["density"].value == pytest.approx(expected["density"].value, abs=0.01)
    assert measured["coverage"].value == pytest.approx(expected["coverage"].value, abs=0.002)
    assert metrics.precision_recall(generated, real)["recall"].value == pytest.approx(
        expected["recall"].value, abs=0.002
    )


def test_clusters_far_apart_keep_their_own_balls() -> None:
    generated, real = normal(600, 2, 0), normal(600, 2, 1)
    half = np.arange(600) % 2 == 0
    alone = [metrics.density_coverage(generated[of], real[of]) for of in (half, ~half)]
    apart = metrics.density_coverage(generated + 1e6 * half[:, None], real + 1e6 * half[:, None])
    for name in ("density", "coverage"):
        assert apart[name].value == pytest.approx(sum(one[name].value for one in alone) / 2, abs=0.003)


@pytest.mark.parametrize("shift", [0.0, 1e7, -1e9])
def test_distances_do_not_depend_on_the_origin(shift: float) -> None:
    truth = GaussiansSettings().load().truth
    assert truth is not None
    modes = truth.modes.double().numpy()
    points = modes[np.arange(5000) % 25] + truth.scale * normal(5000, 2, 0)
    at_home = {name: m.value for name, m in metrics.mode_measurements(points, modes, truth.scale).items()}
    moved = metrics.mode_measurements(points + shift, modes + shift, truth.scale)
    assert at_home["within_three_sigma"] == pytest.approx(1 - math.exp(-4.5), abs=0.01)
    for name, value in at_home.items():
        assert moved[name].value == pytest.approx(value, abs=1e-3)


def test_quadrature_does_not_depend_on_the_origin() -> None:
    def at(shift: float) -> PlaneQuadrature:
        return PlaneQuadrature(
            lambda z: (torch.cat([z, -z], 1).double() + shift, torch.tensor(0.3)),
            1,
            lambda z: -0.5 * z.double().square().sum(1),
            x_range=(shift - 4, shift + 4),
            x_points=81,
        )

    points, centres = torch.from_numpy(normal(50, 2, 0)), torch.tensor([[-1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    for shift in (1e6, -1e8):
        assert at(shift).log_prob(points + shift) == pytest.approx(at(0.0).log_prob(points), abs=1e-4)
        masses = at(shift).mode_probabilities(centres + shift)
        assert masses == pytest.approx(at(0.0).mode_probabilities(centres), abs=1e-6)


@pytest.mark.parametrize("measure", [metrics.kernel_distance, metrics.density_coverage, metrics.mode_measurements])
def test_memory_does_not_grow_with_the_square(measure: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest tensor that is made, as pairs of rows."""
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            out = function(*args, **(kwargs or {}))
            for made in out if isinstance(out, tuple | list) else [out]:
                if isinstance(made, Tensor):
                    largest = max(largest, made.numel())
            return out

    monkeypatch.setattr("vaebm.metrics.arrays.PAIRS_AT_ONCE", 10_000)
    few, many = normal(40, 2, 0), normal(4000, 2, 1)
    with Watch():
        measure(*((many, few, 0.5) if measure is metrics.mode_measurements else (few, many)))
    assert largest <= 25_000


@pytest.mark.parametrize("wrong", [np.zeros((4, 8, 8)), np.zeros((4, 8, 8, 3)), np.zeros((4, 1, 8, 8), np.uint8)])
def test_what_are_no_images_of_the_model_is_refused(wrong: np.ndarray) -> None:
    for door in (metrics.pixel_features(), metrics.pixels_between_ends, as_images):
        with pytest.raises(InputError, match="images"):
            door(wrong)


def test_images_of_any_layout_and_range() -> None:
    digits = DigitsSettings().load()
    images = digits.train.all()[:20]
    expected = metrics.pixel_features()(images)
    assert torch.equal(metrics.pixel_features()(images.double().numpy()[::-1].copy()[::-1]), expected)
    assert metrics.pixels_between_ends(images.numpy(), 16) == metrics.pixels_between_ends(images, 16)
    with pytest.warns(UserWarning, match=r"\[-1, 1\]"):
        metrics.pixel_features()(images * 127.5 + 127.5)
    for levels in (0, 256, 1.5):
        with pytest.raises(InputError, match="levels"):
            metrics.pixels_between_ends(images, levels)  # type: ignore[arg-type]


def test_a_choice_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'bfloat16'"):
        inception_layer(64, precision="bfloat")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no device"):
        inception_layer(64, device="abacus")


def test_the_classifier_ignores_the_process_s_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaebm.metrics.classifier.MAX_IMAGES", 128)
    digits = DigitsSettings().load()
    expected = metrics.train_classifier(digits.train, 10).sha256()
    with torch.inference_mode():
        assert metrics.train_classifier(DigitsSettings().load().train, 10).sha256() == expected
    torch.set_default_dtype(torch.float64)
    try:
        classifier = metrics.train_classifier(digits.train, 10)
        assert classifier.sha256() == expected
        assert metrics.classifier_features(classifier)(digits.test.all()[:5]).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)
    with pytest.raises(InputError, match="is for images"):
        classifier.predict(to_model(torch.zeros(2, 1, 9, 9)))


@pytest.mark.parametrize(
    "change",
    [
        {"energy": lambda x: x.square().sum()},
        {"energy": lambda x: x},
        {"log_latent_weight": lambda z: z},
        {"latent_points": 1},
        {"x_range": (1.0, -1.0)},
        {"latent_limit": 0.0},
    ],
)
def test_a_quadrature_of_other_shapes_is_refused(change: dict[str, Any]) -> None:
    wanted: dict[str, Any] = {
        "decode": lambda z: (torch.cat([z, z], 1), torch.tensor(0.5)),
        "latent_dim": 1,
        "log_latent_weight": lambda z: -0.5 * z.square().sum(1),
        "energy": lambda x: x.square().sum(1),
        "latent_points": 41,
        "x_points": 41,
    }
    with pytest.raises(InputError, match="give"):
        PlaneQuadrature(**(wanted | change))
    quadrature = PlaneQuadrature(**wanted)
    with pytest.raises(InputError, match="plane"):
        quadrature.log_prob(torch.zeros(3, 3))

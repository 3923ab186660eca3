"""Few-label accuracy: what a linear classifier can read, whatever the codes' units, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vaebm.errors import InputError
from vaebm.metrics import few_label_accuracy

CLASSES = 4


def codes(n: int, separation: float, seed: int) -> tuple[Tensor, Tensor]:
    """Gaussians about the corners of a simplex, one a class, and a dead coordinate."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % CLASSES
    rows = separation * torch.eye(CLASSES)[y] + torch.randn(n, CLASSES, generator=generator)
    return torch.cat([rows, torch.full((n, 1), 3.0)], dim=1), y


def accuracy(separation: float, per_class: int | None) -> float:
    return few_label_accuracy(*codes(400, separation, 0), *codes(200, separation, 1), per_class).value


def test_what_is_apart_is_read_and_what_is_not_is_chance() -> None:
    assert accuracy(20.0, 1) == 1.0
    assert accuracy(20.0, None) == 1.0
    assert accuracy(0.0, 10) == pytest.approx(1 / CLASSES, abs=0.07)
    assert accuracy(2.0, 1) < accuracy(2.0, 10) < accuracy(2.0, 100)


def test_units_and_order_of_coordinates_do_not_matter() -> None:
    train, test = codes(400, 2.0, 0), codes(200, 2.0, 1)
    expected = few_label_accuracy(*train, *test, 10)
    order = [4, 2, 0, 1, 3]
    for rows, test_rows in (
        (train[0][:, order], test[0][:, order]),
        (1e3 * train[0] - 7.0, 1e3 * test[0] - 7.0),
    ):
        changed = few_label_accuracy(rows, train[1], test_rows, test[1], 10)
        assert changed.value == pytest.approx(expected.value, abs=1e-3)


def test_the_error_is_over_draws_or_over_test_data() -> None:
    train, test = codes(400, 2.0, 0), codes(200, 2.0, 1)
    draws = [few_label_accuracy(*train, *test, 5, draws=40, seed=seed) for seed in range(2)]
    assert draws[0].settings == {"labels": 5, "label_draws": 40, "split": "test"}
    assert abs(draws[0].value - draws[1].value) < 5 * draws[0].stderr
    assert draws[0].stderr < few_label_accuracy(*train, *test, 5, draws=4).stderr * 2
    whole = few_label_accuracy(*train, *test, None)
    assert (whole.settings["labels"], whole.settings["label_draws"], whole.n) == ("all", 1, 200)
    assert whole.stderr == pytest.approx((whole.value * (1 - whole.value) / 200) ** 0.5, rel=0.01)


def test_each_draw_has_as_many_labels_of_every_class() -> None:
    """One class has too few for chance to hit it: ten labels drawn from all would miss it."""
    rows, y = codes(400, 20.0, 0)
    rare = torch.cat([torch.nonzero(y != 0)[:, 0], torch.nonzero(y == 0)[:2, 0]])
    assert few_label_accuracy(rows[rare], y[rare], *codes(200, 20.0, 1), 2).value == 1.0


def test_what_is_refused() -> None:
    train, test = codes(40, 1.0, 0), codes(20, 1.0, 1)
    dead = torch.ones(40, 5)
    for arguments, said in (
        ((dead, train[1], *test, 1), "dead"),
        ((*train, *test, 11), "per_class is 11"),
        ((*train, *test, 0), "per_class"),
        ((train[0], train[1][:-1], *test, 1), "labels"),
        ((train[0], 0 * train[1] - 1, *test, 1), "at least 2 classes"),
        ((*train, test[0][:, :4], test[1], 1), "dimensions"),
        ((train[0] * float("nan"), train[1], *test, 1), "finite"),
    ):
        with pytest.raises(InputError, match=said):
            few_label_accuracy(*arguments)

"""What samples are compared with, what they are compared to reach, and how much noise each is shown with."""

from __future__ import annotations

import pytest
import torch

from vaebm.data import DataSet
from vaebm.data.splits import Split
from vaebm.evaluation.held_out import HeldOut
from vaebm.evaluation.noise_scale import best_scale
from vaebm.metrics import frechet_distance
from vaebm.metrics.measurement import difference


def images(count: int, first: int) -> Split:
    values = (
        torch.arange(first, first + count, dtype=torch.uint8)[:, None, None, None].expand(count, 1, 2, 2).contiguous()
    )
    return Split(values, torch.arange(count), 255)


def test_the_validation_split_is_the_floor_where_there_is_one() -> None:
    splits = {"train": images(9, 0), "test": images(8, 50), "validation": images(5, 100)}
    found = HeldOut.of(DataSet("pixels", splits, "Pixels."))
    assert found == (splits["test"], splits["validation"])


def test_else_the_test_split_is_divided_at_random_the_same_each_time() -> None:
    data = DataSet("pixels", {"train": images(9, 0), "test": images(41, 50)}, "Pixels.")
    first, second = HeldOut.of(data), HeldOut.of(data)
    rows = [part.values[:, 0, 0, 0].tolist() for part in first]
    assert sorted(rows[0] + rows[1]) == list(range(50, 91))
    assert (len(first.floor), len(first.reference)) == (20, 21)
    assert rows == [part.values[:, 0, 0, 0].tolist() for part in second]
    assert rows[0] != list(range(50, 71))
    assert first.floor.labels is not None
    assert (first.floor.labels + 50).tolist() == rows[1]  # labels travel


def test_a_handful_is_both() -> None:
    splits = {"train": images(9, 0), "test": images(3, 50)}
    assert HeldOut.of(DataSet("pixels", splits, "Pixels.")) == (splits["test"], splits["test"])


@pytest.mark.parametrize("best", [0.0, 0.07, 0.5, 0.81, 1.0])
def test_the_best_scale_is_found_within_a_sixteenth(best: float) -> None:
    asked: list[float] = []

    def distance(scale: float) -> float:
        asked.append(scale)
        return abs(scale - best)

    assert abs(best_scale(distance) - best) <= 1 / 16
    assert len(asked) == len(set(asked)) <= 9
    assert all(0.0 <= scale <= 1.0 for scale in asked)


def test_distances_to_one_reference_are_compared_as_pairs() -> None:
    """Over many references, the spread of the difference of two distances is what one of them tells of it."""
    generator = torch.Generator().manual_seed(0)
    near, far = torch.randn(400, 3, generator=generator) + 0.5, torch.randn(400, 3, generator=generator) + 0.7
    gains, errors, singles = [], [], []
    for _ in range(60):
        reference = torch.randn(200, 3, generator=generator)
        ours, theirs = frechet_distance(near, reference), frechet_distance(far, reference)
        gain, stderr = difference(ours, theirs)
        own = [m.settings["own_stderr"] for m in (ours, theirs)]
        gains.append(gain)
        errors.append(stderr**2 - own[0] ** 2 - own[1] ** 2)  # what the reference alone adds
        singles.append(ours.value)
    spread, expected = torch.tensor(gains).std(), torch.tensor(errors).mean().sqrt()
    assert float(spread) == pytest.approx(float(expected), rel=0.3)
    assert float(torch.tensor(singles).std()) > 2 * float(spread)

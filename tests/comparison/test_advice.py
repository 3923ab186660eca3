"""What is advised by the rows of a comparison."""

from __future__ import annotations

from typing import Any

import pytest

from vaebm.comparison.advice import Advice, advise


def row(name: str, *looks: tuple[int, float], stderr: float = 0.1, **more: Any) -> dict[str, Any]:
    shift = more.pop("shift", None)
    curve = [
        {
            "gradients": gradients,
            "quality": {"d": value} | ({} if shift is None else {"energy_shift": shift}),
            "quality_stderr": {"d": stderr} | ({} if shift is None else {"energy_shift": 0.1}),
        }
        for gradients, value in looks
    ]
    described = {"sampler": name, "label": name.upper(), "moved": 1.0, "rhat": 2.0, "rhat_between_starts": 1.01}
    return {**described, "n": 100, "curve": curve, **curve[-1], **more}


def advice(*rows: dict[str, Any], start: float = 9.0) -> Advice:
    found = advise(rows, "d", "distance", {"d": (start, 0.1), "energy_shift": (2.0, 0.1)})
    assert found is not None
    return found


def test_the_best_is_recommended() -> None:
    found = advice(row("a", (10, 5.0), (200, 3.0)), row("b", (10, 5.0), (200, 1.0)))
    assert found.sampler == "b"
    assert "Use B" in found.text
    assert "1.00 ± 0.10" in found.text
    assert "A (3)" in found.text


def test_of_equals_the_one_that_arrives_first_is_recommended() -> None:
    found = advice(row("a", (10, 1.05), (200, 1.05)), row("b", (10, 5.0), (200, 1.0)))
    assert found.sampler == "a"
    assert "10 gradients are enough" in found.text
    assert "B (200)" in found.text


@pytest.mark.parametrize(("distance", "chosen"), [(1.13, "a"), (1.15, "b")])
def test_equal_is_within_one_standard_error_of_the_difference(distance: float, chosen: str) -> None:
    assert advice(row("a", (10, distance), (200, distance)), row("b", (200, 1.0))).sampler == chosen


def test_who_leaves_again_has_not_arrived() -> None:
    assert advice(row("a", (10, 1.0), (100, 5.0), (200, 1.0)), row("b", (150, 1.0), (200, 1.0))).sampler == "b"


def test_a_wrong_mean_energy_is_no_arrival() -> None:
    found = advice(row("a", (10, 1.0), (200, 1.0), shift=0.9), row("b", (200, 1.05), shift=0.1))
    assert found.sampler == "b"
    assert "A (mean energy off by +0.90 nats)" in found.text


def test_where_no_mean_energy_is_right_the_smallest_distance_stays() -> None:
    found = advice(row("a", (200, 1.0), shift=0.9), row("b", (200, 1.05), shift=2.0))
    assert found.sampler == "a"
    assert "still differs" in found.text


def test_chains_that_never_moved_are_neither_advised_nor_a_standard_for_others() -> None:
    stuck = row("stuck", (10, 0.1), (200, 0.1), moved=0.0, rhat=None, rhat_between_starts=None)
    found = advice(stuck, row("a", (200, 3.0)), row("b", (200, 1.0)))
    assert found.sampler == "b"
    assert "smallest" in found.text
    assert "STUCK (0% moved)" in found.text
    assert advise([stuck], "d", "distance", {"d": (9.0, 0.1)}) is None


def test_a_sampler_whose_mixing_is_unknown_can_be_advised() -> None:
    assert advice(row("a", (200, 1.0), rhat=None, rhat_between_starts=None)).sampler == "a"


def test_the_advice_says_when_nothing_is_gained() -> None:
    assert "measurably better" in advice(row("a", (200, 1.0)), start=1.1).text
    assert "measurably better" not in advice(row("a", (200, 1.0)), start=2.0).text


@pytest.mark.parametrize(
    ("alone", "together", "word"), [(1.02, 1.01, "mix:"), (2.0, 1.01, "agree as groups"), (2.0, 1.5, "differ even")]
)
def test_the_advice_says_what_chains_forget(alone: float, together: float, word: str) -> None:
    assert word in advice(row("a", (200, 1.0), rhat=alone, rhat_between_starts=together)).text

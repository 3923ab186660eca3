"""Health: what is said of a stage, and what is warned of before it is late."""

from __future__ import annotations

import json
import math
import random
from types import SimpleNamespace
from typing import Any

import pytest

from vaebm.training.health import Health

STAGE: Any = SimpleNamespace(
    name="divergence", path="phases.divergence", setting=lambda step: f"phases.divergence.{step}"
)
HEALTHY = {
    "gap": 0.3,
    "energy_spread": 4.0,
    "negative_spread": 4.0,
    "energy_level": 3.0,
    "drift": 0.2,
    "drift_scale": 4.0,
    "acceptance": 0.8,
    "stuck_fraction": 0.0,
    "far_fraction": 0.0,
    "chain_diversity": 1.0,
    "buffer_age": 12.0,
}
ILL = {
    "drift": ({"drift": 1.2}, "30%", "learning_rate"),
    "level": ({"energy_level": -2000.0}, "-2000 nats", "energy_square"),
    "stuck": ({"stuck_fraction": 0.2}, "20% of the chains", "step_size"),
    "rejecting": ({"acceptance": 0.01}, "acceptance 0.01", "step_size"),
    "saturated": ({"far_fraction": 0.1}, "10% of the chains", "step_size"),
    "alike": ({"chain_diversity": 0.3}, "12 moves", "replay_prob"),
}


def warnings(health: Health, rows: list[dict[str, float]], every: int = 50) -> list[str]:
    return [said for i, row in enumerate(rows) for said in health.look(STAGE, every * (i + 1), row)]


@pytest.mark.parametrize("every", [1, 10, 50, 500])
def test_a_healthy_stage_is_described_and_warned_of_nothing(every: int) -> None:
    health, noise = Health(), random.Random(0)
    rows = [{name: value * noise.uniform(0.7, 1.3) for name, value in HEALTHY.items()} for _ in range(200)]
    assert warnings(health, rows, every) == []
    assert health.line.startswith("gap 0.")
    assert "steady" in health.line
    assert "chains move (acceptance 0." in health.line


@pytest.mark.parametrize("what", ILL)
def test_each_warning_has_its_number_and_its_setting_and_is_given_once_a_stage(what: str) -> None:
    change, number, setting = ILL[what]
    health = Health()
    (said,) = warnings(health, [HEALTHY | change] * 10)
    assert said.startswith("divergence, iteration 50: ")
    assert number in said
    assert f"phases.divergence.{setting}" in said
    health.begin_stage()
    assert len(warnings(health, [HEALTHY | change])) == 1


@pytest.mark.parametrize("every", [1, 10, 50])
def test_a_small_gap_that_grows_steadily(every: int) -> None:
    rows = [HEALTHY | {"gap": 0.3 + 0.01 * every * i} for i in range(500 // every)]
    (said,) = warnings(Health(), rows, every)
    assert "grew steadily" in said
    assert "learning_rate" in said
    assert warnings(Health(), [{"gap": row["gap"]} for row in rows], every) == []  # to the base, which does not move
    assert warnings(Health(), [row | {"gap": 3.0 * math.sin(i)} for i, row in enumerate(rows)], every) == []


@pytest.mark.parametrize(("name", "of"), [("energy_spread", "data"), ("negative_spread", "samples")])
def test_a_scale_that_grows_steadily(name: str, of: str) -> None:
    (said,) = warnings(Health(), [HEALTHY | {name: 12.0 + 2 * i} for i in range(10)])
    assert f"over {of} grew" in said
    assert warnings(Health(), [HEALTHY | {name: 1.0 + i} for i in range(10)]) == []  # small as yet


def test_the_held_out_gain() -> None:
    health = Health()
    gains = [0.5, 1.2, 1.7, 1.4]
    assert warnings(health, [{"gap": 1.0, "validation_gain": gain} for gain in gains]) == []
    assert "held-out gain 1.40 nats, falling (the best, 1.70 at iteration 150, is kept)" in health.line
    health.begin_stage()
    (said,) = warnings(health, [{"validation_gain": gain} for gain in (0.1, -0.5, -1.0)])
    assert "-1.00 nats" in said


def test_a_resumed_run_is_warned_of_the_same() -> None:
    rows = [HEALTHY | {"gap": 0.5 * i} | ({"validation_gain": 0.1 * i} if i % 3 == 0 else {}) for i in range(20)]
    for cut in (1, 5, 9):
        whole, first, second = Health(), Health(), Health()
        expected = [(whole.look(STAGE, 20 * (i + 1), row), whole.line) for i, row in enumerate(rows)]
        told = [(first.look(STAGE, 20 * (i + 1), row), first.line) for i, row in enumerate(rows[:cut])]
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert second.line == first.line
        told += [(second.look(STAGE, 20 * (cut + i + 1), row), second.line) for i, row in enumerate(rows[cut:])]
        assert told == expected

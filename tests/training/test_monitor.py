"""The divergence monitor: what stops a run, and that the reason is named."""

from __future__ import annotations

import json
import math

import pytest

from vaebm.errors import Diverged
from vaebm.training.monitor import DivergenceMonitor, DivergenceMonitorSettings

UNHEALTHY = {
    "the loss": {"loss": math.nan},
    "gradient norm": {"loss": 1.0, "gradient_norm": math.inf},
    "201 nats": {"loss": 1.0, "gap": 201.0},
    "-300 nats": {"loss": 1.0, "gap": -300.0},
    "60% of the chains": {"loss": 1.0, "stuck_fraction": 0.6},
}


@pytest.mark.parametrize("reason", UNHEALTHY)
def test_each_reason_is_named_with_its_place_and_a_remedy(reason: str) -> None:
    with pytest.raises(Diverged, match=rf"ratio, iteration 7.*{reason}.*energy_stage\.learning_rate"):
        DivergenceMonitor(DivergenceMonitorSettings()).check("ratio, iteration 7", UNHEALTHY[reason])


def test_a_healthy_run_passes() -> None:
    monitor = DivergenceMonitor(DivergenceMonitorSettings())
    for _ in range(1000):
        monitor.check(
            "ratio", {"loss": 1.4, "gap": 199.0, "stuck_fraction": 0.5, "gradient_norm": 1e6, "ratio_excess": 0.4}
        )
    monitor.check("ratio", {})
    monitor.check("ratio", {"gap": math.nan, "stuck_fraction": math.nan, "acceptance": math.nan})


def test_chains_that_are_all_stuck_stop_it_whatever_the_limit() -> None:
    monitor = DivergenceMonitor(DivergenceMonitorSettings(stuck_fraction=1.0))
    monitor.check("divergence", {"stuck_fraction": 0.99})
    with pytest.raises(Diverged, match="100% of the chains"):
        monitor.check("divergence", {"stuck_fraction": 1.0})


def stopped_after(monitor: DivergenceMonitor, excess: float) -> int:
    """The iteration at which an excess, seen again and again, stops training; 0 for never."""
    for iteration in range(1, 10_000):
        try:
            monitor.check("ratio", {"ratio_excess": excess})
        except Diverged:
            return iteration
    return 0


def test_a_logistic_loss_is_named() -> None:
    with pytest.raises(Diverged, match=r"logistic loss.*0\.53 nats"):
        DivergenceMonitor(DivergenceMonitorSettings(window=1)).check("ratio", {"ratio_excess": 0.53})


def test_a_logistic_loss_has_to_stay_above_for_a_window() -> None:
    """m <- m + (e - m) / w passes L at the first t with e (1 - (1 - 1/w)^t) > L."""
    for excess, window in [(1.0, 50), (5.0, 50), (0.6, 10)]:
        monitor = DivergenceMonitor(DivergenceMonitorSettings(window=window))
        expected = next(t for t in range(1, 10_000) if excess * (1 - (1 - 1 / window) ** t) > 0.5)
        assert stopped_after(monitor, excess) == expected
    assert stopped_after(DivergenceMonitor(DivergenceMonitorSettings()), 0.49) == 0


def test_a_resumed_monitor_goes_on() -> None:
    first = DivergenceMonitor(DivergenceMonitorSettings())
    for _ in range(20):
        first.check("ratio", {"ratio_excess": 1.0})
    second = DivergenceMonitor(DivergenceMonitorSettings())
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert (
        stopped_after(second, 1.0)
        == stopped_after(first, 1.0)
        < stopped_after(DivergenceMonitor(DivergenceMonitorSettings()), 1.0)
    )


def test_a_stage_forgets_the_one_before() -> None:
    monitor = DivergenceMonitor(DivergenceMonitorSettings())
    for _ in range(500):
        monitor.check("ratio", {"ratio_excess": -1.38})  # told apart perfectly
    monitor.begin_stage()
    assert stopped_after(monitor, 1.0) == stopped_after(DivergenceMonitor(DivergenceMonitorSettings()), 1.0)

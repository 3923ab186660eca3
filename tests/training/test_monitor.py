"""The divergence monitor: what stops a run, and that the reason is named."""

from __future__ import annotations

import json
import math

import pytest

from vaebm.errors import Diverged
from vaebm.training.monitor import DivergenceMonitor, DivergenceMonitorSettings

UNHEALTHY: dict[str, tuple[dict[str, float], str | None]] = {
    "the loss": ({"loss": math.nan}, "learning_rate"),
    "the loss is": ({"loss": math.nan, "stuck_fraction": 1.0}, "learning_rate"),
    "gradient norm": ({"loss": 1.0, "gradient_norm": math.inf}, "learning_rate"),
    "201 nats": ({"loss": 1.0, "gap": 201.0}, "learning_rate"),
    "-300 nats": ({"loss": 1.0, "gap": -300.0}, "learning_rate"),
    "60% of the chains": ({"loss": 1.0, "stuck_fraction": 0.6, "energy_spread": 5.0}, "step_size"),
    "61% of the chains": ({"loss": 1.0, "stuck_fraction": 0.61, "energy_spread": 50.0}, "learning_rate"),
    "scale 1.5 and ended at 16": ({"chain_start": 1.5, "chain_end": 16.0, "gap": 300.0}, "step_size"),
    "scale 0.5 and ended at 11": ({"chain_start": 0.5, "chain_end": 11.0, "energy_spread": math.nan}, "learning_rate"),
    "scale 99 and ended at 101": ({"chain_start": 99.0, "chain_end": 101.0}, "step_size"),
    "scale 110 and ended at 111": ({"chain_start": 110.0, "chain_end": 111.0}, "step_size"),
    "positions of scale 101": ({"chain_start": 101.0, "chain_end": 99.0, "loss": math.nan}, None),
    "positions of scale nan": ({"chain_start": math.nan, "stuck_fraction": 1.0}, None),
}


@pytest.mark.parametrize("reason", UNHEALTHY)
def test_each_reason_is_named_with_its_place_and_its_step(reason: str) -> None:
    figures, step = UNHEALTHY[reason]
    with pytest.raises(Diverged, match=rf"ratio, iteration 7.*{reason}") as alarm:
        DivergenceMonitor(DivergenceMonitorSettings()).check("ratio, iteration 7", figures)
    assert alarm.value.step == step


def test_data_that_are_not_finite_are_named_by_their_rows() -> None:
    with pytest.raises(Diverged, match=r"2 data points .* rows 3, 17 ") as alarm:
        DivergenceMonitor(DivergenceMonitorSettings()).check("ratio", {"loss": math.nan}, [3, 17])
    assert alarm.value.step is None


def test_a_gradient_is_held_against_its_median() -> None:
    for usual, far in [(1e6, 1e9), (1e-6, 1e3)]:  # below 1 none is small
        monitor = DivergenceMonitor(DivergenceMonitorSettings())
        for _ in range(49):
            monitor.check("vae", {"gradient_norm": usual})
        monitor.check("vae", {"gradient_norm": 1.1 * far})  # a median of fewer says little
        monitor.check("vae", {"gradient_norm": 0.9 * far})
        with pytest.raises(Diverged, match="gradient norm"):
            monitor.check("vae", {"gradient_norm": 1.1 * far})


def test_an_energy_that_has_died() -> None:
    monitor = DivergenceMonitor(DivergenceMonitorSettings())
    for spread in (0.0, 1e-9, 2.0, 1e-5):  # it may begin as nothing
        monitor.check("ratio", {"energy_spread": spread})
    second = DivergenceMonitor(DivergenceMonitorSettings())
    second.load_state_dict(json.loads(json.dumps(monitor.state_dict())))
    second.check("vae", {"loss": 1.0})
    with pytest.raises(Diverged, match="died") as alarm:
        second.check("ratio", {"energy_spread": 1e-7})
    assert alarm.value.step == "learning_rate"
    second.begin_stage()
    second.check("divergence", {"energy_spread": 1e-7})


def test_a_healthy_run_passes() -> None:
    monitor = DivergenceMonitor(DivergenceMonitorSettings())
    for _ in range(1000):
        monitor.check(
            "ratio",
            {
                "loss": 1.4,
                "gap": 199.0,
                "stuck_fraction": 0.5,
                "gradient_norm": 1e6,
                "ratio_excess": 0.4,
                "chain_start": 2.0,
                "chain_end": 19.0,
                "energy_spread": 150.0,
            },
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


def test_a_gap_that_drops_twice_in_a_row() -> None:
    """As at a learning rate that overshoots: E is lower at samples than at data, far beyond the noise of the gap."""
    monitor = DivergenceMonitor(DivergenceMonitorSettings())
    for iteration in range(50):
        monitor.check("divergence", {"gap": 0.3 + 0.2 * (-1) ** iteration})
    for gap in (-6.0, 0.3, -6.0, -1.5):  # once is chance, and a small one harms nothing
        monitor.check("divergence", {"gap": gap})
    monitor.check("divergence", {"gap": -6.0})
    resumed = DivergenceMonitor(DivergenceMonitorSettings())
    resumed.load_state_dict(json.loads(json.dumps(monitor.state_dict())))
    with pytest.raises(Diverged, match=r"dropped to -4 nats, from 0\.\d") as alarm:
        resumed.check("divergence", {"gap": -4.0})
    assert alarm.value.step == "learning_rate"


def test_steps_that_throw_the_energy_about() -> None:
    monitor = DivergenceMonitor(DivergenceMonitorSettings())
    for drift in (0.1, 1.5, 0.3, 0.4, 0.3):  # of a scale of 2: a single one harms nothing
        monitor.check("divergence", {"drift": drift, "drift_scale": 2.0})
        monitor.check("divergence", {"loss": 1.0})
    monitor.check("divergence", {"drift": 0.02, "drift_scale": 0.01})  # nor do small ones
    monitor.check("divergence", {"drift": 0.9, "drift_scale": 2.0})
    monitor.check("divergence", {"drift": 1.4, "drift_scale": 2.0})
    with pytest.raises(Diverged, match=r"moves E .* 1\.2 nats, where it varies by 2 ") as alarm:
        monitor.check("divergence", {"drift": 1.2, "drift_scale": 2.0})
    assert alarm.value.step == "learning_rate"


def test_steps_that_suddenly_move_the_energy_more_than_before() -> None:
    monitor = DivergenceMonitor(DivergenceMonitorSettings())
    for _ in range(12):
        monitor.check("divergence", {"drift": 0.06, "drift_scale": 2.0})
    monitor.check("divergence", {"drift": 0.5, "drift_scale": 2.0})
    with pytest.raises(Diverged, match=r"mean of two looks is 0\.25 times, and was 0\.03") as alarm:
        monitor.check("divergence", {"drift": 0.5, "drift_scale": 2.0})
    assert alarm.value.step == "learning_rate"


def test_an_elbo_that_is_lost() -> None:
    """As at a learning rate a hundred times too high: the gradient norm grows a few hundred times and falls again."""
    monitor = DivergenceMonitor(DivergenceMonitorSettings())
    for iteration in range(200):  # a warm-up, in which codes cost more and more
        monitor.check("vae", {"elbo": -30.0 - iteration, "kl_weight": iteration / 200})
    for iteration in range(100):
        monitor.check("vae", {"elbo": -26.0 + 0.5 * (-1) ** iteration, "kl_weight": 1.0})
    spike = [-1000.0] * 5 + [-26.0]
    for elbo in spike + [-28.0] * 20:  # a spike, and a loss within the noise
        monitor.check("vae", {"elbo": elbo, "kl_weight": 1.0})
    for elbo in [-73.0, -222.0, -1045.0, -750.0, -8606.0, -333.0]:
        monitor.check("vae", {"elbo": elbo, "kl_weight": 1.0})
    resumed = DivergenceMonitor(DivergenceMonitorSettings())
    resumed.load_state_dict(monitor.state_dict())
    for elbo in [-250.0, -72.0, -62.0]:
        resumed.check("vae", {"elbo": elbo, "kl_weight": 1.0})
    with pytest.raises(Diverged, match="ELBO fell to -58 nats from -2") as raised:
        resumed.check("vae", {"elbo": -58.0, "kl_weight": 1.0})
    assert raised.value.step == "learning_rate"

"""One optimizer step, its average of weights and its schedules, against their formulas."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vaebm.training.engine import Engine
from vaebm.training.optimizer import ExponentialAverage, Optimizer, ramp, rise_and_fall


def test_ramp() -> None:
    assert [ramp(i, 2, 4) for i in range(8)] == [0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert [ramp(i, 0, 0) for i in range(2)] == [1.0, 1.0]
    assert [ramp(i, 1, 0) for i in range(3)] == [0.0, 1.0, 1.0]


def test_rise_and_fall() -> None:
    assert [rise_and_fall(i, 6, 2) for i in range(6)] == [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    assert [rise_and_fall(i, 4, 0) for i in range(4)] == [1.0, 0.75, 0.5, 0.25]
    assert [rise_and_fall(i, 2, 4) for i in range(2)] == [0.25, 0.5]  # shorter than its rise
    for iterations, rise in [(1, 0), (1, 1), (300, 20), (5, 5)]:
        rates = [rise_and_fall(i, iterations, rise) for i in range(iterations)]
        assert min(rates) > 0
        assert max(rates) <= 1


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
def test_the_average_is_as_defined(decay: float) -> None:
    net = nn.Linear(3, 2)
    net.bias.requires_grad_(False)
    fixed = net.bias.clone()
    average = ExponentialAverage(net, decay)
    expected = net.weight.detach().clone().double()
    generator = torch.Generator().manual_seed(0)
    for t in range(1, 40):
        with torch.no_grad():
            net.weight.copy_(torch.randn(2, 3, generator=generator))
        average.update()
        d = min(decay, (1 + t) / (10 + t))
        expected = d * expected + (1 - d) * net.weight.detach().double()
    average.replace_weights()
    assert torch.allclose(net.weight.double(), expected, atol=1e-5)
    assert torch.equal(net.bias, fixed)


def test_no_average_keeps_the_last_weights() -> None:
    net = nn.Linear(3, 2)
    average = ExponentialAverage(net, 0.0)
    with torch.no_grad():
        net.weight.fill_(2.0)
    average.update()
    average.replace_weights()
    assert bool((net.weight == 2.0).all())
    assert average.state_dict() == {"steps": 1, "mean": []}


def test_a_resumed_average_goes_on() -> None:
    def drift(net: nn.Linear, average: ExponentialAverage, steps: range) -> None:
        for t in steps:
            with torch.no_grad():
                net.weight.fill_(float(t))
            average.update()

    whole, net = nn.Linear(2, 1), nn.Linear(2, 1)
    net.load_state_dict(whole.state_dict())
    a, b = ExponentialAverage(whole, 0.9), ExponentialAverage(net, 0.9)
    drift(whole, a, range(10))
    drift(net, b, range(5))
    c = ExponentialAverage(net, 0.9)
    c.load_state_dict(b.state_dict())
    drift(net, c, range(5, 10))
    assert torch.equal(a.mean[0], c.mean[0])


def test_a_step_is_adam_on_clipped_gradients_at_the_rate_asked_for(engine: Engine) -> None:
    net, plain = nn.Linear(4, 1), nn.Linear(4, 1)
    plain.load_state_dict(net.state_dict())
    optimizer = Optimizer(net, engine, learning_rate=0.1, betas=(0.9, 0.99), clip_norm=0.5, ema_decay=0.0)
    adam = torch.optim.Adam(plain.parameters(), lr=0.1, betas=(0.9, 0.99))
    x = torch.randn(20, 4, generator=torch.Generator().manual_seed(1))
    for rate in (0.5, 1.0, 0.25):
        norm = optimizer.step((net(x) - 3.0).square().mean(), rate)
        adam.zero_grad()
        (plain(x) - 3.0).square().mean().backward()
        expected = nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        adam.param_groups[0]["lr"] = 0.1 * rate
        adam.step()
        assert norm == pytest.approx(float(expected))
        assert norm > 0.5
        assert all(torch.allclose(a, b) for a, b in zip(net.parameters(), plain.parameters(), strict=True))


def test_frozen_weights_are_left_alone(engine: Engine) -> None:
    net = nn.Linear(4, 1)
    net.bias.requires_grad_(False)
    before = net.bias.clone()
    optimizer = Optimizer(net, engine, learning_rate=0.1, betas=(0.9, 0.99), clip_norm=1.0, ema_decay=0.9)
    optimizer.step(net(torch.ones(3, 4)).square().mean(), 1.0)
    assert torch.equal(net.bias, before)


def test_weight_decay_takes_a_fraction_off_the_weights(engine: Engine) -> None:
    net = nn.Linear(4, 1)
    before = net.weight.detach().clone()
    optimizer = Optimizer(
        net, engine, learning_rate=0.1, betas=(0.9, 0.99), clip_norm=1.0, ema_decay=0.0, weight_decay=2.0
    )
    optimizer.step(0.0 * net(torch.ones(3, 4)).sum(), 0.5)  # no gradient: what is left is the decay
    assert torch.allclose(net.weight, before * (1 - 0.5 * 0.1 * 2.0))


def test_the_average_stands_in_for_the_weights_and_leaves(engine: Engine) -> None:
    net = nn.Linear(2, 1)
    average = ExponentialAverage(net, 0.9)
    start = net.weight.detach().clone()
    with torch.no_grad():
        net.weight.fill_(3.0)
    with average.in_place():
        assert torch.equal(net.weight, start)
    assert bool((net.weight == 3.0).all())

"""Diagnostics: autocorrelation of a known process, and whether chains that have not mixed are found out."""

import math

import pytest
import torch
from torch import Tensor

from vaebm import sampling
from vaebm.sampling.diagnostics import autocorrelation, integrated_time
from vaebm.sampling.langevin import MALA


def autoregressive(rho: float, steps: int, chains: int) -> Tensor:
    """A stationary process x' = rho x + sqrt(1 - rho^2) w, whose tau is (1 + rho) / (1 - rho)."""
    noise = torch.randn(steps, chains, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = [noise[0]]
    for w in noise[1:]:
        x.append(rho * x[-1] + (1 - rho**2) ** 0.5 * w)
    return torch.stack(x)


@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.5, 0.9])
def test_integrated_time_of_an_autoregression(rho: float) -> None:
    history = autoregressive(rho, 2000, 200)
    lags = autocorrelation(history)[:5, 0]
    assert torch.allclose(lags, rho ** torch.arange(5.0, dtype=torch.float64), atol=0.01)
    assert float(integrated_time(history)) == pytest.approx((1 + rho) / (1 - rho), rel=0.03)


def run(position: Tensor, kernel: MALA, steps: int = 60) -> sampling.Chains:
    generator = torch.Generator().manual_seed(1)
    return sampling.sample_chains(
        lambda x: -x.square().sum(dim=1) / 2, position, kernel, steps=steps, generator=generator
    )


def test_mixed_chains_pass_and_stuck_chains_do_not() -> None:
    begin = torch.randn(20, 3, generator=torch.Generator().manual_seed(2))
    chains = run(begin, MALA(1.0), 1000)
    mixed = sampling.diagnose(chains, generator=torch.Generator().manual_seed(3))
    assert mixed.names == ("x[0]", "x[1]", "x[2]", "energy")
    assert (mixed.rhat < 1.01).all()
    assert (mixed.drift.abs() < 0.1).all()
    # n / tau of a MALA chain that is accepted always: x' = x / 2 + noise, hence tau = 3; a sixth is not accepted.
    assert ((mixed.ess_bulk[:3] > 0.9 * 6000) & (mixed.ess_bulk[:3] < 1.1 * 20_000 / 3)).all()
    tau = integrated_time(chains.history.double())  # type: ignore[union-attr]
    assert torch.allclose(mixed.ess_bulk[:3], 20_000 / tau, rtol=0.1)
    assert torch.allclose(mixed.mcse[:3], mixed.ess_bulk[:3].rsqrt(), rtol=0.1)
    assert mixed.still == 0
    assert mixed.ess_per_gradient == pytest.approx(float(mixed.ess_bulk.min()) / (20 * 1001))
    stuck = sampling.diagnose(run(begin, MALA(1e-4)), generator=torch.Generator().manual_seed(3))
    assert (stuck.rhat > 1.5).all()
    falling = sampling.diagnose(run(begin + 10, MALA(0.02)), generator=torch.Generator().manual_seed(3))
    assert float(falling.drift[-1]) < -1


def test_many_dimensions_are_projected_and_features_are_added() -> None:
    chains = run(torch.randn(6, 100, generator=torch.Generator().manual_seed(2)), MALA(0.1), 20)
    feature = torch.randn(20, 6, generator=torch.Generator().manual_seed(4))
    found = [
        sampling.diagnose(chains, features={"class": feature}, generator=torch.Generator().manual_seed(5)) for _ in "ab"
    ]
    assert len(found[0].names) == 66
    assert found[0].names[-2:] == ("energy", "class")
    assert found[0].autocorrelation.shape == (20, 66)
    assert torch.equal(found[0].rhat, found[1].rhat)


def test_chains_that_never_moved_are_worth_nothing() -> None:
    begin = torch.randn(4, 2, generator=torch.Generator().manual_seed(2))
    found = sampling.diagnose(run(begin, MALA(1e6), 100), generator=torch.Generator().manual_seed(3))
    assert found.ess_bulk.isnan().all()
    assert found.ess_tail.isnan().all()
    assert found.mcse.isnan().all()
    assert math.isnan(found.ess_per_gradient)
    assert found.still == 1
    assert (found.rhat > 100).all()


def test_refusals() -> None:
    generator = torch.Generator().manual_seed(0)
    short = run(torch.zeros(3, 2), MALA(), 3)
    with pytest.raises(ValueError, match="kept 3 steps"):
        sampling.diagnose(short, generator=generator)
    long = run(torch.zeros(3, 2), MALA(), 5)
    with pytest.raises(ValueError, match=r"feature 'f' is \(3, 5\)"):
        sampling.diagnose(long, features={"f": torch.zeros(3, 5)}, generator=generator)
    bare = sampling.sample_chains(
        lambda x: -x.square().sum(dim=1), torch.zeros(3, 2), MALA(), steps=5, generator=generator, keep_history=False
    )
    with pytest.raises(ValueError, match="no history"):
        sampling.diagnose(bare, generator=generator)

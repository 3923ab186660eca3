"""Resampling: indices in proportion to their weights, proposals in proportion to the target."""

import pytest
import torch

from vaebm.distributions.analytic import Banana
from vaebm.sampling.resampling import draw_reference, effective_sample_size, importance_resample, systematic_resample


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def reference(dim: int, scale: float) -> torch.distributions.Distribution:
    return torch.distributions.Independent(torch.distributions.Normal(torch.zeros(dim), torch.full((dim,), scale)), 1)


def test_each_index_is_taken_as_often_as_its_weight_asks(generator: torch.Generator) -> None:
    log_weights = torch.randn(3, 50, generator=generator) * 2 + 300
    taken = systematic_resample(log_weights, 1000, generator)
    assert taken.shape == (3, 1000)
    expected = 1000 * log_weights.softmax(dim=1)
    for row in range(3):
        counts = taken[row].bincount(minlength=50)
        assert ((counts - expected[row]).abs() < 1).all()


def test_weight_zero_is_never_taken(generator: torch.Generator) -> None:
    log_weights = torch.zeros(20)
    log_weights[::2] = -torch.inf
    assert (systematic_resample(log_weights, 100, generator) % 2 == 1).all()


def test_refusals(generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match="1 of 3 weights are nan"):
        systematic_resample(torch.tensor([0.0, torch.nan, 1.0]), 2, generator)
    with pytest.raises(ValueError, match="all weights are 0"):
        systematic_resample(torch.full((3,), -torch.inf), 2, generator)


def test_effective_size() -> None:
    assert float(effective_sample_size(torch.full((40,), 7.0))) == pytest.approx(40)
    assert float(effective_sample_size(torch.tensor([0.0, -torch.inf, 0.0]))) == pytest.approx(2)


def test_proposals_become_the_target(generator: torch.Generator) -> None:
    target = Banana(1.0, 0.5)
    drawn = importance_resample(target.log_prob, reference(2, 2.0), 3000, proposals=60_000, generator=generator)
    assert drawn.position.shape == (3000, 2)
    assert 5000 < drawn.ess < 60_000
    # A proposal may be taken more than once: errors by the effective number of draws, four of them.
    error = (target.variance / 2500).sqrt()
    assert (drawn.position.mean(dim=0).abs() < 4 * error).all()
    assert ((drawn.position.var(dim=0) / target.variance - 1).abs() < 4 * (4 / 2500) ** 0.5).all()


def test_the_reference_draws_from_our_generator_alone() -> None:
    torch.rand(5, generator=torch.default_generator)
    before = torch.get_rng_state()
    generator = torch.Generator().manual_seed(1)
    first, second = (draw_reference(reference(3, 1.0), 4, generator) for _ in range(2))
    again = draw_reference(reference(3, 1.0), 4, torch.Generator().manual_seed(1))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())

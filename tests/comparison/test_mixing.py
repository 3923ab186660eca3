"""What is said of chains and populations: independent ones, those that remember, and those that never moved."""

from __future__ import annotations

import math

import pytest
import torch

from vaebm.comparison import mixing
from vaebm.comparison.mixing import between_populations, between_starts


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def functions() -> mixing.TestFunctions:
    """Three coordinates and their sum."""
    found = mixing.TestFunctions(3, lambda x: {"sum": x.sum(dim=1)}, generator())
    found(torch.zeros(2, 3))
    return found


def recorded(draws: torch.Tensor) -> torch.Tensor:
    return torch.cat([draws, draws.sum(dim=-1, keepdim=True)], dim=-1)


def test_in_many_dimensions_directions_stand_for_coordinates() -> None:
    functions = mixing.TestFunctions(300, lambda _: {}, generator())
    position = torch.randn(2000, 300, generator=generator(1))
    values = functions(position)
    assert values.shape == (2000, 64)
    assert len(functions.names) == 64
    torch.testing.assert_close(values.var(dim=0), torch.ones(64), atol=6 * math.sqrt(2 / 2000), rtol=0)


def test_independent_draws_count_in_full(functions: mixing.TestFunctions) -> None:
    draws = torch.randn(120, 60, 3, generator=generator())
    found = between_starts(recorded(draws), -draws[:, :, 0], functions, 4.0)
    assert found is not None
    assert found.rhat < 1.01
    assert found.rhat_between_starts is not None
    assert found.rhat_between_starts < 1.01
    assert found.ess_per_gradient == pytest.approx(1 / 4, rel=0.1)


@pytest.mark.parametrize("memory", [0.5, 0.9])
def test_correlated_draws_count_as_their_autocorrelation_says(memory: float, functions: mixing.TestFunctions) -> None:
    noise = torch.randn(800, 200, 3, generator=generator())
    draws = [noise[0]]
    for step in noise[1:]:
        draws.append(memory * draws[-1] + math.sqrt(1 - memory**2) * step)
    history = recorded(torch.stack(draws))
    found = between_starts(history, history[:, :, 0], functions, 2.0)
    assert found is not None
    # The slowest of five functions: the largest of as many estimates of tau.
    assert found.ess_per_gradient == pytest.approx((1 - memory) / (1 + memory) / 2, rel=0.2)


def test_chains_that_hardly_move_are_seen(functions: mixing.TestFunctions) -> None:
    places = torch.randn(60, 3, generator=generator())
    draws = places + 0.01 * torch.randn(40, 60, 3, generator=generator())
    found = between_starts(recorded(draws), draws[:, :, 0], functions, 1.0)
    assert found is not None
    assert found.rhat > 10
    assert found.rhat_between_starts is not None
    assert found.rhat_between_starts < 1.3
    assert found.ess_per_gradient < 1e-3


def test_groups_that_remember_their_start_are_seen(functions: mixing.TestFunctions) -> None:
    draws = torch.randn(40, 60, 3, generator=generator())
    draws[:, 30:] += 3.0
    found = between_starts(recorded(draws), draws[:, :, 0], functions, 1.0)
    assert found is not None
    # B = 3^2 / 2 for each coordinate, (3 * 3)^2 / 2 over W = 3 for their sum.
    assert found.rhat_between_starts == pytest.approx(math.sqrt(1 + 81 / 2 / 3), rel=0.05)
    assert found.slowest == "sum"


def test_too_few_steps_tell_nothing(functions: mixing.TestFunctions) -> None:
    for steps, told in ((7, False), (8, True)):
        history = torch.randn(steps, 60, 4, generator=generator())
        assert (between_starts(history, history[:, :, 0], functions, 1.0) is not None) == told


def test_chains_that_never_moved_have_no_effective_samples(functions: mixing.TestFunctions) -> None:
    history = torch.randn(60, 4, generator=generator()).expand(40, 60, 4)
    found = between_starts(history, history[:, :, 0], functions, 1.0)
    assert found is not None
    assert math.isnan(found.ess_per_gradient)
    assert math.isnan(found.rhat)


def test_a_feature_that_never_changes_does_not_hide_the_rest(functions: mixing.TestFunctions) -> None:
    draws = torch.randn(120, 60, 3, generator=generator())
    history = torch.cat([draws, torch.ones(120, 60, 1)], dim=2)
    found = between_starts(history, draws[:, :, 0], functions, 1.0)
    assert found is not None
    assert found.rhat < 1.01
    assert found.ess_per_gradient == pytest.approx(1, rel=0.1)


def test_populations_of_independent_samples_count_in_full(functions: mixing.TestFunctions) -> None:
    draws = torch.randn(3200, 3, generator=generator())
    found = between_populations(recorded(draws), draws[:, 0], functions, 10.0)
    assert found.rhat < 1.01
    # Of five functions the smallest ratio of n to an F variable with 31 degrees of freedom.
    assert 0.05 < found.ess_per_gradient <= 0.1


@pytest.mark.parametrize("copies", [10, 100])
def test_copies_of_a_sample_count_once(copies: int, functions: mixing.TestFunctions) -> None:
    draws = torch.randn(3200 // copies, 3, generator=generator()).repeat_interleave(copies, dim=0)
    found = between_populations(recorded(draws), draws[:, 0], functions, 10.0)
    assert found.ess_per_gradient == pytest.approx(0.1 / copies, rel=0.6)


def test_a_population_of_one_sample_has_no_effective_samples(functions: mixing.TestFunctions) -> None:
    found = between_populations(torch.ones(3200, 4), torch.zeros(3200), functions, 10.0)
    assert math.isnan(found.ess_per_gradient)

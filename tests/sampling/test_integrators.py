"""Integrators: reversible, volume preserving, of second order; isokinetic ones of unit speed."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.densities import Banana
from vaebm.sampling.hmc import leapfrog
from vaebm.sampling.kernel import ChainState, start
from vaebm.sampling.mclmc import direction, isokinetic

TARGET = Banana()
MASS = torch.tensor([1.5, 0.7], dtype=torch.float64)


def begin(n: int = 20) -> tuple[ChainState, Tensor]:
    generator = torch.Generator().manual_seed(0)
    state = start(TARGET.sample(n, generator).double(), TARGET.log_prob)
    return state, torch.randn(n, 2, dtype=torch.float64, generator=generator)


def follow_leapfrog(state: ChainState, momentum: Tensor, time: float, count: int) -> tuple[ChainState, Tensor, Tensor]:
    end, after = leapfrog(state, momentum, TARGET.log_prob, time / count, MASS, count)
    kinetic = (after.square().sum(dim=1) - momentum.square().sum(dim=1)) / 2
    return end, after, end.log_density - state.log_density - kinetic


def follow_isokinetic(
    state: ChainState, momentum: Tensor, time: float, count: int
) -> tuple[ChainState, Tensor, Tensor]:
    velocity = torch.nn.functional.normalize(momentum, dim=1)
    return isokinetic(state, velocity, TARGET.log_prob, time / count, MASS, count)


Follow = Callable[[ChainState, Tensor, float, int], tuple[ChainState, Tensor, Tensor]]
BOTH = pytest.mark.parametrize("follow", [follow_leapfrog, follow_isokinetic])


@BOTH
def test_it_runs_back(follow: Follow) -> None:
    state, momentum = begin()
    end, after, ratio = follow(state, momentum, 0.6, 6)
    back, _, minus = follow(end, -after, 0.6, 6)
    assert (end.position - state.position).abs().max() > 0.1
    assert torch.allclose(back.position, state.position, atol=1e-9)
    assert torch.allclose(ratio, -minus, atol=1e-9)


@BOTH
def test_error_is_of_second_order(follow: Follow) -> None:
    state, momentum = begin()
    coarse, fine, exact = (follow(state, momentum, 0.5, count)[0].position for count in (20, 40, 1280))
    ratio = (coarse - exact).norm(dim=1) / (fine - exact).norm(dim=1)
    assert torch.allclose(ratio, torch.full_like(ratio, 4.0), atol=0.3)
    errors = [follow(state, momentum, 0.5, count)[2].abs().mean() for count in (20, 40)]
    assert float(errors[0] / errors[1]) == pytest.approx(4.0, abs=0.3)


def test_leapfrog_preserves_volume() -> None:
    state, momentum = begin(5)
    phase = torch.cat([state.position, momentum], dim=1)
    small = 1e-5
    columns = []
    for k in range(4):
        ends = []
        for sign in (1, -1):
            moved = phase.clone()
            moved[:, k] += sign * small
            end, after, _ = follow_leapfrog(start(moved[:, :2], TARGET.log_prob), moved[:, 2:], 0.6, 4)
            ends.append(torch.cat([end.position, after], dim=1))
        columns.append((ends[0] - ends[1]) / (2 * small))
    determinant = torch.linalg.det(torch.stack(columns, dim=2))
    assert torch.allclose(determinant, torch.ones(5, dtype=torch.float64), atol=1e-6)


def test_microcanonical_speed_is_one_even_under_a_huge_force() -> None:
    def steep(x: Tensor) -> Tensor:
        return -1e6 * x.square().sum(dim=1)

    generator = torch.Generator().manual_seed(1)
    state = start(torch.randn(50, 3, generator=generator), steep)
    end, velocity, ratio = isokinetic(state, direction(state.position, generator), steep, 0.1, 1.0, 3)
    assert torch.allclose(velocity.norm(dim=1), torch.ones(50), atol=1e-5)
    assert ratio.isfinite().all()
    assert ((end.position - state.position).norm(dim=1) <= 0.3 + 1e-5).all()


def test_one_dimension_is_refused() -> None:
    from vaebm.sampling.mclmc import MCLMC

    with pytest.raises(ValueError, match="at least 2 dimensions"):
        MCLMC().init(torch.zeros(3, 1), lambda x: -x.square().sum(dim=1))

"""Resampling: indices in proportion to their weights, proposals in proportion to the target."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from tests.densities import Banana
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


class Disturbed:
    """A reference; while it draws, another thread draws from the global generator."""

    def sample(self, shape: tuple[int]) -> torch.Tensor:
        first = torch.randn(*shape, 1)
        with ThreadPoolExecutor(1) as other:
            other.submit(torch.rand, 1).result()
        return torch.cat([first, torch.randn(*shape, 1)], dim=1)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(value))


def test_other_threads_do_not_disturb_a_draw() -> None:
    drawn = draw_reference(Disturbed(), 5, torch.Generator().manual_seed(2))
    generator = torch.Generator().manual_seed(2)
    expected = [torch.randn(5, 1, generator=generator) for _ in "ab"]
    assert torch.equal(drawn, torch.cat(expected, dim=1))


def test_threads_draw_from_their_own_generators() -> None:
    def draw(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return importance_resample(
            Banana().log_prob, reference(2, 2.0), 50, proposals=5000, generator=generator
        ).position

    alone = [draw(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(draw, [0, 1, 2, 3] * 25))
    assert all(torch.equal(position, alone[k % 4]) for k, position in enumerate(together))


class OwnDraws:
    """A reference that draws by plain torch functions."""

    def sample(self, shape: tuple[int]) -> torch.Tensor:
        columns = [torch.randn(*shape), torch.rand(*shape), torch.randint(7, shape), torch.randint(3, 7, shape)]
        return torch.stack([*columns, torch.randperm(*shape), torch.empty(*shape).exponential_()], dim=1)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(value))


@pytest.mark.parametrize(
    "distribution",
    [
        reference(3, 1.0),
        torch.distributions.Dirichlet(torch.ones(3)),
        torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2)),
        torch.distributions.MixtureSameFamily(
            torch.distributions.Categorical(torch.ones(1)), reference(2, 1.0).expand((1,))
        ),
        OwnDraws(),
    ],
    ids=lambda d: type(d).__name__,
)
def test_any_reference_draws_as_it_would_from_a_global_generator_in_this_state(distribution: Any) -> None:
    drawn = draw_reference(distribution, 20, torch.Generator().manual_seed(3))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        assert torch.equal(drawn, distribution.sample((20,)))


def test_a_target_may_change_its_argument(generator: torch.Generator) -> None:
    def shifted(x: torch.Tensor) -> torch.Tensor:
        x -= 1
        return -x.square().sum(dim=1) / 2

    drawn = importance_resample(shifted, reference(2, 2.0), 2000, proposals=20_000, generator=generator)
    assert (drawn.position.mean(dim=0) - 1).abs().max() < 0.15


def test_wrong_shapes_are_refused(generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match="target gave shape"):
        importance_resample(lambda x: -x.square().sum(), reference(2, 2.0), 5, proposals=50, generator=generator)
    normal = torch.distributions.Normal(torch.zeros(2), torch.ones(2))
    with pytest.raises(ValueError, match="Independent"):
        importance_resample(lambda x: -x.square().sum(dim=1), normal, 5, proposals=50, generator=generator)

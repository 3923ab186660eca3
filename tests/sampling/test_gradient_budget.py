"""A budget of gradients: never exceeded, well used, and refused where it pays for nothing."""

import pytest
import torch
from torch import Tensor

from vaebm import sampling
from vaebm.sampling.kernel import Kernel

NAMES = list(sampling.KERNELS)


class Counted:
    """A Gaussian that counts the evaluations of each chain."""

    def __init__(self, chains: int) -> None:
        self.chains, self.rows = chains, 0

    def __call__(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        return -x.square().sum(dim=1) / 2


def run(
    kernel: Kernel, gradients: int | None, steps: int | None = None, warmup: int = 0
) -> tuple[sampling.Chains, Counted]:
    target, generator = Counted(6), torch.Generator().manual_seed(0)
    position = torch.randn(6, 3, generator=generator)
    chains = sampling.sample_chains(
        target, position, kernel, steps=steps, warmup=warmup, gradients=gradients, generator=generator
    )
    return chains, target


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("warmup", [0, 100])
@pytest.mark.parametrize("gradients", [20, 150, 400])
def test_it_is_spent_and_not_exceeded(name: str, warmup: int, gradients: int) -> None:
    chains, target = run(sampling.KERNELS[name](), gradients, warmup=warmup)
    assert target.rows == 6 * int(chains.gradients[0])
    # What is left does not pay for another step.
    assert gradients - 8 < int(chains.gradients[0]) <= gradients
    assert chains.steps >= 1
    assert chains.history is not None
    assert len(chains.history) == chains.steps


@pytest.mark.parametrize("name", NAMES)
def test_a_budget_that_is_large_enough_changes_nothing(name: str) -> None:
    free, _ = run(sampling.KERNELS[name](), None, steps=6, warmup=8)
    bounded, _ = run(sampling.KERNELS[name](), 100_000, steps=6, warmup=8)
    assert torch.equal(free.position, bounded.position)
    assert torch.equal(free.gradients, bounded.gradients)


@pytest.mark.parametrize("name", ["hmc", "adjusted_mclmc"])
def test_trajectories_are_short_enough_that_several_fit(name: str) -> None:
    chains, _ = run(sampling.KERNELS[name](), 60)
    assert chains.steps >= 8
    tuned, _ = run(sampling.KERNELS[name](), 400, steps=20, warmup=100)
    assert tuned.steps >= 8
    assert isinstance(getattr(tuned.kernel, "inverse_mass"), Tensor)  # noqa: B009  # the warm-up got that far


def test_warm_up_leaves_at_least_half_of_it() -> None:
    spent: list[int] = []
    sampling.sample_chains(
        Counted(4),
        torch.zeros(4, 2),
        sampling.KERNELS["mala"](),
        warmup=1000,
        gradients=100,
        generator=torch.Generator().manual_seed(0),
        observer=lambda step, _, info: spent.append(info.gradients) if step < 1 else None,
    )
    assert 20 < sum(spent) <= 50


def test_what_pays_for_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="gradients is 8"):
        run(sampling.KERNELS["tempering"](), 8)
    with pytest.raises(ValueError, match="gradients is 1"):
        run(sampling.KERNELS["hmc"](), 1)
    assert run(sampling.KERNELS["hmc"](), 2)[0].steps == 1
    with pytest.raises(ValueError, match="neither steps nor gradients"):
        run(sampling.KERNELS["hmc"](), None)


def test_going_on_does_not_pay_for_the_start_again() -> None:
    chains, _ = run(sampling.KERNELS["mala"](), 10)
    assert chains.steps == 9
    more = sampling.sample_chains(
        Counted(6), chains.state, chains.kernel, gradients=10, generator=torch.Generator().manual_seed(0)
    )
    assert more.steps == 10
    assert more.gradients.tolist() == [10] * 6

"""A compiled target is the same target."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.densities import Banana
from vaebm.sampling import compiled, sample_chains
from vaebm.sampling.hmc import HMC
from vaebm.sampling.kernel import evaluate


def test_values_and_scores_are_those_of_the_target() -> None:
    target = Banana().log_prob
    position = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    for expected, found in zip(evaluate(target, position), evaluate(compiled(target), position), strict=True):
        assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)
        assert not found.requires_grad
    assert torch.equal(compiled(target)(position), target(position))


def test_values_that_are_not_finite_come_back_as_evaluate_gives_them() -> None:
    target = lambda x: torch.where(x[:, 0] > 0, -x.square().sum(dim=1), -torch.inf)  # noqa: E731
    position = torch.tensor([[1.0, 2.0], [-1.0, 0.0], [torch.inf, 0.0], [torch.nan, 1.0]])
    expected, found = evaluate(target, position), evaluate(compiled(target), position)
    for a, b in zip(expected, found, strict=True):
        assert torch.equal(a.isfinite(), b.isfinite())
        assert torch.allclose(a.nan_to_num(0, 0, 0), b.nan_to_num(0, 0, 0))


def test_weights_are_taken_as_they_are_at_each_call() -> None:
    net = nn.Linear(2, 1).requires_grad_(False)
    target = compiled(lambda x: net(x)[:, 0] - x.square().sum(dim=1))
    position = torch.ones(3, 2)
    before, _ = evaluate(target, position)
    net.bias += 1
    after, _ = evaluate(target, position)
    assert torch.allclose(after - before, torch.ones(3))


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (lambda x: -x.square(), "shape"),
        (lambda x: torch.zeros(len(x)), "does not depend"),
    ],
)
def test_a_target_that_cannot_be_sampled_is_refused_as_ever(target: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        evaluate(compiled(target), torch.zeros(3, 2))  # type: ignore[arg-type]


def test_chains_on_it_are_those_on_the_target() -> None:
    def run(target: object) -> Tensor:
        position = Banana().sample(50, torch.Generator().manual_seed(0))
        generator = torch.Generator().manual_seed(1)
        chains = sample_chains(target, position, HMC(0.1, 3), steps=5, generator=generator)  # type: ignore[arg-type]
        return chains.position

    assert torch.allclose(run(compiled(Banana().log_prob)), run(Banana().log_prob), atol=1e-4)

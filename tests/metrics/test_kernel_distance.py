import pytest
import torch
from torch import Tensor

from vaebm.errors import InputError
from vaebm.metrics import kernel_distance


def normal(n: int, dim: int, seed: int) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cubic(u: Tensor, v: Tensor) -> float:
    return float((u @ v / len(u) + 1) ** 3)


def test_one_block_agrees_with_the_definition_term_by_term() -> None:
    x, y = normal(20, 3, 0), normal(30, 3, 1) + 0.5
    values = []
    for block in range(10):
        a, b = x[block::10], y[block::10]
        within = [
            sum(cubic(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j) / (len(s) * (len(s) - 1))
            for s in (a, b)
        ]
        across = sum(cubic(u, v) for u in a for v in b) / (len(a) * len(b))
        values.append(sum(within) - 2 * across)
    measured = kernel_distance(x, y)
    assert measured.value == pytest.approx(sum(values) / 10, rel=1e-10)
    assert measured.stderr == pytest.approx(torch.tensor(values, dtype=torch.float64).std().item() / 10**0.5, rel=1e-10)
    assert (measured.n, measured.settings["blocks"], measured.settings["reference_n"]) == (20, 10, 30)


def test_it_is_unbiased_and_its_standard_error_calibrated_at_equal_distributions() -> None:
    draws = [kernel_distance(normal(200, 4, 2 * seed), normal(200, 4, 2 * seed + 1)) for seed in range(150)]
    scores = torch.tensor([draw.value / draw.stderr for draw in draws])
    values = torch.tensor([draw.value for draw in draws])
    assert abs(values.mean()) < 4 * values.std() / 150**0.5
    assert 0.7 < (scores.abs() < 1).float().mean() / 0.657 < 1.3  # a t distribution with 9 degrees of freedom


def between(p: tuple[float, float, float], q: tuple[float, float, float]) -> float:
    return p[2] * q[2] + 3 * p[1] * q[1] + 3 * p[0] * q[0] + 1


def test_it_agrees_with_the_expectation_for_gaussians() -> None:
    # In one dimension E k(x, y) = E (x y + 1)^3 = m3^2 + 3 m2^2 + 3 m1^2 + 1 from the moments of either side.
    first, second = (0.0, 1.0, 0.0), (0.5, 1.25, 1.625)  # E x, E x^2, E x^3 of N(0, 1) and N(1/2, 1)
    expected = between(first, first) + between(second, second) - 2 * between(first, second)
    measured = kernel_distance(normal(10_000, 1, 0), normal(10_000, 1, 1) + 0.5)
    assert abs(measured.value - expected) < 4 * measured.stderr
    assert measured.stderr < 0.2 * expected


def test_wrong_features_are_refused() -> None:
    with pytest.raises(InputError, match="at least 20 samples"):
        kernel_distance(normal(19, 2, 0), normal(30, 2, 1))
    with pytest.raises(InputError, match="the same features"):
        kernel_distance(normal(30, 2, 0), normal(30, 3, 1))

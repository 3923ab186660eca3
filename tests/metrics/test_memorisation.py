"""The fraction of samples that repeat training data: 0 without memorisation, 1 of copies, and what lies between."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vaebm import metrics
from vaebm.errors import InputError


def normal(n: int, seed: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(n, 5, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("scale", [0.2, 1.0, 3.0], ids=["blurred", "alike", "noisy"])
def test_without_memorisation_it_is_zero_within_its_error(scale: float) -> None:
    found = [
        metrics.memorised_fraction(normal(300, s, scale), normal(200, s + 100), normal(40, s + 200)) for s in range(60)
    ]
    values = torch.tensor([m.value for m in found])
    spread = float(values.std())
    assert abs(float(values.mean())) < 3 * spread / 60**0.5
    stated = torch.tensor([m.stderr for m in found]).square().mean().sqrt()
    assert 0.7 * spread < float(stated) < 1.6 * spread


@pytest.mark.parametrize("fraction", [0.0, 0.4, 1.0])
def test_it_is_the_fraction_of_copies(fraction: float) -> None:
    train, held_out, copies = normal(400, 1), normal(200, 2), round(1000 * fraction)
    repeated = train[torch.arange(copies) % 400] + 0.01 * normal(copies, 3)
    found = metrics.memorised_fraction(torch.cat([repeated, normal(1000 - copies, 4)]), train, held_out)
    assert found.value == pytest.approx(fraction, abs=3 * found.stderr + 1e-9)
    assert found.stderr < 0.15
    assert found.n == 1000


def test_the_number_is_that_of_a_count_by_hand() -> None:
    samples, train, held_out = normal(50, 0), normal(20, 1), normal(6, 2)
    nearest = torch.cdist(samples, torch.cat([train, held_out])).argmin(1)
    expected = 1 - float((nearest >= 20).double().mean()) * 26 / 6
    assert metrics.memorised_fraction(samples, train, held_out).value == pytest.approx(expected, abs=1e-12)


def test_bad_input_says_what_to_do() -> None:
    with pytest.raises(InputError, match=r"held_out has shape \(2, 5\): give \(n, dim\) with n at least 3"):
        metrics.memorised_fraction(normal(5, 0), normal(3, 1), normal(2, 2))
    with pytest.raises(InputError, match="give the same of all three"):
        metrics.memorised_fraction(normal(5, 0), normal(5, 1), torch.zeros(4, 2))

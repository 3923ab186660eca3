"""The mixed likelihood: it is normalised, and what noise is transported to follows it, to the bit on its atoms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vaebm.distributions.columns import CategoryColumn, Columns, NumberColumn
from vaebm.distributions.mixed import MixedHead, MixedLikelihood, MixedSettings, log_mass
from vaebm.errors import InputError

rng = np.random.default_rng(0)
COUNTS = NumberColumn.fit("counts", rng.poisson(1.0, 2000).astype(float), missing=True)
NUMBERS = NumberColumn.fit("numbers", rng.standard_normal(2000), missing=True)
NAMES = CategoryColumn(name="names", categories=["a", "b"], missing=True)
TABLE = Columns((NAMES, COUNTS, NUMBERS))
DRAWS = 40_000


def likelihood(columns: Columns, rows: int = 1, seed: int = 0, size: float = 1.0) -> MixedLikelihood:
    raw = size * torch.randn(1, 2, columns.width, generator=torch.Generator().manual_seed(seed))
    return MixedHead(columns, 0.5)(raw.expand(rows, -1, -1))


def rows_of_counts() -> Tensor:
    """All rows of a table of names and counts: every value there can be, and missing."""
    names = np.eye(3)
    counts = [*([score, 0.0] for score in COUNTS.scores), [0.0, 1.0]]
    rows = [np.concatenate(pair) for pair in itertools.product(names, counts)]
    return torch.tensor(np.array(rows), dtype=torch.float32)[:, None]


@pytest.mark.parametrize("seed", range(3))
def test_the_masses_of_all_rows_sum_to_one_and_draws_follow_them(seed: int) -> None:
    table, rows = Columns((NAMES, COUNTS)), rows_of_counts()
    masses = likelihood(table, len(rows), seed).log_prob(rows).exp().detach().double()
    assert float(masses.sum()) == pytest.approx(1.0, abs=1e-5)
    x = likelihood(table, DRAWS, seed).sample(torch.Generator().manual_seed(1)).detach()
    equal = (x[:, None, 0] == rows[None, :, 0]).all(2)
    assert equal.any(1).all()  # to the bit
    error = (masses * (1 - masses) / DRAWS).sqrt()
    assert ((equal.double().mean(0) - masses).abs() < 4.5 * error + 1e-4).all()


def test_the_density_of_numbers_integrates_to_one_with_the_mass_of_missing_ones() -> None:
    table = Columns((NUMBERS,))
    y = torch.linspace(-12, 12, 4001)
    there = torch.stack([y, torch.zeros_like(y)], 1)[:, None]
    mass = likelihood(table, len(y)).log_prob(there).exp().sum() * (y[1] - y[0])
    gone = likelihood(table).log_prob(torch.tensor([[[0.0, 1.0]]])).exp()
    assert float((mass + gone).detach()) == pytest.approx(1.0, abs=1e-4)


def test_parts_sum_to_the_whole_and_densities_are_counted() -> None:
    p = likelihood(TABLE, 50)
    x = p.sample(torch.Generator().manual_seed(0)).detach()
    parts = p.log_prob_parts(x)
    assert list(parts) == ["numbers", "missing", "categories"]
    torch.testing.assert_close(sum(parts.values()), p.log_prob(x))
    assert torch.equal(p.densities(x), 1.0 - x[:, 0, -1])


def test_gradients_are_those_of_the_smooth_functions_beside_the_steps() -> None:
    raw = torch.randn(30, 2, TABLE.width, generator=torch.Generator().manual_seed(0)).requires_grad_()
    eps = torch.randn(30, 1, TABLE.width, generator=torch.Generator().manual_seed(1)).requires_grad_()
    weights = torch.randn(TABLE.width, generator=torch.Generator().manual_seed(2))
    x = MixedHead(TABLE, 0.5)(raw).transport(eps)
    gradients = torch.autograd.grad((x * weights).sum(), (raw, eps))
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert (gradients[1][:, 0, :3] != 0).any(1).all()  # of the categories
    gone = x[:, 0, 4] == 1
    assert (gradients[1][gone, 0, 3] == 0).all()  # a missing number is no number
    assert (gradients[1][~gone, 0, 3] != 0).all()


@pytest.mark.parametrize("size", [1.0, 1e2, 1e4])
def test_gradients_are_finite_however_far_off(size: float) -> None:
    head = MixedHead(TABLE, 0.5)
    raw = (size * torch.randn(40, 2, TABLE.width, generator=torch.Generator().manual_seed(0))).requires_grad_()
    x = likelihood(TABLE, 40, seed=3).sample(torch.Generator().manual_seed(0)).detach()
    value = head(raw).log_prob(x)
    gradients = torch.autograd.grad(value.sum(), (raw, head.base_log_scale))
    assert value.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_a_mass_is_exact_where_it_is_narrow_wide_or_far_out() -> None:
    cases = [(-0.01, 0.01), (-0.5, 1.0), (7.9, 8.0), (-40.0, -39.9), (-math.inf, -5.0), (6.0, math.inf)]
    low, high = torch.tensor(cases).T
    found = log_mass(low, high, torch.zeros(6), torch.ones(6))
    normal = torch.distributions.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0)
    for (low_end, high_end), value in zip(cases, found.tolist(), strict=True):
        a, b = (-high_end, -low_end) if low_end > 0 else (low_end, high_end)
        grid = torch.linspace(max(a, b - 10), b, 20_001, dtype=torch.float64)
        log_prob = normal.log_prob(grid)
        expected = torch.trapezoid((log_prob - log_prob[-1]).exp(), grid).log() + log_prob[-1]
        assert value == pytest.approx(float(expected), rel=1e-4, abs=1e-4)


def test_beyond_the_values_of_the_data_farther_is_stranger() -> None:
    table = Columns((NumberColumn.fit("x", rng.poisson(3.0, 2000).astype(float), missing=False),))
    y = torch.tensor([3.0, 5.0, 9.0, 30.0])[:, None, None]
    value = likelihood(table, 4).log_prob(y)
    assert (value.diff() < 0).all()


def test_a_table_is_needed_to_build_it() -> None:
    with pytest.raises(InputError, match="by its path"):
        MixedSettings().build()

import math
import warnings

import pytest
import torch
from torch import Tensor

from vaebm.errors import InputError
from vaebm.metrics import Moments, frechet_distance, frechet_from_moments


def normal(n: int, dim: int, seed: int) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def known(mean: Tensor, covariance: Tensor) -> Moments:
    return Moments(1001, mean, covariance)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_moments_are_about_the_mean(offset: float) -> None:
    rows = normal(60, 3, 0) + offset
    moments = Moments.of(rows)
    assert moments.count == 60
    assert torch.allclose(moments.covariance, torch.cov(rows.T), rtol=1e-8)
    of_moments, of_rows = frechet_distance(rows[:20], moments), frechet_distance(rows[:20], rows)
    assert of_rows.with_settings(influence_of_data=None) == of_moments.with_settings(
        influence_of_data=None, own_stderr=of_moments.stderr
    )


def test_diagonal_gaussians_agree_with_the_closed_form() -> None:
    mean_1, mean_2 = torch.tensor([1.0, 2.0, 3.0]).double(), torch.tensor([0.0, 2.0, 5.0]).double()
    std_1, std_2 = torch.tensor([1.0, 2.0, 0.0]).double(), torch.tensor([3.0, 2.0, 0.5]).double()
    expected = (mean_1 - mean_2).square().sum() + (std_1 - std_2).square().sum()
    value = frechet_from_moments(known(mean_1, std_1.square().diag()), known(mean_2, std_2.square().diag()))
    assert value == pytest.approx(expected.item(), rel=1e-12)


def test_full_covariances_agree_with_the_eigenvalues_of_their_product() -> None:
    factor_1, factor_2 = normal(5, 5, 1), normal(5, 5, 2)
    cov_1, cov_2 = factor_1 @ factor_1.T, factor_2 @ factor_2.T
    overlap = torch.linalg.eigvals(cov_1 @ cov_2).real.sqrt().sum()
    expected = cov_1.trace() + cov_2.trace() - 2 * overlap
    zero = torch.zeros(5).double()
    assert frechet_from_moments(known(zero, cov_1), known(zero, cov_2)) == pytest.approx(expected.item(), rel=1e-9)


def test_equal_features_are_at_distance_zero_also_when_singular() -> None:
    rows = normal(50, 3, 0) @ normal(3, 20, 1)  # rank 3 in 20 dimensions
    distance = frechet_distance(rows, rows)
    assert 0 <= distance.value < 1e-9
    assert distance.stderr < 1e-6


def test_numpy_float32_and_torch_agree() -> None:
    a, b = normal(100, 4, 0).float(), normal(120, 4, 1).float() + 0.5
    assert frechet_distance(a.numpy(), b.numpy()) == frechet_distance(a, b)
    assert frechet_distance(a, b).n == 100
    assert frechet_distance(b, a).n == 120


@pytest.mark.parametrize(("dim", "shift", "stretch"), [(4, 1.0, 1.5), (16, 0.3, 1.2)])
def test_the_standard_error_is_calibrated(dim: int, shift: float, stretch: float) -> None:
    reference = normal(1000, dim, 0)
    draws = [
        frechet_distance(normal(400, dim, seed) * torch.linspace(0.5, 2, dim) * stretch + shift, reference)
        for seed in range(1, 151)
    ]
    spread = torch.tensor([draw.value for draw in draws]).std().item()
    claimed = torch.tensor([draw.stderr for draw in draws]).mean().item()
    # A standard deviation from 150 draws is known to 6 %.
    assert 0.8 < claimed / spread < 1.25


def test_at_equal_distributions_the_standard_error_is_of_the_right_order() -> None:
    reference = normal(1000, 16, 0)
    draws = [frechet_distance(normal(400, 16, seed), reference) for seed in range(1, 101)]
    spread = torch.tensor([draw.value for draw in draws]).std().item()
    claimed = torch.tensor([draw.stderr for draw in draws]).mean().item()
    assert 0.8 < claimed / spread < 2.0


def test_few_samples_warn() -> None:
    with pytest.warns(UserWarning, match="draw at least 40"):
        frechet_distance(normal(39, 20, 0), normal(100, 20, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frechet_distance(normal(40, 20, 0), normal(100, 20, 1))


@pytest.mark.parametrize(
    ("generated", "reference", "said"),
    [
        (torch.zeros(10), torch.zeros(10, 2), r"generated has shape \(10,\)"),
        (torch.zeros(1, 2), torch.zeros(10, 2), "n at least 2"),
        (torch.zeros(10, 2), torch.zeros(10, 2, 3), "reference has shape"),
        (torch.zeros(10, 2), torch.zeros(10, 3), "2 dimensions and reference 3"),
        (torch.full((10, 2), math.nan), torch.zeros(10, 2), "not finite"),
    ],
)
def test_wrong_features_are_refused(generated: Tensor, reference: Tensor, said: str) -> None:
    with pytest.raises(InputError, match=said):
        frechet_distance(generated, reference)

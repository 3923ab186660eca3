import math

import pytest
import torch

from vaebm.data import GaussiansSettings
from vaebm.errors import InputError
from vaebm.metrics import mode_measurements

MODES = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


def test_a_sample_just_within_three_sigma_covers_its_mode() -> None:
    points = torch.tensor([[0.29, 0.0], [1.0, 0.31], [0.0, 1.0], [0.0, 1.0]])
    measured = mode_measurements(points, MODES, 0.1)
    assert measured["modes_covered"].value == 2
    assert measured["within_three_sigma"].value == 0.75


def test_shares_of_the_modes() -> None:
    points = torch.tensor([[0.0, 0.0]] * 2 + [[1.0, 0.1]] * 2)
    assert mode_measurements(points, MODES, 0.1)["mode_kl"].value == pytest.approx(math.log(2))
    assert mode_measurements(MODES.repeat(3, 1), MODES, 0.1)["mode_kl"].value == pytest.approx(0.0, abs=1e-12)


def test_the_truth_scores_as_it_should() -> None:
    data = GaussiansSettings(train_size=20_000).load()
    assert data.truth is not None
    measured = mode_measurements(data.train.all(), data.truth.modes, data.truth.scale)
    assert set(measured) == {"modes_covered", "within_three_sigma", "mode_kl"}
    assert measured["modes_covered"].value == 25
    assert measured["modes_covered"].stderr < 1e-9
    fraction = measured["within_three_sigma"]
    assert abs(fraction.value - (1 - math.exp(-4.5))) < 4 * fraction.stderr
    assert fraction.n == 20_000
    assert fraction.settings == {"modes": 25, "std": data.truth.scale}
    # 2 n KL is about chi-squared with 24 degrees of freedom
    assert 2 * 20_000 * measured["mode_kl"].value < 24 + 4 * math.sqrt(48)


def draws(probabilities: list[float], n: int, repeats: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    weights = torch.tensor(probabilities)
    return [MODES[torch.multinomial(weights, n, replacement=True, generator=generator)] for _ in range(repeats)]


@pytest.mark.parametrize("name", ["modes_covered", "mode_kl"])
def test_standard_errors_are_calibrated(name: str) -> None:
    measured = [mode_measurements(points, MODES, 0.1)[name] for points in draws([0.6, 0.3, 0.085, 0.015], 100, 400)]
    spread = torch.tensor([float(m.value) for m in measured]).std().item()
    claimed = torch.tensor([m.stderr**2 for m in measured]).mean().sqrt().item()
    assert 0.6 < claimed / spread < 1.4


def test_modes_of_other_data_are_refused() -> None:
    with pytest.raises(InputError, match="modes of the same data"):
        mode_measurements(torch.zeros(5, 3), MODES, 0.1)

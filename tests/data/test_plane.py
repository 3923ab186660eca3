import math

import pytest
import torch

from vaebm.data import POINTS, CheckerboardSettings, DataSet, EightModesSettings, GaussiansSettings, ModesTruth
from vaebm.data.sets.plane import Checkerboard


@pytest.fixture(scope="module")
def data() -> DataSet:
    return GaussiansSettings().load()


def test_shapes_and_sentence(data: DataSet) -> None:
    assert (data.modality, data.shape, len(data.train), len(data.test)) == (POINTS, (2,), 100_000, 10_000)
    assert data.saturated_fraction == 0.0
    assert data.class_names is not None
    assert len(data.class_names) == 25
    for word in ("100,000", "10,000", "25 Gaussians", "0.05", "nothing was skipped"):
        assert word in data.description


def test_the_draws_are_the_same_whatever_the_global_seed(data: DataSet) -> None:
    before = torch.get_rng_state()
    again = GaussiansSettings().load()
    assert torch.equal(again.train.values, data.train.values)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(data.train.values[:100], data.test.values[:100])


def test_points_lie_about_the_mode_that_their_label_names(data: DataSet) -> None:
    assert isinstance(data.truth, ModesTruth)
    assert data.train.labels is not None
    n = len(data.train)
    offset = (data.train.values - data.truth.modes[data.train.labels]) / data.truth.scale
    assert abs(offset.mean().item()) < 4 / math.sqrt(2 * n)
    assert abs(offset.square().mean().item() - 1) < 4 * math.sqrt(2 / (2 * n))
    counts = data.train.labels.bincount(minlength=25).double()
    chi_square = ((counts - n / 25).square() / (n / 25)).sum().item()
    assert chi_square < 24 + 4 * math.sqrt(2 * 24)


def test_the_truth_is_at_hand(data: DataSet) -> None:
    assert isinstance(data.truth, ModesTruth)
    entropy = math.log(25) + math.log(2 * math.pi * math.e * 0.05**2)  # the modes do not overlap
    log_prob = data.truth.log_prob(data.test.all())
    assert abs(log_prob.mean().item() + entropy) < 4 * log_prob.std().item() / math.sqrt(len(data.test))
    assert torch.allclose(data.truth.modes.mean(0), torch.zeros(2))


def test_other_grids() -> None:
    data = GaussiansSettings(side=3, spacing=2.0, std=0.1, train_size=50, test_size=10).load()
    assert (data.name, len(data.train), len(data.test)) == ("gaussians9", 50, 10)
    assert isinstance(data.truth, ModesTruth)
    assert data.truth.modes.abs().max().item() == 2.0


def test_eight_modes_lie_on_a_circle() -> None:
    data = EightModesSettings(train_size=20_000, test_size=100).load()
    assert (data.name, data.shape) == ("eight_modes", (2,))
    assert data.class_names is not None
    assert data.class_names[:3] == ("(1, 0)", "(0.707, 0.707)", "(0, 1)")
    assert isinstance(data.truth, ModesTruth)
    assert torch.allclose(data.truth.modes.norm(dim=1), torch.ones(8))
    distance = (data.train.values - data.truth.modes[data.train.labels]).norm(dim=1)
    assert distance.square().mean().item() == pytest.approx(2 * 0.1**2, rel=0.03)


def test_the_checkerboard_is_even_on_its_cells() -> None:
    data = CheckerboardSettings(train_size=36_000, test_size=100).load()
    truth, points, labels = data.truth, data.train.values, data.train.labels
    assert isinstance(truth, Checkerboard)
    assert not isinstance(truth, ModesTruth)
    assert labels is not None
    assert (len(truth.low), data.class_names and len(data.class_names)) == (18, 18)
    assert bool((points >= truth.low[labels]).all() and (points <= truth.high[labels]).all())
    # The cells are every second square of a board from -1 to 1, half of its area.
    assert torch.equal(truth.log_prob(points), torch.full((36_000,), -math.log(2.0)))
    assert truth.log_prob(torch.tensor([[0.2, 0.6], [1.1, 0.1], [0.2, -0.9]])).tolist() == [-math.inf] * 3
    areas = (truth.high - truth.low).prod(1)
    assert float(areas.sum()) == pytest.approx(2.0)
    expected = 36_000 * areas / areas.sum()
    chi_square = ((labels.bincount(minlength=18) - expected).square() / expected).sum().item()
    assert chi_square < 17 + 4 * math.sqrt(2 * 17)

"""E_z: the correction's bound, its samples and the calibration of the mixture, against closed forms."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from vaebm.distributions.mixture import GaussianMixture
from vaebm.energy.latent import CorrectionSettings, MixtureEnergy
from vaebm.errors import Diverged

DRAWS = 20_000


class Quadratic(nn.Module):
    """a z^2 / 2 + b (z > 0) on one dimension: in the place of a learned correction."""

    def __init__(self, a: float, b: float) -> None:
        super().__init__()
        self.a, self.b = a, b

    def forward(self, z: Tensor) -> Tensor:
        return self.a * z.square() / 2 + self.b * (z > 0)


def two_components(mean: float = 4.0) -> GaussianMixture:
    """Shares 0.3 and 0.7 at -mean and mean, standard deviation 1 and 0.5."""
    return GaussianMixture(
        torch.tensor([0.3, 0.7]).log(), torch.tensor([[-mean], [mean]]), torch.tensor([[[1.0]], [[0.5]]])
    )


def z_of(mean: float, deviation: float, a: float) -> float:
    """E exp(-a z^2 / 2) under N(mean, deviation^2)."""
    spread = 1 + a * deviation**2
    return math.exp(-a * mean**2 / (2 * spread)) / math.sqrt(spread)


def test_calibration_divides_each_share_by_its_normaliser() -> None:
    a, b = 0.05, 0.7
    energy = MixtureEnergy(two_components(), Quadratic(a, b))
    energy.calibrate(100_000, torch.Generator().manual_seed(0))
    expected = torch.tensor([0.3 / z_of(-4, 1, a), 0.7 / (z_of(4, 0.5, a) * math.exp(-b))])
    expected /= expected.sum()
    # The components hardly overlap; weights differ by a factor of 2, so 100,000 draws give a per cent.
    torch.testing.assert_close(energy.mixture.log_weights.exp(), expected, rtol=0, atol=0.01)


def test_after_calibration_each_component_has_its_share_of_the_samples() -> None:
    energy = MixtureEnergy(two_components(), Quadratic(0.1, 1.0))
    generator = torch.Generator().manual_seed(0)
    before = float((energy.sample(DRAWS, generator) > 0).float().mean())
    energy.calibrate(100_000, generator)
    after = float((energy.sample(DRAWS, generator) > 0).float().mean())
    assert abs(before - 0.7) > 0.05
    assert after == pytest.approx(0.7, abs=0.02)


def test_samples_follow_the_density() -> None:
    """mix(z) exp(-a z^2 / 2) is again a mixture: its components' means are m / (1 + a s^2), their shares pi Z."""
    a = 0.3
    energy = MixtureEnergy(two_components(mean=2.0), Quadratic(a, 0.0))
    z = energy.sample(DRAWS, torch.Generator().manual_seed(1))
    fractions = torch.tensor([0.3 * z_of(-2, 1, a), 0.7 * z_of(2, 0.5, a)])
    fractions /= fractions.sum()
    means = torch.tensor([-2 / (1 + a), 2 / (1 + a * 0.25)])
    assert float(z.mean()) == pytest.approx(float(fractions @ means), abs=0.05)
    assert z.shape == (DRAWS, 1)


def test_samples_are_distinct_and_keep_their_law_when_drawn_one_at_a_time() -> None:
    a, generator = 0.3, torch.Generator().manual_seed(1)
    energy = MixtureEnergy(two_components(mean=2.0), Quadratic(a, 0.0), least=-1.0)
    many, single = energy.sample(2000, generator), torch.cat([energy.sample(1, generator) for _ in range(2000)])
    assert len(torch.cat([many, single]).unique()) == 4000
    assert stats.ks_2samp(many.squeeze(1).numpy(), single.squeeze(1).numpy()).pvalue > 1e-4
    assert energy.sample(0, generator).shape == (0, 1)


def test_shares_of_components_vary_less_than_among_independent_samples() -> None:
    energy = MixtureEnergy(two_components(), Quadratic(0.1, 1.0))
    generator = torch.Generator().manual_seed(2)
    counts = torch.stack([(energy.sample(40, generator) > 0).sum() for _ in range(1500)]).double()
    fraction = float(counts.mean()) / 40
    # A quarter of the binomial's variance, and what rounding adds: at most 1/4 of a sample squared.
    assert float(counts.var()) < 0.25 * 40 * fraction * (1 - fraction) + 0.25
    high = 0.7 * z_of(4, 0.5, 0.1) * math.exp(-1.0)
    expected = high / (high + 0.3 * z_of(-4, 1, 0.1))
    assert fraction == pytest.approx(expected, abs=4 * float(counts.std()) / 40 / math.sqrt(1500))


@pytest.mark.parametrize("height", [30.0, math.nan])
def test_a_net_that_rejects_everything_is_said_in_one_line(height: float) -> None:
    energy = MixtureEnergy(two_components(), Quadratic(0.0, height), least=0.0)
    energy.mixture.log_weights.copy_(torch.tensor([0.0, -torch.inf]).roll(1))  # all of it where z > 0
    with pytest.raises(Diverged, match=r"kept 0 of .* codes of its mixture.*kind=mixture$"):
        energy.sample(5, torch.Generator().manual_seed(0))


def test_without_a_correction_samples_are_those_of_the_mixture() -> None:
    energy = MixtureEnergy(two_components())
    draws = [law.sample(10, torch.Generator().manual_seed(2)) for law in (energy, two_components())]
    assert torch.equal(*draws)


def test_a_correction_starts_at_0_and_claims_no_more_than_its_bound() -> None:
    bound = 2.0
    energy = CorrectionSettings(hidden=[8], bound=bound).build(3, 2, torch.Generator().manual_seed(0))
    z = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(energy.net(z), torch.zeros(50))
    last = energy.correction[-2]
    nn.init.constant_(last.bias, -100.0)
    torch.testing.assert_close(energy.net(z), torch.full((50,), energy.least))
    assert energy.least == pytest.approx(-math.log1p(math.exp(bound)))
    nn.init.constant_(last.bias, 100.0)  # an energy may be as high as it likes
    assert (energy.net(z) > 90).all()

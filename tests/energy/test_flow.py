"""E_z by a flow: its density and its samples against a flow whose law is known, and against each other."""

import math
from itertools import pairwise

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from vaebm.distributions.gaussian import standard_log_prob
from vaebm.distributions.mixture import GaussianMixture
from vaebm.energy.flow import CODES_AT_ONCE, DIVERGENCES_AT_ONCE, FlowEnergy, FlowSettings


class Affine(nn.Module):
    """v(z, t) = 2 t (A z + b): z(1) is the time-one map of dz/ds = A z + b."""

    def __init__(self, rates: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.rates, self.shift = rates, shift

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        return 2 * t[:, None] * (z * self.rates + self.shift)


RATES, SHIFT = torch.tensor([0.7, -0.4]), torch.tensor([1.0, 0.5])


def two_components() -> GaussianMixture:
    factors = torch.tensor([[[0.5, 0.0], [0.2, 0.4]], [[0.8, 0.0], [-0.3, 0.5]]])
    return GaussianMixture(torch.tensor([0.3, 0.7]).log(), torch.tensor([[-2.0, 0.0], [1.0, 1.0]]), factors)


def carried_exactly(z: Tensor) -> Tensor:
    grown = RATES.exp()
    return grown * z + SHIFT * (grown - 1) / RATES


def exact_log_prob(z: Tensor) -> Tensor:
    grown = RATES.exp()
    return two_components().log_prob((z - SHIFT * (grown - 1) / RATES) / grown) - RATES.sum()


def energy(steps: int = 40) -> FlowEnergy:
    return FlowEnergy(two_components(), Affine(RATES, SHIFT), steps)


def points(n: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))


def test_a_flow_that_has_learned_nothing_is_the_mixture() -> None:
    untrained = FlowSettings(width=8, blocks=2).build(2, 2, torch.Generator().manual_seed(0))
    untrained.mixture.load_state_dict(two_components().state_dict())
    z = points(50)
    torch.testing.assert_close(untrained.log_prob(z), two_components().log_prob(z), rtol=1e-5, atol=1e-5)
    draws = [law.sample(10, torch.Generator().manual_seed(2)) for law in (untrained, two_components())]
    assert torch.equal(*draws)


def test_its_density_is_that_of_an_affine_flow_to_the_order_of_a_step_squared() -> None:
    z = points(2 * DIVERGENCES_AT_ONCE + 3)
    errors = [float((energy(steps).log_prob(z) - exact_log_prob(z)).abs().max()) for steps in (10, 20, 40)]
    assert errors[-1] < 0.02
    for coarse, fine in pairwise(errors):
        assert 3 < coarse / fine < 5.5  # 4, as steps go to 0
    expected = standard_log_prob(z) - exact_log_prob(z)
    torch.testing.assert_close(energy(80)(None, z), expected, rtol=0, atol=0.01)


def test_its_gradient_is_that_of_the_affine_flow() -> None:
    z = points(30).requires_grad_()
    (found,) = torch.autograd.grad(energy().log_prob(z).sum(), z)
    (expected,) = torch.autograd.grad(exact_log_prob(z).sum(), z)
    torch.testing.assert_close(found, expected, rtol=0.01, atol=0.01)


def test_its_samples_are_the_mixtures_carried() -> None:
    n = CODES_AT_ONCE + 5
    found = energy().sample(n, torch.Generator().manual_seed(1))
    expected = carried_exactly(two_components().sample(n, torch.Generator().manual_seed(1)))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert energy().sample(0, torch.Generator().manual_seed(1)).shape == (0, 2)


def test_samples_and_density_of_a_net_agree() -> None:
    """A net with any weights: its density integrates to 1, and its samples fall where it says."""
    flow = FlowSettings(width=16, blocks=2, steps=20).build(2, 2, torch.Generator().manual_seed(0))
    flow.mixture.load_state_dict(two_components().state_dict())
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in flow.parameters():
            weight.add_(0.15 * torch.randn(weight.shape, generator=generator))
        side = torch.linspace(-9, 9, 121)  # middles of cells
        mass = flow.log_prob(torch.cartesian_prod(side, side)).exp() * 0.15**2
    assert float(mass.sum()) == pytest.approx(1.0, abs=0.005)
    samples = flow.sample(20_000, generator)
    running = mass.view(121, 121).sum(1).cumsum(0)
    for cell in (48, 60, 70):
        fraction = float(running[cell])
        found = int((samples[:, 0] <= float(side[cell]) + 0.075).sum())
        error = 3.5 * math.sqrt(fraction * (1 - fraction) / len(samples)) + 0.003
        assert found / len(samples) == pytest.approx(fraction, abs=error)
    assert stats.kstest(samples[:, 0].numpy(), two_components().sample(20_000, generator)[:, 0].numpy()).pvalue < 1e-6


def test_of_a_hierarchical_latent_the_first_coordinates_are_its_codes() -> None:
    z = torch.cat([points(20), points(20, seed=1)], dim=1)
    assert torch.equal(energy()(None, z), energy()(None, z[:, :2]))


def test_a_density_is_never_left_to_half_precision() -> None:
    flow = FlowSettings(width=16).build(2, 2, torch.Generator().manual_seed(0))
    z = points(10)
    exact = flow(None, z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(flow(None, z), exact)

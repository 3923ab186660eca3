"""E_z by a spline flow: its density integrates to 1 and is that of its samples, and learning brings it to codes."""

import math

import pytest
import torch
from torch import Tensor, nn

from tests.energy.test_flow import points, two_components
from vaebm.distributions.gaussian import standard_log_prob
from vaebm.energy import SplineFlowEnergy, SplineFlowSettings
from vaebm.errors import InputError


def bent(seed: int = 0) -> SplineFlowEnergy:
    """Layers that are no identity any more."""
    generator = torch.Generator().manual_seed(seed)
    energy = SplineFlowSettings(hidden=[16], couplings=3).build(2, 2, generator)
    energy.mixture.load_state_dict(two_components().state_dict())
    with torch.no_grad():
        for weight in energy.layers.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    return energy


def grid() -> tuple[Tensor, float]:
    axis = torch.linspace(-8, 8, 401)
    return torch.cartesian_prod(axis, axis), float(axis[1] - axis[0]) ** 2


def test_untrained_it_is_the_mixture() -> None:
    energy = SplineFlowSettings(hidden=[8], couplings=2).build(2, 2, torch.Generator().manual_seed(0))
    energy.mixture.load_state_dict(two_components().state_dict())
    z = points(50)
    torch.testing.assert_close(energy.log_prob(z), two_components().log_prob(z), rtol=1e-5, atol=1e-5)
    draws = [law.sample(10, torch.Generator().manual_seed(2)) for law in (energy, two_components())]
    torch.testing.assert_close(*draws, rtol=1e-5, atol=1e-5)


def test_its_density_integrates_to_one_and_is_that_of_its_samples() -> None:
    energy = bent()
    z, cell = grid()
    with torch.no_grad():
        log_prob = energy.log_prob(z)
    density, far = log_prob.double().exp() * cell, log_prob - two_components().log_prob(z)
    assert float(density.sum()) == pytest.approx(1.0, abs=2e-3)
    assert far.abs().max() > 1  # it is another density
    n = 20_000
    samples = energy.sample(n, torch.Generator().manual_seed(1))
    for values, over in zip(*(statistics_of(part) for part in (samples, z)), strict=True):
        found, exact = values.double(), float((density * over.double()).sum())
        assert abs(float(found.mean()) - exact) < 4.5 * float(found.std()) / math.sqrt(n) + 2e-3


def statistics_of(z: Tensor) -> tuple[Tensor, ...]:
    return z[:, 0], z[:, 0] * z[:, 1], z.square().sum(1), z[:, 1].sign()


def test_the_energy_tilts_the_prior_to_it() -> None:
    energy, z = bent(), points(100)
    torch.testing.assert_close(standard_log_prob(z) - energy(None, z), energy.log_prob(z), rtol=1e-4, atol=1e-4)


def test_a_hierarchical_code_is_bent_in_its_first_coordinates() -> None:
    energy, z = bent(), points(20)
    more = torch.cat([z, torch.randn(20, 3, generator=torch.Generator().manual_seed(1))], 1)
    assert torch.equal(energy(None, more), energy(None, z))


def test_by_maximum_likelihood_it_becomes_the_law_of_its_data() -> None:
    """A curved law that a single Gaussian cannot have: y ~ N(x^2, 0.1)."""
    generator = torch.Generator().manual_seed(0)

    def data(n: int) -> Tensor:
        noise = torch.randn(n, 2, generator=generator)
        return torch.stack([noise[:, 0], noise[:, 0].square() - 1 + 0.3 * noise[:, 1]], 1)

    energy = SplineFlowSettings(hidden=[32], couplings=2).build(2, 1, generator)
    optimizer = torch.optim.Adam(energy.layers.parameters(), 5e-3)
    for _ in range(300):
        loss = -energy.log_prob(data(256)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    entropy = 1 + math.log(2 * math.pi) + math.log(0.3)
    with torch.no_grad():
        assert entropy - 0.05 < -float(energy.log_prob(data(4000)).mean()) < entropy + 0.5 < 2.2


def test_one_coordinate_cannot_be_coupled() -> None:
    with pytest.raises(InputError, match="kind=mixture"):
        SplineFlowSettings().build(1, 2, torch.Generator())


def test_its_weights_are_its_own() -> None:
    energy = bent()
    copy = energy.frozen_copy()
    assert not any(p.requires_grad for p in copy.parameters())
    before = copy.log_prob(points(5))
    with torch.no_grad():
        nn.utils.vector_to_parameters(torch.zeros(sum(p.numel() for p in energy.parameters())), energy.parameters())
    assert torch.equal(copy.log_prob(points(5)), before)

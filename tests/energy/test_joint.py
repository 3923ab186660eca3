"""The joint energy: what the residual one adds to E_x, and that its optimum is the data's own law of pairs."""

import pytest
import torch
from torch.distributions import MultivariateNormal

from vaebm.energy import JointMLPSettings, JointResidualSettings
from vaebm.energy.joint import JointResidualEnergy
from vaebm.errors import InputError
from vaebm.nn.weight_norm import initialise_from_data
from vaebm.training.estimators.density_ratio import density_ratio


def test_the_residual_one_is_e_x_until_its_second_net_learns() -> None:
    generator = torch.Generator().manual_seed(0)
    energy = JointResidualSettings(stem=4, widths=[8], halve=[0], hidden=[6]).build((1, 8, 8), 3, generator)
    assert isinstance(energy, JointResidualEnergy)
    x, z = torch.randn(5, 1, 8, 8, generator=generator), torch.randn(5, 3, generator=generator)
    initialise_from_data(energy, x, z)
    with torch.no_grad():
        energy.on_x.out.weight.normal_(generator=generator)
        torch.testing.assert_close(energy(x, z), energy.on_x(x))
        energy.out.weight.normal_(generator=generator)
        assert (energy(x, z) - energy(x, z.flip(0))).abs().max() > 1e-3
        # Features are a mean over pixels, which does not grow with the image as the sum does.
        wide = x.repeat(1, 1, 2, 2)
        features = [energy.on_x.pixels(images).mean((2, 3)) for images in (x, wide)]
        added = [energy(images, z) - energy.on_x(images) for images in (x, wide)]
        expected = [energy.out(energy.body(torch.cat([mean, z], 1))).squeeze(1) for mean in features]
        torch.testing.assert_close(added, expected)


def test_images_are_asked_for() -> None:
    with pytest.raises(InputError, match=r"energy\.joint\.kind=mlp"):
        JointResidualSettings().build((2,), 3, torch.Generator())


def test_as_a_density_ratio_it_learns_the_law_of_pairs() -> None:
    """Pairs whose marginals are the base's, and which differ in their correlation alone: no sum of terms can tell."""
    base = MultivariateNormal(torch.zeros(2), torch.eye(2))
    pairs = MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, 0.8], [0.8, 1.0]]))
    generator = torch.Generator().manual_seed(0)
    energy = JointMLPSettings(hidden=[32, 32]).build((1,), 1, generator)
    optimizer = torch.optim.Adam(energy.parameters(), 5e-3)
    for _ in range(300):
        noise = torch.randn(1024, 2, generator=generator)
        positive, negative = (noise[:512] @ pairs.scale_tril.T), noise[512:]
        both = torch.cat([positive, negative])
        loss = density_ratio(*energy(both[:, :1], both[:, 1:]).chunk(2)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    held_out = torch.randn(2000, 2, generator=generator) @ pairs.scale_tril.T
    with torch.no_grad():
        found = -energy(held_out[:, :1], held_out[:, 1:])
    exact = pairs.log_prob(held_out) - base.log_prob(held_out)
    assert float((found - exact).abs().mean()) < 0.1 < 0.3 < float(exact.mean())

"""The flat noise vector and the shapes behind it."""

import pytest
import torch

from vaebm.models import Noise
from vaebm.sampling import KERNELS

SHAPES = [(5,), (1, 4, 4), (3, 2, 7)]


@pytest.mark.parametrize("shape", SHAPES)
def test_codes_come_first_and_pixels_row_by_row(shape: tuple[int, ...]) -> None:
    noise = Noise(3, shape)
    assert noise.dim == 3 + torch.Size(shape).numel()
    eps = torch.arange(2 * noise.dim, dtype=torch.float32).reshape(2, noise.dim)
    eps_x, eps_z = noise.unpack(eps)
    assert eps_x is not None
    assert torch.equal(eps_z, eps[:, :3])
    assert eps_x.shape == (2, *shape)
    assert torch.equal(torch.cat([eps_z, eps_x.flatten(1)], 1), eps)


@pytest.mark.parametrize("shape", SHAPES)
def test_unpacked_noise_is_a_view(shape: tuple[int, ...]) -> None:
    noise = Noise(3, shape)
    eps = torch.zeros(2, noise.dim)
    eps_x, eps_z = noise.unpack(eps)
    assert eps_x is not None
    assert eps_x.untyped_storage().data_ptr() == eps_z.untyped_storage().data_ptr() == eps.untyped_storage().data_ptr()


def test_without_pixel_noise_it_is_the_codes_alone() -> None:
    noise = Noise(4, None)
    assert noise.dim == 4
    eps = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    eps_x, eps_z = noise.unpack(eps)
    assert eps_x is None
    assert torch.equal(eps_z, eps)
    assert torch.equal(noise.with_latent(eps, eps + 1), eps + 1)


def test_codes_are_replaced_and_pixel_noise_stays() -> None:
    noise = Noise(2, (3,))
    eps = noise.standard(4, torch.Generator().manual_seed(0), torch.empty(0))
    assert eps.shape == (4, 5)
    codes = torch.ones(4, 2)
    eps_x, eps_z = noise.unpack(noise.with_latent(eps, codes))
    assert torch.equal(eps_z, codes)
    assert eps_x is not None
    assert torch.equal(eps_x, eps[:, 2:])


def test_moves_of_the_codes_are_scaled_by_the_inverse_mass() -> None:
    """A Langevin step on a flat density moves by sqrt(eta M^-1)."""
    noise, like = Noise(2, (3,)), torch.empty(0)
    assert Noise(2, None).step_scales(0.5, like).tolist() == [0.5, 0.5]
    kernel = KERNELS["langevin"](step_size=0.04, inverse_mass=noise.step_scales(0.5, like).square())
    state = kernel.init(torch.zeros(20_000, noise.dim), lambda x: 0.0 * x.sum(1))
    moved = kernel.step(state, lambda x: 0.0 * x.sum(1), torch.Generator().manual_seed(0))[0].position
    torch.testing.assert_close(moved.std(0), torch.tensor([0.1, 0.1, 0.2, 0.2, 0.2]), rtol=0.03, atol=0)

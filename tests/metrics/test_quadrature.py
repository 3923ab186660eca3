import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from vaebm.data import GaussiansSettings
from vaebm.errors import InputError
from vaebm.metrics import PlaneQuadrature

F64 = torch.float64


def log_prior(z: Tensor) -> Tensor:
    z = z.double()
    return -0.5 * z.square().sum(1) - 0.5 * z.shape[1] * math.log(2 * math.pi)


class Linear:
    """x = W z + b + s eps with E(x) = lam |x - c|^2 / 2, and E_z(z) = tau |z|^2 / 2: everything in closed form."""

    def __init__(self, latent_dim: int, tau: float = 0.0) -> None:
        self.weight = torch.tensor([[1.0, 0.3], [-0.5, 0.8]], dtype=F64)[:, :latent_dim]
        self.bias, self.scale = torch.tensor([0.2, -0.1], dtype=F64), torch.tensor([0.3, 0.5], dtype=F64)
        self.centre, self.stiffness, self.tau = torch.tensor([0.5, 0.4], dtype=F64), 0.7, tau
        eye = torch.eye(2, dtype=F64)
        covariance = self.weight @ self.weight.T / (1 + tau) + self.scale.square().diag()
        self.vae = MultivariateNormal(self.bias, covariance)
        precision = torch.linalg.inv(covariance) + self.stiffness * eye
        mean = torch.linalg.solve(precision, torch.linalg.solve(covariance, self.bias) + self.stiffness * self.centre)
        self.model = MultivariateNormal(mean, precision_matrix=precision)
        self.log_z = (
            MultivariateNormal(self.bias, covariance + eye / self.stiffness).log_prob(self.centre).item()
            + math.log(2 * math.pi / self.stiffness)
            - 0.5 * latent_dim * math.log(1 + tau)
        )

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return z.double() @ self.weight.T + self.bias, self.scale

    def log_latent_weight(self, z: Tensor) -> Tensor:
        return log_prior(z) - 0.5 * self.tau * z.double().square().sum(1)

    def energy(self, x: Tensor) -> Tensor:
        return 0.5 * self.stiffness * (x.double() - self.centre).square().sum(1)


@pytest.mark.parametrize(("latent_dim", "tau"), [(1, 0.0), (2, 0.0), (2, 1.5)])
def test_linear_gaussian_model_with_quadratic_energy(latent_dim: int, tau: float) -> None:
    truth = Linear(latent_dim, tau)
    quadrature = PlaneQuadrature(
        truth.decode,
        latent_dim,
        truth.log_latent_weight,
        truth.energy,
        latent_points=81,
        x_range=(-6.0, 6.0),
        x_points=201,
    )
    assert quadrature.log_z == pytest.approx(truth.log_z, abs=1e-6)
    grid = torch.cartesian_prod(quadrature.axis, quadrature.axis)
    near = truth.vae.log_prob(grid) > -12  # farther out, the end of the latent grid shows
    shape = quadrature.log_vae.shape
    for measured, exact in ((quadrature.log_vae, truth.vae), (quadrature.log_model, truth.model)):
        assert (measured - exact.log_prob(grid).reshape(shape)).flatten()[near].abs().max() < 1e-3
    points = grid[near][::97] + 0.013
    assert (quadrature.log_prob(points) - truth.model.log_prob(points)).abs().max() < 1e-3
    assert quadrature.error < 1e-5
    assert quadrature.outside < 1e-5


def test_log_likelihood_is_a_measurement() -> None:
    truth = Linear(1)
    quadrature = PlaneQuadrature(
        truth.decode, 1, truth.log_latent_weight, truth.energy, latent_points=201, x_points=101
    )
    generator = torch.Generator().manual_seed(0)
    points = truth.model.mean + torch.randn(500, 2, generator=generator, dtype=F64) @ truth.model.scale_tril.T
    exact = truth.model.log_prob(points)
    measured = quadrature.log_likelihood(points.float())
    assert measured.name == "log_likelihood"
    assert measured.value == pytest.approx(exact.mean().item(), abs=1e-4)
    assert measured.stderr == pytest.approx(exact.std().item() / math.sqrt(500), rel=1e-3)
    assert measured.settings["method"] == "quadrature"


def test_without_an_energy_the_density_is_normalised_beyond_the_grid_too() -> None:
    truth = Linear(2)
    quadrature = PlaneQuadrature(
        truth.decode, 2, truth.log_latent_weight, latent_points=81, x_range=(-1.0, 1.0), x_points=201
    )
    assert quadrature.log_z == pytest.approx(0.0, abs=1e-6)
    axis = torch.linspace(-1, 1, 201, dtype=F64)
    inside = truth.vae.log_prob(torch.cartesian_prod(axis, axis)).exp().sum().item() * 0.01**2
    assert quadrature.outside == pytest.approx(1 - inside, abs=1e-6)
    points = torch.tensor([[0.3, 0.2], [3.0, -2.0]], dtype=F64)
    assert torch.allclose(quadrature.log_prob(points), truth.vae.log_prob(points), atol=1e-6)


def test_an_energy_that_carves_the_modes_gives_the_true_density() -> None:
    data = GaussiansSettings().load()
    assert data.truth is not None
    truth, scale = data.truth, 1.5
    points = data.test.all()[:1000]
    quadrature = PlaneQuadrature(
        lambda z: (z * 0.0, torch.tensor(scale)),  # a collapsed VAE: one round Gaussian
        2,
        log_prior,
        lambda x: -truth.log_prob(x) - x.square().sum(1) / (2 * scale**2) - 2 * math.log(scale) - math.log(2 * math.pi),
        latent_points=61,
        x_points=641,
    )
    assert quadrature.log_z == pytest.approx(0.0, abs=1e-4)
    assert quadrature.log_prob(points).mean().item() == pytest.approx(truth.log_prob(points).mean().item(), abs=1e-4)
    assert torch.allclose(quadrature.mode_probabilities(truth.modes), torch.full((25,), 0.04, dtype=F64), atol=1e-5)


def test_a_decoder_too_steep_for_the_latent_grid_shows_in_the_error() -> None:
    def decode(z: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cat([2 * torch.tanh(20 * z), 2 * torch.sin(3 * z)], 1), torch.tensor(0.05)

    coarse, fine, finest = (
        PlaneQuadrature(decode, 1, log_prior, latent_points=points) for points in (201, 6401, 25_601)
    )
    assert coarse.error > 0.5
    assert fine.error < 0.01
    latents = torch.randn(200, 1, generator=torch.Generator().manual_seed(0))
    drawn = decode(latents)[0] + 0.05 * torch.randn(200, 2, generator=torch.Generator().manual_seed(1))
    change = (fine.log_prob(drawn).mean() - finest.log_prob(drawn).mean()).abs().item()
    assert change < fine.error


def test_a_decoder_finer_than_the_grid_shows_in_the_error() -> None:
    quadrature = PlaneQuadrature(
        lambda z: (torch.cat([z, z], 1), torch.tensor(0.01)), 1, log_prior, lambda x: 0.0 * x[:, 0], x_points=101
    )
    assert quadrature.error > 0.05


def test_what_is_not_feasible_or_has_diverged_is_refused() -> None:
    truth = Linear(2)
    with pytest.raises(InputError, match="quadrature over 3 latents"):
        PlaneQuadrature(truth.decode, 3, log_prior)
    with pytest.raises(InputError, match="the energy is not finite"):
        PlaneQuadrature(truth.decode, 2, log_prior, lambda x: x[:, 0] * math.nan, latent_points=11, x_points=11)
    with pytest.raises(InputError, match="the decoder is not finite"):
        PlaneQuadrature(lambda z: (z * math.nan, torch.tensor(1.0)), 2, log_prior, latent_points=11, x_points=11)

"""A linear-Gaussian VAE with a quadratic energy, where all of the VAEBM is known in closed form.

z = eps_z,  x = W z + b + sigma eps_x,  so that (x, z) is linear in eps with Jacobian J = dx / d eps = [W, sigma I]
E(x) = (x - c)^T A (x - c) / 2
noise space: h(eps) = N(m, P^-1),  P = I + J^T A J,  P m = J^T A (c - b)
log Z = -log det(I + A S) / 2 - (c - b)^T (A^-1 + S)^-1 (c - b) / 2,   S = J J^T the covariance of the VAE's x
"""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from vaebm import sampling
from vaebm.distributions.mixture import GaussianMixture
from vaebm.energy.base import DataEnergy, Energy
from vaebm.models import VAEBM, VAEBMSettings

LEVEL = 1e-4  # of a whole test, shared among its statistics
DIM, LATENT = 3, 2


class Quadratic(DataEnergy):
    """(x - c)^T A (x - c) / 2."""

    def __init__(self, curvature: Tensor, centre: Tensor) -> None:
        super().__init__()
        self.register_buffer("curvature", curvature)
        self.register_buffer("centre", centre)

    def of_x(self, x: Tensor) -> Tensor:
        d = x - self.get_buffer("centre")
        return 0.5 * torch.einsum("bi,ij,bj->b", d, self.get_buffer("curvature"), d)


class QuadraticNet(nn.Module):
    """a |z|^2 / 2, (B, 1): in the place of a learned correction of E_z."""

    def __init__(self, a: float) -> None:
        super().__init__()
        self.a = a

    def forward(self, z: Tensor) -> Tensor:
        return 0.5 * self.a * z.square().sum(1, keepdim=True)


class Case:
    """The model, and what is true of it."""

    def __init__(self, image: bool = True, **more: Any) -> None:
        settings = VAEBMSettings.model_validate(
            {
                "vae": {"kind": "mlp", "latent_dim": LATENT, "hidden": [4]},
                "energy": {"image": {"kind": "mlp", "hidden": [4]}},
                "sampler": {"kind": "mala", "steps": 40, "warmup": 60, "step_size": 0.1},
                "code_mixture": {"components": 1},
                **more,
            }
        )
        generator = torch.Generator().manual_seed(0)
        built = settings.build((DIM,), generator)
        decoder = nn.Linear(LATENT, DIM)
        root = torch.randn(DIM, DIM, generator=generator)
        curvature, centre = root @ root.T / 2 + 0.2 * torch.eye(DIM), torch.randn(DIM, generator=generator)
        with torch.no_grad():
            decoder.weight.copy_(torch.randn(DIM, LATENT, generator=generator))
            decoder.bias.copy_(torch.randn(DIM, generator=generator))
        built.vae.decoder = decoder
        terms = {**built.energy_net.terms, **({"image": Quadratic(curvature, centre)} if image else {})}
        self.model = VAEBM(built.vae, terms, settings, mixture=built.mixture, noise_std=built.noise_std)
        self.weight, self.offset = decoder.weight.detach().double(), decoder.bias.detach().double()
        self.sigma = float(self.model.likelihood(torch.zeros(1, LATENT)).gaussian.scale.detach())
        self.jacobian = torch.cat([self.weight, self.sigma * torch.eye(DIM)], 1)
        self.curvature, self.centre = curvature.double(), centre.double()
        self.precision = torch.eye(LATENT + DIM) + self.jacobian.T @ self.curvature @ self.jacobian
        self.covariance = torch.linalg.inv(self.precision)
        away = self.centre - self.offset
        self.mean = self.covariance @ self.jacobian.T @ self.curvature @ away
        spread = self.jacobian @ self.jacobian.T
        self.log_z = float(
            -torch.logdet(torch.eye(DIM) + self.curvature @ spread) / 2
            - away @ torch.linalg.solve(torch.linalg.inv(self.curvature) + spread, away) / 2
        )


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


def moments(x: Tensor) -> Tensor:
    """(n, d) to all first and second moments, (n, k)."""
    x = x.double()
    i, j = torch.triu_indices(x.shape[1], x.shape[1])
    return torch.cat([x, x[:, i] * x[:, j]], 1)


def expected_moments(mean: Tensor, covariance: Tensor) -> Tensor:
    second = covariance + mean[:, None] * mean
    i, j = torch.triu_indices(len(mean), len(mean))
    return torch.cat([mean, second[i, j]])


def assert_mean(values: Tensor, expected: Tensor) -> None:
    """Mean of independent rows (n, k) within its standard error."""
    error = values.std(0) / math.sqrt(len(values))
    quantile = stats.t.isf(LEVEL / (2 * values.shape[1]), len(values) - 1)
    assert ((values.mean(0) - expected).abs() <= quantile * error).all()


def standard(case: Case) -> torch.distributions.Distribution:
    dim = case.model.noise.dim
    return torch.distributions.Independent(torch.distributions.Normal(torch.zeros(dim), torch.ones(dim)), 1)


def test_the_noise_density_is_the_closed_form(case: Case) -> None:
    eps = case.model.noise.standard(40, torch.Generator().manual_seed(1), next(case.model.parameters()))
    gaussian = torch.distributions.MultivariateNormal(case.mean, precision_matrix=case.precision)
    found = case.model.noise_log_density(eps).detach().double()
    torch.testing.assert_close(found, gaussian.log_prob(eps.double()) + case.log_z, rtol=0, atol=2e-4)


def test_the_pull_back_is_the_change_of_variables(case: Case) -> None:
    eps = case.model.noise.standard(40, torch.Generator().manual_seed(1), next(case.model.parameters()))
    x, z = case.model.generate(eps)
    torch.testing.assert_close(case.model.decode(eps), x)
    torch.testing.assert_close(z, eps[:, :LATENT])
    # d(x, z) / d(eps) is block triangular, with sigma on the diagonal of x.
    volume = DIM * math.log(case.sigma)
    torch.testing.assert_close(
        case.model.noise_log_density(eps), case.model.log_density(x, z) + volume, rtol=0, atol=2e-4
    )


def test_the_density_is_the_vaes_times_the_energys(case: Case) -> None:
    generator = torch.Generator().manual_seed(2)
    x, z = torch.randn(20, DIM, generator=generator), torch.randn(20, LATENT, generator=generator)
    mean = z.double() @ case.weight.T + case.offset
    expected = (
        torch.distributions.Normal(0.0, 1.0).log_prob(z.double()).sum(1)
        + torch.distributions.Normal(mean, case.sigma).log_prob(x.double()).sum(1)
        - 0.5 * ((x.double() - case.centre) @ case.curvature * (x.double() - case.centre)).sum(1)
    )
    torch.testing.assert_close(case.model.log_density(x, z).detach().double(), expected, rtol=1e-5, atol=1e-4)


def test_chains_have_the_moments_of_the_closed_form(case: Case) -> None:
    generator = torch.Generator().manual_seed(3)
    start = case.model.noise.standard(4000, generator, next(case.model.parameters()))
    chains = case.model.chains(start, generator)
    assert 0.3 < float(chains.acceptance.mean()) < 0.9
    assert_mean(moments(chains.position), expected_moments(case.mean, case.covariance))
    x = case.model.decode(chains.position).detach()
    assert_mean(
        moments(x),
        expected_moments(case.jacobian @ case.mean + case.offset, case.jacobian @ case.covariance @ case.jacobian.T),
    )


def test_noise_of_points_adds_to_the_likelihoods_variance() -> None:
    """x + s n is linear in eps as x is, with sigma^2 + s^2 for sigma^2; data get noise of the same variance."""
    plain, noisy = Case(), Case(energy={"image": {"kind": "mlp", "hidden": [4]}, "noise_std": 0.7})
    assert noisy.sigma == pytest.approx(math.hypot(plain.sigma, 0.7), rel=1e-5)
    test_the_noise_density_is_the_closed_form(noisy)
    test_chains_have_the_moments_of_the_closed_form(noisy)
    added = noisy.model.add_noise(torch.zeros(5000, DIM), torch.Generator().manual_seed(0))
    assert_mean(added.square().double(), torch.full((DIM,), 0.49, dtype=torch.float64))


def test_samples_are_the_chains_ends(case: Case) -> None:
    x = case.model.sample(3000, seed=4)
    covariance = case.jacobian @ case.covariance @ case.jacobian.T
    assert_mean(moments(x), expected_moments(case.jacobian @ case.mean + case.offset, covariance))
    vae = case.model.sample(3000, seed=4, subject="vae")
    assert_mean(moments(vae), expected_moments(case.offset, case.jacobian @ case.jacobian.T))


def test_log_z_by_annealing(case: Case) -> None:
    with case.model.frozen():
        found = sampling.log_normaliser(
            case.model.noise_log_density,
            standard(case),
            particles=800,
            generator=torch.Generator().manual_seed(5),
        )
    assert found.lower < case.log_z < found.upper
    # About thirty independent groups.
    assert abs(found.value - case.log_z) < 5 * found.stderr
    assert found.stderr < 0.1


def test_log_z_by_importance_of_the_vaes_own_samples(case: Case) -> None:
    """Z = E_vae[exp(-E)]."""
    eps = case.model.noise.standard(40_000, torch.Generator().manual_seed(6), next(case.model.parameters()))
    with torch.no_grad():
        weights = torch.exp(-case.model.energy(case.model.decode(eps)).double())
    assert_mean(weights[:, None], torch.tensor([math.exp(case.log_z)]))


def repeated(draw: Callable[[int, torch.Generator], Tensor], repeats: int, n: int) -> Tensor:
    """(repeats, k): moments averaged over each of several independent draws, whose rows need not be independent."""
    found = []
    for seed in range(repeats):
        positions = draw(n, torch.Generator().manual_seed(seed))
        assert positions.shape == (n, LATENT + DIM)
        found.append(moments(positions).mean(0))
    return torch.stack(found)


def test_a_start_with_many_proposals_is_already_in_the_model() -> None:
    case = Case(init={"importance_samples": 100})
    found = repeated(case.model.start, repeats=40, n=100)
    assert_mean(found, expected_moments(case.mean, case.covariance))


def test_a_single_sample_has_the_law_of_many() -> None:
    """A choice among few candidates is biased: here by at most a tenth of the way to the proposals' own moments."""
    case = Case(init={"importance_samples": 2})
    before, expected = expected_moments(torch.zeros(5), torch.eye(5)), expected_moments(case.mean, case.covariance)
    found = repeated(case.model.start, repeats=1000, n=1)
    error = found.std(0) / math.sqrt(len(found))
    quantile = stats.norm.isf(LEVEL / (2 * found.shape[1]))
    assert ((found.mean(0) - expected).abs() <= quantile * error + 0.1 * (before - expected).abs()).all()


def test_a_start_with_one_proposal_is_the_vae(case: Case) -> None:
    found = repeated(case.model.start, repeats=40, n=100)
    assert_mean(found, expected_moments(torch.zeros(5), torch.eye(5)))


def with_latent_energy(**more: Any) -> tuple[Case, Tensor, Tensor]:
    """With E_z the mixture of a single Gaussian, and its mean and covariance."""
    case = Case(**more)
    generator = torch.Generator().manual_seed(7)
    root = torch.randn(LATENT, LATENT, generator=generator)
    factor = torch.linalg.cholesky(root @ root.T / 4 + 0.2 * torch.eye(LATENT))
    mean = torch.randn(LATENT, generator=generator)
    case.model.set_mixture(GaussianMixture(torch.zeros(1), mean[None], factor[None]))
    return case, mean.double(), (factor @ factor.T).double()


def joined(mean: Tensor, covariance: Tensor) -> Tensor:
    """Moments of codes with these moments, and standard pixel noise of their own."""
    whole_mean, whole = torch.zeros(LATENT + DIM, dtype=torch.float64), torch.eye(LATENT + DIM, dtype=torch.float64)
    whole_mean[:LATENT], whole[:LATENT, :LATENT] = mean, covariance
    return expected_moments(whole_mean, whole)


@pytest.mark.parametrize("subject", ["vaebm", "vae_mixture"])
def test_proposals_of_a_mixture_are_exact(subject: str) -> None:
    case, mean, covariance = with_latent_energy(
        energy={"image": {"kind": "mlp", "hidden": [4]}, "latent": {"kind": "mixture"}}
    )
    generator = torch.Generator().manual_seed(8)
    if subject == "vaebm":
        eps = case.model.sample_base(20_000, generator)
    else:
        eps = case.model.draw(20_000, generator, "vae_mixture")
    assert_mean(moments(eps), joined(mean, covariance))


def test_a_correction_of_the_latent_energy_is_in_the_proposals() -> None:
    """mix(z) exp(-a |z|^2 / 2) is a Gaussian of precision S^-1 + a."""
    case, mean, covariance = with_latent_energy(
        energy={"image": {"kind": "mlp", "hidden": [4]}, "latent": {"kind": "correction"}}
    )
    case.model.energy_net.terms["latent"].correction = QuadraticNet(1.5)
    precision = torch.linalg.inv(covariance)
    corrected = torch.linalg.inv(precision + 1.5 * torch.eye(LATENT))
    found = repeated(case.model.sample_base, repeats=60, n=200)
    assert_mean(found, joined(corrected @ precision @ mean, corrected))
    # And in the target: proposals are draws of exp(noise_log_density) when E_x is left out.
    eps = case.model.sample_base(50, torch.Generator().manual_seed(1))
    model = VAEBM(case.model.vae, {"latent": case.model.energy_net.terms["latent"]})
    z = eps[:, :LATENT].double()
    inner = torch.distributions.MultivariateNormal(corrected @ precision @ mean, corrected).log_prob(z)
    pixels = -0.5 * eps[:, LATENT:].double().square().sum(1)
    difference = model.noise_log_density(eps).detach().double() - inner - pixels
    torch.testing.assert_close(difference, difference[:1].expand(50), rtol=0, atol=1e-3)


@pytest.mark.parametrize("latent_step_scale", [1.0, 0.5])
def test_with_a_latent_energy_the_start_and_the_chains_agree_with_the_closed_form(latent_step_scale: float) -> None:
    """h(eps) = mix(z) N(eps_x) exp(-E_x(x)), up to Z."""
    case, mean, covariance = with_latent_energy(
        energy={"image": {"kind": "mlp", "hidden": [4]}, "latent": {"kind": "mixture"}},
        init={"importance_samples": 100},
        latent_step_scale=latent_step_scale,
    )
    precision = torch.eye(LATENT + DIM, dtype=torch.float64)
    precision[:LATENT, :LATENT] = torch.linalg.inv(covariance)
    linear = torch.zeros(LATENT + DIM, dtype=torch.float64)
    linear[:LATENT] = precision[:LATENT, :LATENT] @ mean
    precision = precision + case.jacobian.T @ case.curvature @ case.jacobian
    linear = linear + case.jacobian.T @ case.curvature @ (case.centre - case.offset)
    corrected = torch.linalg.inv(precision)
    expected = expected_moments(corrected @ linear, corrected)
    assert_mean(repeated(case.model.start, repeats=40, n=100), expected)
    generator = torch.Generator().manual_seed(9)
    assert_mean(moments(case.model.draw(3000, generator)), expected)


class QuadraticPair(Energy):
    """(y - c)^T A (y - c) / 2 of y = (x, z)."""

    reads_x = reads_z = True

    def __init__(self, curvature: Tensor, centre: Tensor) -> None:
        super().__init__()
        self.of_y = Quadratic(curvature, centre)

    def forward(self, x: Tensor | None, z: Tensor | None = None) -> Tensor:
        assert x is not None
        assert z is not None
        return self.of_y.of_x(torch.cat([x, z], 1))


def test_a_joint_energy_has_the_moments_and_the_normaliser_of_the_closed_form() -> None:
    """As above with y = (x, z) = o + K eps for x, K = [[W, sigma I], [I, 0]]."""
    case = Case(image=False)
    generator = torch.Generator().manual_seed(11)
    root, centre = torch.randn(5, 5, generator=generator), torch.randn(5, generator=generator)
    curvature = root @ root.T / 4 + 0.2 * torch.eye(5)
    model = VAEBM(case.model.vae, {"joint": QuadraticPair(curvature, centre)}, case.model.settings)
    of_codes = torch.cat([torch.eye(LATENT), torch.zeros(LATENT, DIM)], 1)
    jacobian = torch.cat([case.jacobian, of_codes.double()])
    away = centre.double() - torch.cat([case.offset, torch.zeros(LATENT)])
    precision = torch.eye(5) + jacobian.T @ curvature.double() @ jacobian
    mean = torch.linalg.solve(precision, jacobian.T @ curvature.double() @ away)
    spread = jacobian @ jacobian.T
    log_z = float(
        -torch.logdet(torch.eye(5) + curvature.double() @ spread) / 2
        - away @ torch.linalg.solve(torch.linalg.inv(curvature.double()) + spread, away) / 2
    )
    gaussian = torch.distributions.MultivariateNormal(mean, precision_matrix=precision)
    eps = model.noise.standard(3000, generator, next(model.parameters()))
    found = model.noise_log_density(eps[:40]).detach().double()
    torch.testing.assert_close(found, gaussian.log_prob(eps[:40].double()) + log_z, rtol=0, atol=2e-4)
    chains = model.chains(eps, generator)
    assert_mean(moments(chains.position), expected_moments(mean, gaussian.covariance_matrix))
    with model.frozen():
        annealed = sampling.log_normaliser(model.noise_log_density, standard(case), particles=800, generator=generator)
    assert annealed.lower < log_z < annealed.upper
    assert abs(annealed.value - log_z) < 5 * annealed.stderr < 0.5

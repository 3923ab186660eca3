"""Objectives: which of them are the ELBO, what they add to it, and total correlations against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vaebm.data import Batch
from vaebm.distributions.gaussian import DiagonalGaussian
from vaebm.distributions.likelihood import GaussianSettings
from vaebm.vae import VAE, MLPSettings, elbo
from vaebm.vae.objectives import (
    OBJECTIVES,
    BetaSettings,
    CovarianceSettings,
    FactorSettings,
    ObjectiveSettings,
    TotalCorrelationSettings,
)
from vaebm.vae.objectives.covariance import aggregated_covariance
from vaebm.vae.objectives.factor import FactorObjective, permuted
from vaebm.vae.objectives.total_correlation import TotalCorrelationObjective, total_correlation

X = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))
RHO, STD = 0.8, 0.6  # correlation of means, standard deviation of posteriors


def vae() -> VAE:
    settings = MLPSettings(latent_dim=3, hidden=[8], likelihood=GaussianSettings())
    return settings.build((6,), torch.Generator().manual_seed(1)).train()


def loss(settings: ObjectiveSettings, model: VAE, warmup: float = 1.0) -> Tensor:
    objective = settings.build(model, torch.Generator().manual_seed(2))
    return objective.loss(model, Batch(X, None), torch.Generator().manual_seed(3), warmup)[0]


@pytest.mark.parametrize(
    "settings",
    [
        BetaSettings(beta=1),
        TotalCorrelationSettings(beta=1),
        FactorSettings(gamma=0),
        CovarianceSettings(off_diagonal=0, diagonal=0),
    ],
    ids=lambda s: s.kind,
)
@pytest.mark.parametrize("warmup", [0.3, 1.0])
def test_without_a_price_they_are_the_elbo(settings: ObjectiveSettings, warmup: float) -> None:
    expected = -elbo(vae(), X, torch.Generator().manual_seed(3), warmup).value
    assert torch.equal(loss(settings, vae(), warmup), expected)


def test_beta_weighs_the_divergence() -> None:
    bound = elbo(vae(), X, torch.Generator().manual_seed(3))
    torch.testing.assert_close(loss(BetaSettings(beta=4), vae()), -bound.value + 3 * bound.kl["z"])
    torch.testing.assert_close(loss(BetaSettings(beta=4), vae(), 0.5), -bound.value + bound.kl["z"])


def test_beta_weighs_the_total_correlation() -> None:
    bound = elbo(vae(), X, torch.Generator().manual_seed(3))
    tc = total_correlation(bound.inference.z, bound.inference.posterior)
    torch.testing.assert_close(loss(TotalCorrelationSettings(beta=6), vae()), -bound.value + 5 * tc)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_gradient_reaches_every_weight(kind: str) -> None:
    model = vae()
    loss(OBJECTIVES[kind](), model).mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def posteriors(n: int, rho: Tensor | float, seed: int) -> tuple[Tensor, DiagonalGaussian]:
    """Draws z (n, 2) and posteriors N(m, STD^2) with means of unit variance and correlation rho."""
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, n, generator=generator, dtype=torch.float64)
    rho = torch.as_tensor(rho, dtype=torch.float64)
    means = torch.stack([a, rho * a + (1 - rho.square()).sqrt() * b], 1)
    posterior = DiagonalGaussian(means, torch.full_like(means, math.log(STD)))
    return posterior.sample(generator), posterior


def exact(rho: Tensor | float) -> Tensor:
    """Of the aggregated posterior, a Gaussian with correlation r = rho / (1 + STD^2): -log(1 - r^2) / 2."""
    return -0.5 * torch.log1p(-(torch.as_tensor(rho, dtype=torch.float64) / (1 + STD**2)).square())


@pytest.mark.parametrize("rho", [0.0, RHO, -0.95])
def test_the_total_correlation_of_gaussians(rho: float) -> None:
    found = total_correlation(*posteriors(1500, rho, seed=0))
    assert found.mean() == pytest.approx(float(exact(rho)), abs=0.03)


def test_its_gradient_is_that_of_the_closed_form() -> None:
    rho = torch.tensor(RHO, dtype=torch.float64, requires_grad=True)
    means = [total_correlation(*posteriors(1000, rho, seed)).mean() for seed in range(4)]
    (found,) = torch.autograd.grad(torch.stack(means).mean(), rho)
    (expected,) = torch.autograd.grad(exact(rho), rho)
    assert found == pytest.approx(float(expected), rel=0.1)


def test_the_covariance_of_the_aggregated_posterior() -> None:
    z, posterior = posteriors(200_000, RHO, seed=0)
    expected = torch.tensor([[1.0, RHO], [RHO, 1.0]], dtype=torch.float64) + STD**2 * torch.eye(2, dtype=torch.float64)
    torch.testing.assert_close(aggregated_covariance(posterior), expected, atol=0.02, rtol=0)
    torch.testing.assert_close(aggregated_covariance(posterior), torch.cov(z.T), atol=0.02, rtol=0)
    one = DiagonalGaussian(posterior.mean[:, :1], posterior.log_scale[:, :1])
    assert aggregated_covariance(one).shape == (1, 1)


def test_the_price_of_covariance_is_that_of_the_paper() -> None:
    bound = elbo(vae(), X, torch.Generator().manual_seed(3))
    c = aggregated_covariance(bound.inference.posterior)
    price = 2 * sum(c[i, j] ** 2 for i in range(3) for j in range(3) if i != j)
    price = price + 7 * sum((c[i, i] - 1) ** 2 for i in range(3))
    settings = CovarianceSettings(off_diagonal=2, diagonal=7)
    torch.testing.assert_close(loss(settings, vae()), -bound.value + price)


def test_a_classifier_learns_the_total_correlation() -> None:
    model = MLPSettings(latent_dim=2, hidden=[4]).build((6,), torch.Generator().manual_seed(0))
    settings = FactorSettings(hidden=[32, 32], learning_rate=1e-2)
    objective = settings.build(model, torch.Generator().manual_seed(1))
    assert isinstance(objective, FactorObjective)
    generator = torch.Generator().manual_seed(2)
    for step in range(400):
        error = objective.learn(posteriors(500, RHO, step)[0].float(), generator)
    z = posteriors(5000, RHO, 999)[0].float()
    assert float(objective.log_ratio(z).mean().detach()) == pytest.approx(float(exact(RHO)), abs=0.05)
    assert 0.5 < error < math.log(2)
    independent = permuted(z, generator)
    assert float(objective.log_ratio(independent).mean().detach()) < 0


def test_permuting_keeps_each_latent_and_breaks_what_they_share() -> None:
    z = posteriors(2000, 0.95, 0)[0]
    found = permuted(z, torch.Generator().manual_seed(0))
    assert torch.equal(found.sort(0).values, z.sort(0).values)
    assert torch.corrcoef(z.T)[0, 1] > 0.6
    assert abs(torch.corrcoef(found.T)[0, 1]) < 0.1


def test_the_classifier_and_the_vae_learn_apart() -> None:
    model = vae()
    objective = FactorSettings(gamma=5).build(model, torch.Generator().manual_seed(2))
    assert isinstance(objective, FactorObjective)
    before, own = [p.clone() for p in model.parameters()], [p.clone() for p in objective.classifier.parameters()]
    nats, figures = objective.loss(model, Batch(X, None), torch.Generator().manual_seed(3), 1.0)
    assert all(map(torch.equal, before, model.parameters()))
    assert all(p.grad is None for p in model.parameters())
    assert not any(map(torch.equal, own, objective.classifier.parameters()))
    after = [p.clone() for p in objective.classifier.parameters()]
    nats.mean().backward()
    assert all(map(torch.equal, after, objective.classifier.parameters()))
    assert {"elbo", "kl_z", "total_correlation", "classifier_nats"} <= figures.keys()


def test_their_default_prices_are_not_zero() -> None:
    plain = -elbo(vae(), X, torch.Generator().manual_seed(3)).value
    for settings in (BetaSettings(), TotalCorrelationSettings(), FactorSettings(), CovarianceSettings()):
        assert not torch.allclose(loss(settings, vae()), plain)
    assert TotalCorrelationObjective(2.0).beta == 2.0

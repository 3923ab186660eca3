"""Groups of latents against their formulas: ancestral sampling, residual posteriors, the bound, and the flat border."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from vaebm.distributions.gaussian import standard_log_prob
from vaebm.vae import elbo
from vaebm.vae.nvae.hierarchy import Group
from vaebm.vae.nvae.model import NVAE

LEVEL = 1e-4
Build = Callable[..., NVAE]
Images = Callable[..., Tensor]


def ancestral(vae: NVAE, eps_z: Tensor) -> tuple[Tensor, list[Normal]]:
    """z and the priors p(z_l | z_<l), written out group by group."""
    parts = eps_z.split(list(vae.group_sizes.values()), dim=1)
    state = vae.hierarchy.begin.expand(len(eps_z), -1, -1, -1)
    drawn, priors = [], []
    for number, group in enumerate(vae.hierarchy.groups):
        assert isinstance(group, Group)
        if number:
            state = vae.hierarchy.ways[number - 1](state)
            mean, raw = group.prior_head(torch.nn.functional.silu(state)).chunk(2, dim=1)
            scale = torch.exp(5 * torch.tanh(raw / 5))
        else:
            mean, scale = torch.zeros(len(eps_z), *group.shape), torch.ones(len(eps_z), *group.shape)
        priors.append(Normal(mean, scale))
        z = mean + scale * parts[number].view(-1, *group.shape)
        drawn.append(z.flatten(1))
        state = state + group.spread(z)
    return torch.cat(drawn, 1), priors


def noise(vae: NVAE, n: int = 4, seed: int = 2) -> Tensor:
    return torch.randn(n, vae.latent_dim, generator=torch.Generator().manual_seed(seed))


def test_noise_of_the_prior_gives_ancestral_samples(nvae: Build) -> None:
    vae = nvae()
    eps_z = noise(vae)
    expected, priors = ancestral(vae, eps_z)
    torch.testing.assert_close(vae.latent(eps_z), expected)
    assert max(float(p.scale.detach().log().std()) for p in priors[1:]) > 0.1
    eps_x = torch.randn(4, *vae.data_shape, generator=torch.Generator().manual_seed(3))
    x, z = vae.generate(eps_x, eps_z)
    assert torch.equal(z, vae.latent(eps_z))
    torch.testing.assert_close(x, vae.decode(expected).transport(eps_x))


def test_log_prior_is_the_chain_rule(nvae: Build) -> None:
    vae = nvae()
    z, priors = ancestral(vae, noise(vae))
    parts = z.split(list(vae.group_sizes.values()), dim=1)
    expected = sum(
        Independent(prior, 3).log_prob(part.view_as(prior.mean)) for prior, part in zip(priors, parts, strict=True)
    )
    torch.testing.assert_close(vae.log_prior(z), expected)


def test_noise_and_codes_are_inverse(nvae: Build, images: Images) -> None:
    vae = nvae()
    eps = noise(vae)
    z = vae.latent(eps)
    torch.testing.assert_close(vae.latent_noise(z), eps, rtol=1e-4, atol=1e-4)
    assert torch.equal(z[:, : vae.code_dim], eps[:, : vae.code_dim])  # codes are their own noise
    assert not torch.allclose(z, eps, atol=0.1)
    z = vae.encode(images(vae.data_shape))
    torch.testing.assert_close(vae.latent(vae.latent_noise(z)), z, rtol=1e-4, atol=1e-4)


def test_a_group_depends_on_those_above_it_alone(nvae: Build) -> None:
    vae = nvae()
    eps = noise(vae)
    z = vae.latent(eps)
    start = 0
    for size in vae.group_sizes.values():
        moved = eps.clone()
        moved[:, start : start + size] += 1.0
        after = vae.latent(moved)
        assert torch.equal(after[:, :start], z[:, :start])
        assert (after[:, start : start + size] != z[:, start : start + size]).all()
        assert start + size == vae.latent_dim or (after[:, start + size :] != z[:, start + size :]).any()
        start += size


def test_divergences_of_residual_posteriors_are_those_of_the_normals(nvae: Build, images: Images) -> None:
    """q(z_l | z_<l, x) = N(mu_p + sigma_p dmu, (sigma_p dsigma)^2) against p, both as torch's normals."""
    vae = nvae()
    x = images(vae.data_shape)
    z, kl, _ = vae.infer(x, torch.Generator().manual_seed(4))
    features = vae.tower(x)
    parts = z.split(list(vae.group_sizes.values()), dim=1)
    log_ratio = torch.zeros(len(x))

    def choose(number: int, group: Group, state: Tensor) -> Tensor:
        nonlocal log_ratio
        prior, residual = group.prior(state), group.posterior_noise(state, features[number])
        q = Independent(Normal(prior.mean + prior.scale * residual.mean, prior.scale * residual.scale), 3)
        p = Independent(Normal(prior.mean, prior.scale), 3)
        torch.testing.assert_close(kl[f"z{number + 1}"], kl_divergence(q, p), rtol=1e-4, atol=1e-4)
        chosen = parts[number].view(-1, *group.shape)
        log_ratio = log_ratio + q.log_prob(chosen) - p.log_prob(chosen)
        return chosen

    vae.hierarchy(len(x), choose)
    assert min(float(value.detach().mean()) for value in kl.values()) > 0.1
    assert log_ratio.isfinite().all()


@torch.no_grad()
def test_the_bound_is_that_of_its_densities(nvae: Build, images: Images) -> None:
    """Its mean is that of log p(x, z) - log q(z | x), with log q in noise space and the prior's own volume."""
    vae = nvae((1, 4, 4), widths=[4, 6], groups=[1, 1])
    x = images(vae.data_shape, 2).repeat(3000, 1, 1, 1)
    bound = elbo(vae, x, torch.Generator().manual_seed(5))
    features, log_q = vae.tower(x), torch.zeros(len(x))
    generator, chosen = torch.Generator().manual_seed(6), []

    def choose(number: int, group: Group, state: Tensor) -> Tensor:
        nonlocal log_q
        prior, residual = group.prior(state), group.posterior_noise(state, features[number])
        q = Independent(Normal(prior.mean + prior.scale * residual.mean, prior.scale * residual.scale), 3)
        z = q.mean + q.stddev * torch.randn(q.mean.shape, generator=generator)
        log_q = log_q + q.log_prob(z)
        chosen.append(z.flatten(1))
        return z

    vae.hierarchy(len(x), choose)
    estimates = vae.log_joint(x, torch.cat(chosen, 1)) - log_q
    difference = (bound.value - estimates).double().reshape(3000, 2)
    error = difference.std(0) / math.sqrt(3000)
    assert (difference.mean(0).abs() <= stats.norm.isf(LEVEL / 4) * error).all()


def test_infer_and_reconstruct_are_one_draw(nvae: Build, images: Images) -> None:
    vae = nvae()
    x = images(vae.data_shape)
    z, kl, _ = vae.infer(x, torch.Generator().manual_seed(7))
    inference, pixels = vae.reconstruct(x, torch.Generator().manual_seed(7))
    assert torch.equal(inference.z, z)
    assert all(torch.equal(inference.kl[name], value) for name, value in kl.items())
    torch.testing.assert_close(pixels.center, vae.decode(z).center)


def test_at_temperature_0_the_sample_is_the_means_image(nvae: Build) -> None:
    vae = nvae()
    eps_z = noise(vae)
    cold = vae.latent(0.0 * eps_z)
    means, _ = ancestral(vae, torch.zeros_like(eps_z))
    torch.testing.assert_close(cold, means)


@pytest.mark.parametrize("groups", [[1], [3, 2]])
def test_noise_has_the_volume_of_the_prior(nvae: Build, groups: list[int]) -> None:
    vae = nvae((1, 4, 4), widths=[4, 6], groups=groups, latents=1)
    eps = noise(vae, 3).double()
    vae = vae.double()
    jacobian = torch.stack([torch.autograd.functional.jacobian(lambda e: vae.latent(e[None])[0], e) for e in eps])
    log_volume = torch.linalg.slogdet(jacobian).logabsdet
    expected = standard_log_prob(eps) - vae.log_prior(vae.latent(eps))
    torch.testing.assert_close(log_volume, expected, rtol=1e-4, atol=1e-4)

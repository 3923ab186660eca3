"""Laws of every VAE: shapes, a generator that is its likelihood's, and weights that are the generator's alone."""

import math

import pytest
import torch
from torch import Tensor

from vaebm.distributions.gaussian import DiagonalGaussian, standard_log_prob
from vaebm.distributions.likelihood import (
    BernoulliSettings,
    CensoredSettings,
    GaussianSettings,
    LogisticMixtureSettings,
)
from vaebm.errors import InputError
from vaebm.vae import VAE, VAES, ConvSettings, MLPSettings, NVAESettings, elbo
from vaebm.vae.nvae.model import NVAE

LIKELIHOODS = {
    "gaussian": GaussianSettings(),
    "censored": CensoredSettings(),
    "bernoulli": BernoulliSettings(),
    "logistic_mixture": LogisticMixtureSettings(components=2),
}
SHAPES = {
    "mlp": [(3,), (1, 8, 8), (3, 5, 4)],
    "conv": [(c, h, w) for h, w in ((8, 8), (9, 9), (28, 28), (32, 48)) for c in (1, 3)],
    "nvae": [(c, h, w) for h, w in ((28, 28), (32, 48), (4, 12), (8, 8)) for c in (1, 3)],
}
CASES = [(kind, shape, likelihood) for kind in SHAPES for shape in SHAPES[kind] for likelihood in LIKELIHOODS]
every_vae = pytest.mark.parametrize(
    ("kind", "shape", "likelihood"), CASES, ids=[f"{k}-{'x'.join(map(str, s))}-{p}" for k, s, p in CASES]
)


def build(kind: str, shape: tuple[int, ...], likelihood: str, seed: int = 0) -> VAE:
    generator = torch.Generator().manual_seed(seed)
    if kind == "mlp":
        return MLPSettings(latent_dim=4, hidden=[24], likelihood=LIKELIHOODS[likelihood]).build(shape, generator)
    if kind == "nvae":
        nvae = NVAESettings(widths=[4, 6, 8], groups=[1, 2], latents=2, likelihood=LIKELIHOODS[likelihood])
        return nvae.build(shape, generator)
    settings = ConvSettings(latent_dim=4, widths=[12, 16, 16], likelihood=LIKELIHOODS[likelihood])
    return settings.build(shape, generator)


def data(shape: tuple[int, ...], n: int = 3) -> Tensor:
    """Values of [-1, 1], many of them at its ends."""
    return (1.5 * torch.randn(n, *shape, generator=torch.Generator().manual_seed(1))).clamp(-1, 1)


def test_every_vae_is_tested() -> None:
    assert set(VAES) - {"external"} == set(SHAPES)


def standard(mean: Tensor) -> DiagonalGaussian:
    return DiagonalGaussian(torch.zeros_like(mean), torch.zeros_like(mean))


@pytest.mark.parametrize(("kind", "shape"), [(kind, SHAPES[kind][0]) for kind in SHAPES])
@torch.no_grad()
def test_codes_are_draws_of_the_posterior_that_comes_with_them(kind: str, shape: tuple[int, ...]) -> None:
    """Its density is exact: -log q of a draw has mean sum log sigma + d log(2 pi e) / 2, and a draw is normal in it."""
    vae = build(kind, shape, "gaussian")
    z, _, posterior = vae.infer(data(shape, 1).expand(1000, *shape), torch.Generator().manual_seed(2))
    codes, d = z[:, : vae.code_dim], vae.code_dim
    eps = posterior.transport_inverse(codes).double()
    assert eps.mean().abs() < 5 / (1000 * d) ** 0.5
    assert (eps.square().mean() - 1).abs() < 5 * (2 / (1000 * d)) ** 0.5
    surprise = -posterior.log_prob(codes).double()
    entropy = posterior.log_scale.sum(1).double() + d / 2 * math.log(2 * math.pi * math.e)
    assert (surprise - entropy).mean().abs() < 5 * (d / 2 / 1000) ** 0.5


@pytest.mark.parametrize(("kind", "shape"), [(kind, SHAPES[kind][0]) for kind in SHAPES])
@torch.no_grad()
def test_the_mean_log_weight_of_a_proposal_is_the_divergence(kind: str, shape: tuple[int, ...]) -> None:
    """E_q[log q(z | x) - log p(z)] = KL(q || p), which `infer` knows in closed form, group by group."""
    vae, x = build(kind, shape, "gaussian"), data(shape, 1).expand(2000, *shape)
    z, log_ratio = vae.propose(x, torch.Generator().manual_seed(2))
    inferred = vae.infer(x, torch.Generator().manual_seed(2))
    torch.testing.assert_close(z, inferred.z)
    exact = torch.stack(list(inferred.kl.values())).sum(0).double()  # of deeper groups given this draw of those above
    error = float((log_ratio.double() - exact).std()) / 2000**0.5
    assert abs(float((log_ratio.double() - exact).mean())) < 5 * error < float(exact.mean())


@every_vae
def test_its_contract(kind: str, shape: tuple[int, ...], likelihood: str) -> None:
    vae, x = build(kind, shape, likelihood), data(shape)
    before = torch.random.get_rng_state()

    z, kl, posterior = vae.infer(x, torch.Generator().manual_seed(2))
    assert z.shape == vae.encode(x).shape == (3, vae.latent_dim)
    assert all(group.shape == (3,) and (group >= 0).all() for group in kl.values())
    again, *_ = vae.infer(x, torch.Generator().manual_seed(2))
    assert torch.equal(z, again)
    assert posterior.mean.shape == posterior.log_scale.shape == (3, vae.code_dim)
    first = next(iter(vae.group_sizes.values()))
    if first == vae.code_dim:  # q of the codes is then that of the first group, against N(0, I)
        torch.testing.assert_close(posterior.kl(standard(posterior.mean)), next(iter(kl.values())))

    p = vae.decode(z)
    draw = p.sample(torch.Generator().manual_seed(3))
    assert p.center.shape == draw.shape == x.shape
    assert vae.log_prior(z).shape == p.log_prob(x).shape == (3,)
    torch.testing.assert_close(vae.log_joint(x, z), vae.log_prior(z) + p.log_prob(x))

    eps_z = torch.randn(3, vae.latent_dim, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(vae.latent_noise(vae.latent(eps_z)), eps_z)
    torch.testing.assert_close(vae.latent(vae.latent_noise(z)), z)
    if vae.likelihood.reparameterised:
        eps_x = torch.randn(x.shape, generator=torch.Generator().manual_seed(5))
        generated, code = vae.generate(eps_x, eps_z)
        torch.testing.assert_close(code, vae.latent(eps_z))
        torch.testing.assert_close(generated, vae.decode(code).transport(eps_x))
    else:
        with pytest.raises(TypeError, match="generator"):
            p.transport(torch.zeros_like(x))
    assert torch.equal(before, torch.random.get_rng_state())


@every_vae
def test_a_gradient_reaches_every_weight(kind: str, shape: tuple[int, ...], likelihood: str) -> None:
    vae = build(kind, shape, likelihood)
    (-elbo(vae, data(shape), torch.Generator().manual_seed(2)).value.mean()).backward()
    for name, weight in vae.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert weight.grad.abs().max() > 0, name


@every_vae
def test_its_weights_are_the_generators_alone(kind: str, shape: tuple[int, ...], likelihood: str) -> None:
    first = build(kind, shape, likelihood)
    torch.rand(7)  # moves the global state between the two
    second, other = build(kind, shape, likelihood), build(kind, shape, likelihood, seed=1)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    assert any(not torch.equal(value, other.state_dict()[name]) for name, value in first.state_dict().items())


@every_vae
def test_rows_do_not_see_each_other(kind: str, shape: tuple[int, ...], likelihood: str) -> None:
    """No statistics over the batch: a chain's image does not depend on the other chains."""
    vae, x = build(kind, shape, likelihood), data(shape)
    z = 3 * vae.encode(x)
    assert z.std(0).mean() > 1e-3
    torch.testing.assert_close(3 * vae.encode(x[1:2]), z[1:2], rtol=1e-4, atol=1e-5)
    alone, together = vae.decode(z[1:2]), vae.decode(z)
    assert together.center.std(0).mean() > 1e-3  # so that a mean over the batch would show
    torch.testing.assert_close(alone.center, together.center[1:2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(alone.log_prob(x[1:2]), together.log_prob(x)[1:2], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(vae.log_prior(z[1:2]), vae.log_prior(z)[1:2], rtol=1e-4, atol=1e-4)


@every_vae
def test_half_precision_ends_at_codes_and_pixels(kind: str, shape: tuple[int, ...], likelihood: str) -> None:
    vae, x = build(kind, shape, likelihood), data(shape)
    exact = elbo(vae, x, torch.Generator().manual_seed(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = elbo(vae, x, torch.Generator().manual_seed(2))
        codes = vae.encode(x)
    assert low.value.dtype == codes.dtype == torch.float32
    # Nets are rounded to eight bits, and sums of many values are not: the bound would else be off by half a per cent.
    torch.testing.assert_close(low.value, exact.value, rtol=0.03, atol=0.0)
    expected = vae.encode(x)
    assert (codes - expected).abs().max() < 0.05 * expected.std()
    for value in (low.value, *low.kl.values()):
        assert (value == value.bfloat16().float()).double().mean() < 0.5


DRAWS = 6000


@pytest.mark.parametrize(("kind", "shape"), [("mlp", (3,)), ("conv", (1, 8, 8)), ("nvae", (1, 8, 8))])
def test_codes_and_divergence_are_those_of_posterior_draws(kind: str, shape: tuple[int, ...]) -> None:
    """Of the first group, whose prior is N(0, I): moments of many draws, each by its standard error."""
    vae, x = build(kind, shape, "gaussian"), 20 * data(shape, 1)
    many = x.expand(DRAWS, *shape)
    with torch.no_grad():
        z, kl, _ = vae.infer(many, torch.Generator().manual_seed(6))
        first = next(iter(kl))
        z, code = z[:, : vae.group_sizes[first]].double(), vae.encode(x)[0, : vae.group_sizes[first]].double()
    mean, variance = z.mean(0), z.var(0)
    assert ((mean - code).abs() < 5 * (variance / DRAWS).sqrt()).all()
    by_draws = 0.5 * (mean.square() + variance - 1 - variance.log()).sum()
    error = ((mean.square() * variance + (variance - 1).square() / 2).sum() / DRAWS).sqrt() + len(code) / DRAWS
    expected = kl[first][0].double()
    assert expected > 20 * error  # so that a term left out would show
    assert (by_draws - expected).abs() < 5 * error


@pytest.mark.parametrize("kind", SHAPES)
def test_the_prior_is_the_push_forward_of_its_noise(kind: str) -> None:
    vae = build(kind, SHAPES[kind][-1], "censored")
    if isinstance(vae, NVAE):  # whose scales hardly depend on the code above before training
        with torch.no_grad():
            for group in vae.hierarchy.groups:
                if group.prior_head is not None:
                    group.prior_head.weight.mul_(30.0)
    eps = torch.randn(6, vae.latent_dim, generator=torch.Generator().manual_seed(0))
    jacobian = torch.func.vmap(torch.func.jacrev(lambda e: vae.latent(e[None])[0]))(eps)
    log_volume = torch.linalg.slogdet(jacobian).logabsdet
    if kind == "nvae":
        assert log_volume.std() > 0.5
    expected = standard_log_prob(eps) - log_volume
    torch.testing.assert_close(vae.log_prior(vae.latent(eps)), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("widths", "shape"),
    [([16], (1, 8, 8)), ([8, 8, 8, 8, 8, 8], (2, 8, 8)), ([8, 12], (3, 11, 200)), ([6, 10, 15], (4, 17, 8))],
)
def test_convolutional_ones_follow_any_widths_and_shape(widths: list[int], shape: tuple[int, ...]) -> None:
    vae = ConvSettings(latent_dim=2, widths=widths).build(shape, torch.Generator().manual_seed(0))
    x = data(shape)
    assert vae.decode(vae.encode(x)).center.shape == x.shape


@pytest.mark.parametrize("shape", [(3,), (1, 7, 8), (8, 8)])
def test_convolutional_ones_refuse_what_is_no_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="images"):
        ConvSettings().build(shape, torch.Generator().manual_seed(0))

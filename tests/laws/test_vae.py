"""Laws of every VAE: shapes, a generator that is its likelihood's, and weights that are the generator's alone."""

import pytest
import torch
from torch import Tensor

from vaebm.distributions.gaussian import standard_log_prob
from vaebm.distributions.likelihood import (
    BernoulliSettings,
    CensoredSettings,
    GaussianSettings,
    LogisticMixtureSettings,
)
from vaebm.errors import InputError
from vaebm.vae import VAE, VAES, ConvSettings, MLPSettings, NVAESettings, elbo

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


@every_vae
def test_its_contract(kind: str, shape: tuple[int, ...], likelihood: str) -> None:
    vae, x = build(kind, shape, likelihood), data(shape)
    before = torch.random.get_rng_state()

    z, kl = vae.infer(x, torch.Generator().manual_seed(2))
    assert z.shape == vae.encode(x).shape == (3, vae.latent_dim)
    assert all(group.shape == (3,) and (group >= 0).all() for group in kl.values())
    again, _ = vae.infer(x, torch.Generator().manual_seed(2))
    assert torch.equal(z, again)

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
        with pytest.raises(AssertionError):
            vae.decode(z)
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
    z = vae.encode(x)
    torch.testing.assert_close(vae.encode(x[1:2]), z[1:2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(vae.decode(z[1:2]).center, vae.decode(z).center[1:2], rtol=1e-4, atol=1e-5)


@every_vae
def test_half_precision_ends_at_codes_and_pixels(kind: str, shape: tuple[int, ...], likelihood: str) -> None:
    vae, x = build(kind, shape, likelihood), data(shape)
    exact = elbo(vae, x, torch.Generator().manual_seed(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = elbo(vae, x, torch.Generator().manual_seed(2))
        codes = vae.encode(x)
    assert low.value.dtype == codes.dtype == torch.float32
    torch.testing.assert_close(low.value, exact.value, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("kind", SHAPES)
def test_the_prior_is_the_push_forward_of_its_noise(kind: str) -> None:
    vae = build(kind, SHAPES[kind][-1], "censored")
    eps = torch.randn(6, vae.latent_dim, generator=torch.Generator().manual_seed(0))
    jacobian = torch.func.vmap(torch.func.jacrev(lambda e: vae.latent(e[None])[0]))(eps)
    log_volume = torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(vae.log_prior(vae.latent(eps)), standard_log_prob(eps) - log_volume)


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
    with pytest.raises(InputError, match="mlp"):
        ConvSettings().build(shape, torch.Generator().manual_seed(0))

"""The VAEBM with every likelihood: its target, what is drawn and shown, and the frozen nets that chains run on."""

import pytest
import torch
from torch import Tensor

from vaebm.distributions.gaussian import standard_log_prob
from vaebm.distributions.mixture import GaussianMixture
from vaebm.energy import MixtureEnergy
from vaebm.errors import InputError
from vaebm.models import SHOWS, VAEBM, VAEBMSettings, draws
from vaebm.nn.weight_norm import initialise_from_data, weight_norm_layers

SHAPES: dict[str, tuple[int, ...]] = {"points": (3,), "images": (1, 8, 8), "colours": (3, 9, 8)}
MOVABLE = ["gaussian", "censored"]
LIKELIHOODS = [*MOVABLE, "bernoulli", "logistic_mixture"]
every_model = pytest.mark.parametrize(
    ("data", "likelihood"), [(data, likelihood) for data in SHAPES for likelihood in LIKELIHOODS]
)


def fitted(latent_dim: int, seed: int = 3) -> GaussianMixture:
    generator = torch.Generator().manual_seed(seed)
    root = 0.3 * torch.randn(2, latent_dim, latent_dim, generator=generator)
    factors = torch.linalg.cholesky(root @ root.mT + 0.1 * torch.eye(latent_dim))
    return GaussianMixture(torch.tensor([0.3, 0.7]).log(), torch.randn(2, latent_dim, generator=generator), factors)


def build(data: str, likelihood: str, **more: object) -> VAEBM:
    """With all terms of the energy that it can have, no longer 0, and a mixture."""
    shape, images = SHAPES[data], len(SHAPES[data]) == 3
    energy: dict[str, object] = {"latent": {"kind": "mixture"}}
    if likelihood in MOVABLE:
        residual = {"kind": "residual", "stem": 4, "widths": [4, 8], "halve": [0]}
        energy["image"] = residual if images else {"kind": "mlp", "hidden": [8], "fourier_features": 4}
    settings = {
        "vae": {
            **({"kind": "conv", "widths": [8, 8]} if images else {"kind": "mlp", "hidden": [8]}),
            "latent_dim": 4,
            "likelihood": {"kind": likelihood},
        },
        "energy": energy,
        "code_mixture": {"components": 2},
        "sampler": {"kind": "langevin", "steps": 3, "step_size": 0.01},
        **more,
    }
    model = VAEBMSettings.model_validate(settings).build(shape, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    if "image" in model.energy_net.terms:
        net = getattr(model.energy_net.terms["image"], "net", model.energy_net.terms["image"])
        initialise_from_data(net, torch.randn(16, *shape, generator=generator, dtype=torch.float32).clamp(-1, 1))
        with torch.no_grad():
            net.out.weight.normal_(0, 0.3, generator=generator)
    model.set_mixture(fitted(4))
    return model.eval()


def noise(model: VAEBM, n: int = 5, seed: int = 2) -> Tensor:
    return model.noise.standard(n, torch.Generator().manual_seed(seed), next(model.parameters()))


@every_model
def test_its_target_is_the_prior_less_the_energy_of_what_the_noise_becomes(data: str, likelihood: str) -> None:
    model = build(data, likelihood)
    eps = noise(model).requires_grad_()
    eps_x, eps_z = model.noise.unpack(eps)
    z = model.vae.latent(eps_z)
    energy = standard_log_prob(z) - model.mixture.log_prob(z)
    if "image" in model.energy_net.terms:
        assert eps_x is not None
        energy = energy + model.energy_net.terms["image"](model.vae.decode(z).transport(eps_x))
    value = model.noise_log_density(eps)
    torch.testing.assert_close(value, standard_log_prob(eps) - energy, rtol=1e-4, atol=1e-4)
    (score,) = torch.autograd.grad(value.sum(), eps)
    assert score.isfinite().all()
    assert model.noise.dim == 4 + (torch.Size(SHAPES[data]).numel() if likelihood in MOVABLE else 0)


@every_model
def test_energy_and_density_of_data(data: str, likelihood: str) -> None:
    model = build(data, likelihood)
    x = (1.5 * torch.randn(5, *SHAPES[data], generator=torch.Generator().manual_seed(4))).clamp(-1, 1)
    z = model.encode(x)
    assert z.shape == (5, 4)
    expected = model.vae.log_joint(x, z) - model.energy(x, z)
    torch.testing.assert_close(model.log_density(x, z), expected)
    assert model.energy(x, z).shape == (5,)
    with pytest.raises(ValueError, match="encode"):
        model.energy(x)


@every_model
def test_noise_decodes_to_data(data: str, likelihood: str) -> None:
    model = build(data, likelihood)
    x = model.decode(noise(model))
    assert x.shape == (5, *SHAPES[data])
    if likelihood != "gaussian":
        assert (x.abs() <= 1).all()


@every_model
@pytest.mark.parametrize("subject", VAEBM.subjects)
def test_samples_are_exact_in_number_and_range_and_repeat(data: str, likelihood: str, subject: str) -> None:
    model = build(data, likelihood)
    global_state = torch.random.get_rng_state()
    for show in SHOWS:
        x = model.sample(7, seed=5, subject=subject, show=show)  # type: ignore[arg-type]
        assert x.shape == (7, *SHAPES[data])
        assert x.dtype == torch.float32
        assert not x.requires_grad
        assert x.isfinite().all()
        if len(SHAPES[data]) == 3:
            assert (x >= 0).all()
            assert (x <= 1).all()
        assert torch.equal(x, model.sample(7, seed=5, subject=subject, show=show))  # type: ignore[arg-type]
        assert not torch.equal(x, model.sample(7, seed=6, subject=subject, show=show))  # type: ignore[arg-type]
    assert torch.equal(global_state, torch.random.get_rng_state())


@pytest.mark.parametrize("n", [1, 7, 8, 15, 16, 17])
def test_any_number_of_samples_in_batches_of_chains(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draws, "CHAINS_AT_ONCE", 8)
    model = build("points", "gaussian", init={"importance_samples": 3})
    assert model.draw(n, torch.Generator().manual_seed(0)).shape == (n, model.noise.dim)
    assert model.sample(n).shape == (n, 3)


@pytest.mark.parametrize("n", [0, -3])
def test_no_samples_are_refused(n: int) -> None:
    with pytest.raises(InputError, match="at least 1"):
        build("points", "gaussian").sample(n)


@pytest.mark.parametrize("data", SHAPES)
@pytest.mark.parametrize("likelihood", MOVABLE)
def test_what_is_shown(data: str, likelihood: str) -> None:
    model = build(data, likelihood)
    eps, generator = noise(model), torch.Generator()
    eps_x, eps_z = model.noise.unpack(eps)
    pixels = model.vae.decode(model.vae.latent(eps_z))
    assert eps_x is not None
    torch.testing.assert_close(model.render(eps, "sample", generator), model.decode(eps))
    torch.testing.assert_close(model.render(eps, "mean", generator), pixels.center)
    x = model.decode(eps).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model.energy_net.terms["image"](x).sum(), x)
    torch.testing.assert_close(model.render(eps, "denoised", generator), pixels.denoise(x.detach(), gradient))


def test_points_are_shown_as_they_are_and_images_clamped() -> None:
    points, images = build("points", "gaussian"), build("images", "gaussian")
    for model in (points, images):
        with torch.no_grad():
            model.vae.likelihood.base_log_scale.fill_(1.5)
    assert points.sample(50, subject="vae").abs().max() > 3
    shown = images.sample(50, subject="vae")
    assert ((shown == 0) | (shown == 1)).double().mean() > 0.5


def test_without_an_energy_on_x_the_denoised_image_is_the_mean_and_the_decoder_stays_out_of_the_chains() -> None:
    model = build("images", "censored", energy={"latent": {"kind": "mixture"}})
    eps, generator = noise(model), torch.Generator()
    assert torch.equal(model.render(eps, "denoised", generator), model.render(eps, "mean", generator))
    calls: list[int] = []
    model.vae.decoder.register_forward_hook(lambda *_: calls.append(1))
    model.chains(eps, torch.Generator().manual_seed(0))
    assert not calls
    model.decode(eps)
    assert calls


def test_the_mixture_is_set_wherever_it_is_used() -> None:
    model = build("points", "gaussian", energy={"latent": {"kind": "correction", "hidden": [4]}})
    mixture = fitted(4, seed=9)
    model.set_mixture(mixture)
    for holder in (model.mixture, model.energy_net.terms["latent"].mixture):
        for name, value in mixture.state_dict().items():
            assert torch.equal(holder.state_dict()[name], value)


# Frozen nets


def test_frozen_weights_take_no_gradient_and_chains_still_have_a_score() -> None:
    model = build("images", "censored")
    eps = noise(model).requires_grad_()
    (outside,) = torch.autograd.grad(model.noise_log_density(eps).sum(), eps)
    with model.frozen():
        assert not any(p.requires_grad for p in model.parameters())
        value = model.noise_log_density(eps)
        (inside,) = torch.autograd.grad(value.sum(), eps)
    torch.testing.assert_close(inside, outside, rtol=1e-4, atol=1e-5)
    assert all(p.requires_grad for p in model.parameters())


def test_freezing_nests_keeps_what_was_frozen_and_ends_after_an_error() -> None:
    model = build("images", "censored")
    held = next(model.vae.parameters()).requires_grad_(False)

    def state() -> tuple[list[bool], list[bool]]:
        return (
            [p.requires_grad for p in model.parameters()],
            [layer.fold is not None for layer in weight_norm_layers(model)],
        )

    before = state()
    with model.frozen():
        frozen = state()
        with pytest.raises(KeyError), model.frozen():
            raise KeyError
        assert state() == frozen
        assert not any(frozen[0])
        assert all(frozen[1])
    assert state() == before
    with pytest.raises(KeyError), model.frozen():
        raise KeyError
    assert state() == before
    assert not held.requires_grad


def test_weights_are_the_generators_alone_and_no_global_draw_is_spent() -> None:
    before = torch.random.get_rng_state()
    first = build("images", "censored")
    assert torch.equal(before, torch.random.get_rng_state())
    torch.rand(3)
    second = build("images", "censored")
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


# Half precision


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_in_half_precision_energies_codes_and_densities_are_full(likelihood: str) -> None:
    low, exact = (build("images", likelihood, precision=precision) for precision in ("bfloat16", "float32"))
    low.load_state_dict(exact.state_dict())
    eps = noise(exact, 20)
    x, z = exact.decode(eps).detach().clamp(-1, 1), exact.vae.latent(eps[:, :4])
    for found, expected in (
        (low.energy(x, z), exact.energy(x, z)),
        (low.encode(x), exact.encode(x)),
        (low.log_density(x, z), exact.log_density(x, z)),
        (low.noise_log_density(eps), exact.noise_log_density(eps)),
    ):
        assert found.dtype == torch.float32
        assert ((found - expected).abs() <= 0.1 * (1 + expected.abs())).all()
    if likelihood not in MOVABLE:  # E_z alone: nothing of it is rounded
        assert torch.equal(low.noise_log_density(eps), exact.noise_log_density(eps))
    assert low.sample(3).dtype == torch.float32


def test_in_half_precision_the_sample_shown_is_the_one_that_the_chain_saw() -> None:
    model = build("images", "censored", precision="bfloat16")
    eps = noise(model)
    assert torch.equal(model.render(eps, "sample", torch.Generator()), model.decode(eps))


# What does not fit together


def test_an_energy_on_x_needs_a_generator_with_a_gradient() -> None:
    for likelihood in ("bernoulli", "logistic_mixture"):
        with pytest.raises(InputError, match=r"vae\.likelihood"):
            build("points", likelihood, energy={"image": {"kind": "mlp"}})


def test_the_release_target_needs_one_too() -> None:
    for likelihood in ("bernoulli", "logistic_mixture"):
        with pytest.raises(InputError, match="target=release"):
            build("points", likelihood, target="release")


def test_compiling_reaches_the_nets_that_are_called() -> None:
    model = build("images", "censored")
    model.compile_nets()
    nets = [model.vae.encoder, model.vae.decoder, model.energy_net.terms["image"]]
    assert all(net._compiled_call_impl is not None for net in nets)


@pytest.mark.parametrize("proposals", [1, 4])
def test_chains_may_start_with_less_pixel_noise(proposals: int) -> None:
    def start(scale: float) -> tuple[Tensor, Tensor]:
        model = build("images", "censored", init={"importance_samples": proposals, "noise_scale": scale})
        eps_x, eps_z = model.noise.unpack(model.start(6, torch.Generator().manual_seed(4)))
        assert eps_x is not None
        return eps_x, eps_z

    pixels, codes = start(1.0)
    for scale in (0.0, 0.5):
        fewer, same = start(scale)
        torch.testing.assert_close(fewer, scale * pixels)
        torch.testing.assert_close(same, codes)


@pytest.mark.parametrize("where", ["mixture", "term"])
def test_a_mixture_over_more_than_the_codes_is_refused(where: str) -> None:
    """Its draws would take the place of pixel noise."""
    vae = build("points", "gaussian").vae
    mixture = GaussianMixture.standard(2, vae.code_dim + 1)
    with pytest.raises(InputError, match="codes"):
        VAEBM(vae, mixture=mixture) if where == "mixture" else VAEBM(vae, {"latent": MixtureEnergy(mixture)})

"""A VAE trained elsewhere: what its modules may return, what is fitted, what is refused, and how it comes back."""

from __future__ import annotations

import contextlib
import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import vaebm
from vaebm.distributions.likelihood import GaussianLikelihood, GaussianSettings
from vaebm.distributions.mixture import GaussianMixture
from vaebm.energy import MixtureEnergy, MLPEnergySettings
from vaebm.errors import InputError
from vaebm.vae.external import ExternalVAE, load_weights

SHAPE, LATENT = (1, 6, 6), 3


class Returns(nn.Module):
    """An encoder of the same numbers, given out in another way."""

    def __init__(self, net: nn.Module, how: Any) -> None:
        super().__init__()
        self.net, self.how = net, how

    def forward(self, x: Tensor) -> Any:
        return self.how(self.net(x))


def modules(seed: int = 0) -> tuple[nn.Sequential, nn.Sequential]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.Tanh(), nn.Linear(16, 2 * LATENT))
        decoder = nn.Sequential(nn.Linear(LATENT, 16), nn.Tanh(), nn.Linear(16, 36), nn.Unflatten(1, SHAPE))
    return encoder, decoder


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


X = torch.rand(5, *SHAPE, generator=generator(1)) * 2 - 1


@pytest.mark.parametrize(
    "how",
    [
        lambda raw: tuple(raw.chunk(2, dim=1)),
        lambda raw: dict(zip(("embedding", "log_covariance"), raw.chunk(2, dim=1), strict=True)),
        lambda raw: SimpleNamespace(mean=raw.chunk(2, dim=1)[0], logvar=raw.chunk(2, dim=1)[1]),
        lambda raw: SimpleNamespace(latent_dist=SimpleNamespace(mean=raw[:, :LATENT], logvar=raw[:, LATENT:])),
    ],
)
def test_an_encoder_may_return_its_numbers_in_any_usual_way(how: Any) -> None:
    encoder, decoder = modules()
    plain = ExternalVAE(encoder, decoder, SHAPE, (LATENT,)).posterior(X)
    other = ExternalVAE(Returns(encoder, how), decoder, SHAPE, (LATENT,)).posterior(X)
    mean, log_variance = encoder(X).chunk(2, dim=1)
    for posterior in (plain, other):
        assert torch.equal(posterior.mean, mean)
        torch.testing.assert_close(posterior.scale.square(), log_variance.exp())


def test_log_std_and_mean_alone() -> None:
    encoder, decoder = modules()
    _, raw = encoder(X).chunk(2, dim=1)
    posterior = ExternalVAE(encoder, decoder, SHAPE, (LATENT,), encoder_returns="mean_log_std").posterior(X)
    torch.testing.assert_close(posterior.log_scale, raw)
    alone = ExternalVAE(encoder, nn.Sequential(nn.Linear(6, 3), decoder), SHAPE, (6,), encoder_returns="mean")
    assert torch.equal(alone.encode(X), encoder(X))
    assert float(alone.posterior(X).scale.max()) < 1e-3
    with pytest.raises(InputError, match="mean_log_variance"):
        ExternalVAE(encoder, decoder, SHAPE, (LATENT,), encoder_returns="variance")  # type: ignore[arg-type]


def test_ranges_and_scales_are_the_modules_own() -> None:
    """In [0, 1], with codes twice as large, the same modules give the same images: x_user = (x + 1) / 2."""
    encoder, decoder = modules()
    vae = ExternalVAE(encoder, decoder, SHAPE, (LATENT,), data_range=(0.0, 1.0), latent_scale=2.0)
    mean, log_variance = encoder((X + 1) / 2).chunk(2, dim=1)
    torch.testing.assert_close(vae.posterior(X).mean, mean / 2)
    torch.testing.assert_close(vae.posterior(X).scale, (log_variance / 2).exp() / 2)
    z = torch.randn(4, LATENT, generator=generator())
    torch.testing.assert_close(vae.decode(z).center, (decoder(2 * z) * 2 - 1).clamp(-1, 1))


def test_spatial_codes_are_flat_outside() -> None:
    encoder = nn.Conv2d(1, 4, 2, 2)
    decoder = nn.ConvTranspose2d(2, 1, 2, 2)
    vae = ExternalVAE(encoder, decoder, SHAPE, (2, 3, 3))
    assert vae.encode(X).shape == (5, 18)
    torch.testing.assert_close(vae.encode(X), encoder(X)[:, :2].flatten(1))
    torch.testing.assert_close(vae.image(vae.encode(X)), decoder(encoder(X)[:, :2]))


@pytest.mark.parametrize(
    ("latent_shape", "data_shape", "word"), [((4,), SHAPE, "latent_shape"), ((LATENT,), (1, 36), "data_shape")]
)
def test_modules_that_do_not_fit_are_refused(latent_shape: Any, data_shape: Any, word: str) -> None:
    encoder, _ = modules()
    decoder = nn.Sequential(nn.LazyLinear(36), nn.Unflatten(1, SHAPE))
    with pytest.raises(InputError, match=word):
        ExternalVAE(encoder, decoder, data_shape, latent_shape)


def test_an_output_without_an_image_is_named() -> None:
    encoder, decoder = modules()
    with pytest.raises(InputError, match="str"):
        ExternalVAE(encoder, Returns(decoder, lambda _: "no image"), SHAPE, (LATENT,))
    with pytest.raises(InputError, match="SimpleNamespace"):
        ExternalVAE(Returns(encoder, lambda _: SimpleNamespace(code=1)), decoder, SHAPE, (LATENT,))


def test_weights_come_from_safetensors_alone(tmp_path: Path) -> None:
    encoder, _ = modules(0)
    other, decoder = modules(1)
    save_file(encoder.state_dict(), tmp_path / "encoder.safetensors")
    assert load_weights(other, tmp_path / "encoder.safetensors") is other
    assert torch.equal(other(X), encoder(X))
    torch.save(encoder.state_dict(), tmp_path / "encoder.pt")
    for path, word in [("encoder.pt", "run code"), ("none.safetensors", "no file")]:
        with pytest.raises(InputError, match=word):
            load_weights(other, tmp_path / path)
    with pytest.raises(InputError, match="does not fit"):
        load_weights(decoder, tmp_path / "encoder.safetensors")


SHORT: dict[str, object] = {
    "vae_stage": {"iterations": 40, "batch_size": 32},
    "code_mixture": {"components": 2, "codes": 200},
    "energy_stage": {"phases": {"ratio": {"iterations": 5}, "rounds": None}},
    "energy": {"image": {"kind": "mlp", "hidden": [16]}},
    "sampler": {"steps": 2},
}


def test_the_scale_is_fitted_and_nothing_else_of_the_vae_changes(tmp_path: Path) -> None:
    """Maximum likelihood over sigma alone is the root mean square of x - mu(z), z ~ q(z | x)."""
    encoder, decoder = modules()
    z = torch.randn(400, LATENT, generator=generator())
    with torch.no_grad():
        data = 0.3 * decoder(z) + 0.05 * torch.randn(400, *SHAPE, generator=generator(1))
    vae = ExternalVAE(
        encoder, decoder, SHAPE, (LATENT,), likelihood=GaussianSettings(scale="global", initial_scale=0.5)
    )
    before = {name: value.clone() for name, value in [*encoder.state_dict().items(), *decoder.state_dict().items()]}
    fit = {"iterations": 100, "batch_size": 64, "learning_rate": 3e-2}
    run = vaebm.train_energy(vae, data.clamp(-1, 1), tmp_path / "run", quiet=True, **{**SHORT, "vae_stage": fit})
    after = {**encoder.state_dict(), **decoder.state_dict()}
    assert all(torch.equal(after[name], value) for name, value in before.items())
    with torch.no_grad():
        residual = (data - vae.image(vae.infer(data, generator(5)).z)).square().mean().sqrt()
        likelihood = vae.decode(z[:1])
        assert isinstance(likelihood, GaussianLikelihood)
    assert likelihood.gaussian.scale.item() == pytest.approx(float(residual), rel=0.1)
    assert run.is_complete


def test_a_run_comes_back_with_the_modules_passed(tmp_path: Path) -> None:
    encoder, decoder = modules()
    data = torch.rand(60, *SHAPE, generator=generator(2))
    vae = ExternalVAE(encoder, decoder, SHAPE, (LATENT,))
    run = vaebm.train_energy(vae, data, tmp_path / "run", quiet=True, **SHORT)
    samples = run.model().sample(3, seed=1)
    assert samples.shape == (3, *SHAPE)
    again = ExternalVAE(*modules(7), SHAPE, (LATENT,))  # other weights: those of the run are taken
    assert torch.equal(vaebm.load(tmp_path / "run", vae=again).sample(3, seed=1), samples)
    assert torch.equal(vaebm.VAEBM.from_pretrained(tmp_path / "run", parts={"vae": again}).sample(3, seed=1), samples)
    with pytest.raises(InputError, match="vae=vae"):
        vaebm.load(tmp_path / "run")
    assert vaebm.train_energy(vae, data, tmp_path / "run", quiet=True, **SHORT).is_complete
    with pytest.raises(InputError, match="sha256"):
        vaebm.train_energy(vae, data + 0.01 * (data < 0.5), tmp_path / "run", quiet=True, **SHORT)


def test_points_and_wrong_data(tmp_path: Path) -> None:
    encoder, decoder = nn.Linear(2, 2), nn.Linear(1, 2)
    vae = ExternalVAE(encoder, decoder, (2,), (1,), likelihood=GaussianSettings(scale="global"))
    points = torch.randn(200, 2, generator=generator(3))
    short = {**SHORT, "energy": {"image": {"hidden": [16]}}}
    run = vaebm.train_energy(vae, points, tmp_path / "points", quiet=True, **short)
    assert run.model().sample(4).shape == (4, 2)
    for data, word in [(torch.rand(60, 1, 5, 5), "shape"), ("no-such-set", "no data set"), (points[:5], "at least")]:
        with pytest.raises(InputError, match=word):
            vaebm.train_energy(vae, data, tmp_path / "wrong", quiet=True, **short)
    with pytest.raises(InputError, match="ExternalVAE"):
        vaebm.train_energy(encoder, points, tmp_path / "wrong", quiet=True)  # type: ignore[arg-type]


class Part(nn.Module):
    """An encoder or a decoder that is a view of a whole autoencoder."""

    def __init__(self, whole: nn.Sequential, encodes: bool) -> None:
        super().__init__()
        self.whole, self.encodes = whole, encodes

    def forward(self, x: Tensor) -> Any:
        return self.whole[0 if self.encodes else 1](x)


DATA = torch.rand(60, *SHAPE, generator=generator(2))


def test_encoder_and_decoder_may_be_views_of_one_module(tmp_path: Path) -> None:
    whole = nn.Sequential(*modules())
    run = vaebm.train_energy(
        ExternalVAE(Part(whole, True), Part(whole, False), SHAPE, (LATENT,)),
        DATA,
        tmp_path / "run",
        quiet=True,
        **SHORT,
    )
    assert run.model().sample(2).shape == (2, *SHAPE)


def test_a_loaded_model_has_modules_of_its_own(tmp_path: Path) -> None:
    run = vaebm.train_energy(ExternalVAE(*modules(), SHAPE, (LATENT,)), DATA, tmp_path / "run", quiet=True, **SHORT)
    passed = ExternalVAE(*modules(7), SHAPE, (LATENT,))
    before = copy.deepcopy(passed.state_dict())
    first = vaebm.load(tmp_path / "run", vae=passed)
    assert all(torch.equal(value, before[name]) for name, value in passed.state_dict().items())
    with torch.no_grad():
        for weight in run.model().parameters():
            weight.zero_()
    assert any(bool(weight.any()) for weight in first.parameters())


def test_a_run_of_another_vae_is_refused(tmp_path: Path) -> None:
    vaebm.train_energy(ExternalVAE(*modules(), SHAPE, (LATENT,)), DATA, tmp_path / "run", quiet=True, **SHORT)
    other = ExternalVAE(*modules(7), SHAPE, (LATENT,))
    with pytest.raises(InputError, match="sha256"):
        vaebm.train_energy(other, DATA, tmp_path / "run", quiet=True, **SHORT)


def test_modules_in_training_mode_are_put_to_evaluation(tmp_path: Path) -> None:
    """Else dropout would blur the codes, and batch normalisation would learn from every look at data."""
    encoder, decoder = modules()
    encoder = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.5), encoder)
    vae = ExternalVAE(encoder, decoder, SHAPE, (LATENT,))
    before = copy.deepcopy(encoder.state_dict())
    encoder.train()
    vaebm.train_energy(vae, DATA, tmp_path / "run", quiet=True, **SHORT)
    assert not encoder.training
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_training_does_not_depend_on_the_callers_mode(mode: Any, tmp_path: Path) -> None:
    runs = []
    for name in ("without", "within"):
        nets = modules()
        with mode() if name == "within" else contextlib.nullcontext():
            vae = ExternalVAE(*nets, SHAPE, (LATENT,))
            runs.append(vaebm.train_energy(vae, DATA, tmp_path / name, quiet=True, **SHORT).model().sample(2))
    assert torch.equal(*runs)


def test_precision_is_settled_when_the_run_is_made(tmp_path: Path) -> None:
    run = vaebm.train_energy(ExternalVAE(*modules(), SHAPE, (LATENT,)), DATA, tmp_path / "run", quiet=True, **SHORT)
    assert run.recipe.precision in ("float32", "bfloat16")


def test_points_are_not_clamped_unless_asked() -> None:
    vae = ExternalVAE(nn.Linear(2, 2), nn.Linear(1, 2), (2,), (1,))
    far = vae.decode(torch.full((1, 1), 100.0)).center.detach()
    assert float(far.abs().max()) > 1


def test_a_default_range_passes_values_as_they_are() -> None:
    encoder = nn.Linear(2, 2)
    vae = ExternalVAE(encoder, nn.Linear(1, 2), (2,), (1,))
    tiny = torch.full((1, 2), 1e-9)
    seen: list[Tensor] = []
    encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    vae.encode(tiny)
    assert torch.equal(seen[0], tiny)


def test_a_scale_of_another_name_is_no_log_variance() -> None:
    encoder, decoder = modules()

    def named(raw: Tensor) -> SimpleNamespace:
        return SimpleNamespace(mean=raw[:, :LATENT], log_std=raw[:, LATENT:])

    with pytest.raises(InputError, match="encoder_returns"):
        ExternalVAE(Returns(encoder, named), decoder, SHAPE, (LATENT,))
    vae = ExternalVAE(Returns(encoder, named), decoder, SHAPE, (LATENT,), encoder_returns="mean_log_std")
    torch.testing.assert_close(vae.posterior(X).log_scale, encoder(X)[:, LATENT:])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"data_range": (1.0, 1.0)}, "data_range"),
        ({"data_range": (0.0, float("inf"))}, "data_range"),
        ({"latent_scale": 0.0}, "latent_scale"),
        ({"latent_scale": float("nan")}, "latent_scale"),
        ({"latent_shape": (2,)}, "latent_shape"),
        ({"encoder": nn.Sequential(nn.Flatten(), nn.Linear(36, 5))}, "even"),
        ({"encoder": Returns(modules()[0], lambda raw: (raw,))}, "log variance"),
        ({"encoder": nn.Linear(36, 6)}, "data_shape"),
        ({"decoder": modules()[1].double()}, "float64"),
        ({"encoder": modules()[0].bfloat16()}, "bfloat16"),
    ],
)
def test_what_cannot_be_a_vae_is_refused(change: dict[str, Any], word: str) -> None:
    encoder, decoder = modules()
    given = {"encoder": encoder, "decoder": decoder, "data_shape": SHAPE, "latent_shape": (LATENT,), **change}
    with pytest.raises(InputError, match=word):
        ExternalVAE(**given)


def test_a_part_that_is_no_vae_or_of_another_shape_is_refused(tmp_path: Path) -> None:
    vaebm.train_energy(ExternalVAE(*modules(), SHAPE, (LATENT,)), DATA, tmp_path / "run", quiet=True, **SHORT)
    with pytest.raises(InputError, match="Linear"):
        vaebm.load(tmp_path / "run", vae=nn.Linear(2, 2))
    with pytest.raises(InputError, match="VAE takes"):
        vaebm.load(tmp_path / "run", vae=ExternalVAE(nn.Linear(2, 2), nn.Linear(1, 2), (2,), (1,)))


def test_codes_beyond_those_of_the_mixture_keep_their_prior(monkeypatch: pytest.MonkeyPatch) -> None:
    """Base, energy on z and pull-back agree where the mixture is over a part of z alone."""
    monkeypatch.setattr("vaebm.vae.external.MAX_CODE", 2)
    vae = ExternalVAE(*modules(), SHAPE, (LATENT,), likelihood=GaussianSettings(initial_scale=0.05))
    factor = torch.tensor([[[1.2, 0.0], [0.4, 0.7]]])
    mixture = GaussianMixture(torch.zeros(1), torch.tensor([[1.0, -0.5]]), factor)
    image = MLPEnergySettings(hidden=[8]).build(SHAPE, generator())
    with torch.no_grad():
        for weight in image.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator(3)), alpha=0.1)
    model = vaebm.VAEBM(vae, {"image": image, "latent": MixtureEnergy(mixture)}, mixture=mixture)
    eps = model.sample_base(4000, generator(4))
    covariance = torch.cov(eps[:, :LATENT].mT)
    expected = torch.block_diag((factor @ factor.mT)[0], torch.eye(1))
    torch.testing.assert_close(covariance, expected, atol=0.1, rtol=0.1)
    torch.testing.assert_close(eps[:, :LATENT].mean(0), torch.tensor([1.0, -0.5, 0.0]), atol=0.06, rtol=0)
    with torch.no_grad():
        x, z = model.generate(eps[:8])
        log_h = model.noise_log_density(eps[:8])
        over_base = log_h - model.base_log_density(eps[:8]) + model.energy_over_base(x, z)
        scale = vae.decode(z).gaussian.scale  # type: ignore[attr-defined]
        jacobian = scale.log() * 36
    torch.testing.assert_close(over_base, torch.zeros(8), atol=1e-3, rtol=0)
    torch.testing.assert_close(log_h - model.log_density(x, z), jacobian.expand(8), atol=1e-3, rtol=0)

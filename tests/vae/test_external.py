"""A VAE trained elsewhere: what its modules may return, what is fitted, what is refused, and how it comes back."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import vaebm
from vaebm.distributions.likelihood import GaussianLikelihood, GaussianSettings
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

"""A score for one sample: the same bits whatever the batch, parts that are what their names say, a p-value."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from scipy.stats import ks_2samp, kstest
from torch import Tensor
from torch.distributions import MultivariateNormal

from vaebm.distributions.gaussian import HALF_LOG_TWO_PI, standard_log_prob
from vaebm.distributions.likelihood import CensoredSettings
from vaebm.errors import InputError
from vaebm.models import VAEBM, VAEBMSettings
from vaebm.models.score_density import FILE, ScoreDensity
from vaebm.models.score_parts import PROPOSALS, ROWS_AT_ONCE

VAES = {
    "mlp": ((3,), {"kind": "mlp", "hidden": [8], "latent_dim": 4}),
    "conv": ((1, 9, 8), {"kind": "conv", "widths": [8, 8], "latent_dim": 4, "likelihood": {"kind": "censored"}}),
    "nvae": ((1, 8, 8), {"kind": "nvae", "widths": [8, 8], "groups": [1, 1], "latents": 2}),
}
every_vae = pytest.mark.parametrize("kind", VAES)


def build(kind: str, **more: object) -> VAEBM:
    shape, vae = VAES[kind]
    image = {"kind": "residual", "stem": 4, "widths": [4], "halve": []}
    energy = {"latent": {"kind": "mixture"}, "image": image if len(shape) == 3 else {"kind": "mlp", "hidden": [8]}}
    settings = {"vae": vae, "energy": energy, "code_mixture": {"components": 2}, **more}
    model = VAEBMSettings.model_validate(settings).build(shape, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for name, weight in model.energy_net.named_parameters():
            if "out." in name:
                weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
    return model.eval()


def data(model: VAEBM, n: int = 40, seed: int = 2) -> Tensor:
    x = torch.randn(n, *model.data_shape, generator=torch.Generator().manual_seed(seed))
    return x.clamp(-1, 1) if len(model.data_shape) == 3 else x


@every_vae
def test_shares_make_the_score_and_the_gradient_its_map(kind: str) -> None:
    model = build(kind)
    x, held_out = data(model), data(model, 300, seed=3)
    with pytest.raises(InputError, match="not calibrated"):
        model.explain(x)
    model.calibrate(held_out)
    density, scores, explained = model.score_density, model.score(x), model.explain(x)
    assert density is not None
    assert set(explained.shares) == set(density.names)
    u = torch.stack([scores.parts[name] for name in density.names], 1)[:, None]
    precision = density.whitening.mT @ density.whitening
    gaussians = MultivariateNormal(density.centers, precision_matrix=precision, validate_args=False)
    joint = density.log_weights + gaussians.log_prob(u)
    torch.testing.assert_close(scores.score, -joint.logsumexp(1), rtol=1e-5, atol=1e-5)
    distances = ((u - density.centers)[..., None, :] @ precision @ (u - density.centers)[..., None]).squeeze()
    distances = (joint.softmax(1) * distances.reshape(joint.shape)).sum(1)
    torch.testing.assert_close(torch.stack(list(explained.shares.values())).sum(0), distances, rtol=1e-5, atol=1e-5)
    usual = [float(share.mean()) for share in density.shares(model.score(held_out).parts).values()]
    assert all(-0.05 < mean < 1.05 for mean in usual)  # less than 1 where a part nearly follows from the others
    assert sum(usual) > 0.5 * len(usual)
    norms = explained.gradient.flatten(1).norm(dim=1)
    torch.testing.assert_close(norms, scores.parts["log_density_gradient"].float(), rtol=1e-4, atol=1e-4)
    assert explained.reconstruction.shape == x.shape
    errors = (x - explained.reconstruction).flatten(1).square().sum(1)
    torch.testing.assert_close(errors, scores.parts["reconstruction_error"].float(), rtol=1e-4, atol=1e-4)


@every_vae
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_neither_batch_nor_order_changes_a_bit(kind: str, precision: str) -> None:
    model = build(kind, precision=precision)
    x = data(model)
    model.calibrate(data(model, 200, seed=3))
    whole = model.score(x)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(4))
    assert len(x) % ROWS_AT_ONCE
    moved, single = model.score(x[order]), [model.score(row) for row in x[:3].split(1)]
    for name, values in {"p_value": whole.p_value, "score": whole.score, **whole.parts}.items():

        def of(scores: object, name: str = name) -> Tensor:
            return getattr(scores, name) if name in ("p_value", "score") else scores.parts[name]  # type: ignore[attr-defined]

        assert values.dtype == torch.float64
        assert values.isfinite().all()
        assert torch.equal(values[order], of(moved))
        assert torch.equal(values[:3], torch.cat([of(one) for one in single]))


@every_vae
def test_parts_are_what_their_names_say(kind: str) -> None:
    model = build(kind)
    x = data(model, 5)
    model.calibrate(data(model, 30, seed=3))
    parts = model.score(x).parts
    z = model.encode(x)
    likelihood = model.vae.decode(z)

    def same(name: str, value: Tensor) -> None:
        torch.testing.assert_close(parts[name], value.detach().double(), rtol=1e-4, atol=1e-4)

    same("energy", model.energy(x, z))
    assert torch.allclose(parts["energy"], parts["energy_image"] + parts["energy_latent"], atol=1e-5)
    same("log_likelihood", likelihood.log_prob(x))
    same("code_norm", model.vae.latent_noise(z).square().sum(1))
    same("code_surprise", -model.mixture.log_prob(z[:, : model.vae.code_dim]))
    same("reconstruction_error", (x - likelihood.center).square().flatten(1).sum(1))
    y = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model.log_density(y, z.detach()).sum(), y)
    same("log_density_gradient", gradient.flatten(1).norm(dim=1))
    (gradient,) = torch.autograd.grad(model.energy_net.terms["image"](y).sum(), y)
    same("energy_gradient", gradient.flatten(1).norm(dim=1))
    if kind != "mlp":
        ends = [parts[f"log_likelihood_{name}"] for name in ("low", "high", "between")]
        assert torch.allclose(sum(ends), parts["log_likelihood"], atol=1e-3)


@torch.no_grad()
def test_bounds_are_means_of_weights_over_the_same_draws_for_all() -> None:
    model = build("mlp")
    x = data(model, 4)
    model.calibrate(data(model, 30, seed=3))
    parts = model.score(x).parts
    posterior = model.vae.posterior(x)  # type: ignore[operator]
    eps = torch.randn(PROPOSALS, model.vae.latent_dim, generator=torch.Generator().manual_seed(0))
    z = (posterior.mean[:, None] + posterior.scale[:, None] * eps).flatten(0, 1)
    log_q = standard_log_prob(eps) - posterior.log_scale.sum(1)[:, None]
    many = x.repeat_interleave(PROPOSALS, 0)
    log_joint = model.vae.log_joint(many, z).unflatten(0, (4, PROPOSALS))
    lower = (log_joint - log_q).logsumexp(1) - math.log(PROPOSALS)
    torch.testing.assert_close(parts["log_likelihood_lower"], lower.double(), rtol=1e-4, atol=1e-4)
    energy = model.energy(many, z).unflatten(0, (4, PROPOSALS))
    density = (log_joint - log_q - energy).logsumexp(1) - math.log(PROPOSALS)
    torch.testing.assert_close(parts["log_density"], density.double(), rtol=1e-4, atol=1e-4)


def test_a_term_that_reads_codes_through_a_decoder_and_noise_on_data_are_scored() -> None:
    mlp: dict[str, object] = {"kind": "mlp", "hidden": [8]}
    model = build("mlp", energy={"image": mlp, "noise_std": 0.1})
    model.calibrate(data(model, 30))
    assert model.score(data(model, 3)).parts["log_density"].isfinite().all()
    model = build("mlp", energy={"image": mlp, "input": "mean"})
    model.calibrate(data(model, 30))
    parts = model.score(data(model, 3)).parts
    assert "energy_gradient" not in parts
    assert "energy_image" in parts


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_p_values_are_uniform_on_held_out_data_and_small_on_others(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def parts(n: int, shift: float = 0.0) -> dict[str, Tensor]:
        draws = torch.randn(n, 3, generator=generator, dtype=torch.float64)
        draws[:, 2] = draws[:, 0] + 0.1 * draws[:, 2] + shift  # ordinary in every part, strange together
        return {"kl": draws[:, 0], "code_norm": draws[:, 1].exp(), "energy": draws[:, 2]}

    density = ScoreDensity.fit(parts(4000))
    p = density.p_value(density.score(parts(500)))
    assert kstest(p.numpy(), "uniform").pvalue > 0.01
    assert float(density.p_value(density.score(parts(500, shift=1.0))).median()) < 0.01
    far = density.p_value(density.score(parts(10, shift=100.0)))
    assert torch.equal(far, torch.full_like(far, 1 / 4001))


def test_a_bent_law_gets_several_gaussians_and_a_straight_one_does_not() -> None:
    generator = torch.Generator().manual_seed(0)

    def bent(n: int) -> dict[str, Tensor]:
        u, noise = torch.randn(2, n, generator=generator, dtype=torch.float64)
        return {"kl": u, "code_norm": u.square() + 0.1 * noise}

    def straight(n: int) -> dict[str, Tensor]:
        u, noise = torch.randn(2, n, generator=generator, dtype=torch.float64)
        return {"kl": u, "code_norm": u + 0.1 * noise}

    density = ScoreDensity.fit(bent(3000))
    assert len(density.log_weights) == 8
    fresh = bent(2000)
    u, v = fresh["kl"], fresh["code_norm"]
    truth = (
        HALF_LOG_TWO_PI + u.square() / 2 + standard_log_prob(((v - u.square()) / 0.1)[:, None]).neg() + math.log(0.1)
    )
    assert 0 < float((density.score(fresh) - truth).mean()) < 0.25
    assert ks_2samp(density.score(fresh), density.scores).pvalue > 0.01
    component = torch.multinomial(density.log_weights.exp(), 20_000, True, generator=generator)
    white = torch.randn(20_000, 2, 1, generator=generator, dtype=torch.float64)
    drawn = density.centers[component] + torch.linalg.solve(density.whitening[component], white).squeeze(2)
    shares = density.shares(dict(zip(density.names, drawn.unbind(1), strict=True)))
    assert all(float(share.mean()) == pytest.approx(1, abs=0.05) for share in shares.values())
    assert len(ScoreDensity.fit(straight(3000)).log_weights) == 1
    assert len(ScoreDensity.fit(bent(30)).log_weights) == 1


def test_a_small_sample_gives_uniform_p_values_too() -> None:
    """A density that were calibrated on the 40 samples that it is fitted to would call half of all new ones strange."""
    generator = torch.Generator().manual_seed(0)

    def parts(n: int) -> dict[str, Tensor]:
        return {f"part{k}": torch.randn(n, generator=generator, dtype=torch.float64) for k in range(12)}

    p = []
    for _ in range(40):
        density = ScoreDensity.fit(parts(40))
        p.append(density.p_value(density.score(parts(10))))
    assert abs(float(torch.cat(p).mean()) - 0.5) < 0.07
    assert float((torch.cat(p) <= 0.1).double().mean()) < 0.16


def test_sums_of_parts_and_constant_parts_are_not_counted() -> None:
    part = torch.randn(30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    parts = {"energy": part, "energy_image": part, "log_likelihood": part**2, "kl": torch.ones_like(part)}
    assert ScoreDensity.fit(parts).names == ("energy_image", "log_likelihood")


def test_samples_that_are_all_the_same_calibrate_nothing() -> None:
    with pytest.raises(InputError, match="all the same"):
        ScoreDensity.fit({"energy": torch.zeros(30, dtype=torch.float64)})


def test_a_saved_model_scores_to_the_same_bits(tmp_path: Path) -> None:
    model = build("conv")
    x = data(model, 3)
    model.calibrate(data(model, 30, seed=3))
    model.save_pretrained(tmp_path)
    loaded = VAEBM.from_pretrained(tmp_path)
    assert torch.equal(loaded.score(x).score, model.score(x).score)
    assert torch.equal(loaded.score(x).p_value, model.score(x).p_value)
    density = loaded.score_density
    assert density is not None
    replace(density, scores=density.scores[:, None]).save(tmp_path)
    with pytest.raises(InputError, match="damaged"):
        VAEBM.from_pretrained(tmp_path)
    replace(density, names=("other", *density.names[1:])).save(tmp_path)
    with pytest.raises(InputError, match="other: delete it"):
        VAEBM.from_pretrained(tmp_path).score(x)
    loaded.score_density = None
    loaded.save_pretrained(tmp_path)  # with other weights, perhaps
    assert VAEBM.from_pretrained(tmp_path).score_density is None
    save_file({"center": torch.zeros(2)}, tmp_path / FILE)  # of an earlier version
    assert VAEBM.from_pretrained(tmp_path).score_density is None
    (tmp_path / FILE).write_bytes(b"broken")
    with pytest.raises(InputError, match=FILE):
        VAEBM.from_pretrained(tmp_path)


def test_what_cannot_be_scored_is_refused() -> None:
    model = build("mlp")
    with pytest.raises(InputError, match="calibrate"):
        model.score(data(model))
    with pytest.raises(InputError, match="at least 20"):
        model.calibrate(data(model, 19))
    model.held_out = lambda: data(model, 30)
    assert model.score(data(model, 2)).p_value.shape == (2,)
    with pytest.raises(InputError, match="empty"):
        model.score(data(model)[:0])
    with pytest.raises(InputError, match="row 1"):
        model.score(torch.tensor([[0.0, 0.0, 0.0], [0.0, math.nan, 0.0]]))


def test_a_censored_likelihood_tells_its_pixels_apart() -> None:
    likelihood = CensoredSettings(scale="global").build()(torch.zeros(1, 1, 2, 2))
    x = torch.tensor([-1.0, 1.0, 0.0, 0.5]).view(1, 1, 2, 2)
    parts = likelihood.log_prob_parts(x)
    assert torch.isclose(sum(parts.values()), likelihood.log_prob(x))
    assert torch.isclose(parts["low"], parts["high"])
    assert set(parts) == {"low", "high", "between"}

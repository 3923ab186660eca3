"""The law of the noise space: without an energy the target is N(0, I), and every kernel leaves it as it is.

Started in N(0, I), independent chains stay independent draws of it: their moments are judged by standard errors. The
release target, which keeps the decoder's -log sigma, does not pass where scales depend on the code above.
"""

import math
from dataclasses import replace

import pytest
import torch
from scipy import stats
from torch import Tensor

from vaebm import sampling
from vaebm.distributions.gaussian import DiagonalGaussian, standard_log_prob
from vaebm.distributions.likelihood import GaussianHead, Likelihood
from vaebm.energy import MLPEnergySettings
from vaebm.energy.base import DataEnergy
from vaebm.models import VAEBM, DrawSettings, VAEBMSettings
from vaebm.vae import VAE
from vaebm.vae.base import Inference
from vaebm.vae.nvae.model import NVAE

LEVEL = 1e-4  # of a whole test, shared among its statistics
CHAINS = 6000


class TwoLevelVAE(VAE):
    """z = (z1, z2), flat: z1 = e1, z2 = m(z1) + s(z1) e2, x = mu(z) + sigma(z) eps_x; no scale is constant."""

    def __init__(self) -> None:
        super().__init__()
        self.data_shape, self.latent_dim, self.code_dim = (3,), 4, 2
        self.likelihood = GaussianHead("pixel", 0.3, censored=False)
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("weight", torch.randn(4, 6, generator=generator))

    def _second(self, first: Tensor) -> DiagonalGaussian:
        return DiagonalGaussian(torch.sin(2 * first.flip(1)), 0.7 * torch.tanh(first))

    def latent(self, eps_z: Tensor) -> Tensor:
        first, second = eps_z.chunk(2, dim=1)
        return torch.cat([first, self._second(first).transport(second)], 1)

    def latent_noise(self, z: Tensor) -> Tensor:
        first, second = z.chunk(2, dim=1)
        return torch.cat([first, self._second(first).transport_inverse(second)], 1)

    def log_prior(self, z: Tensor) -> Tensor:
        first, second = z.chunk(2, dim=1)
        return standard_log_prob(first) + self._second(first).log_prob(second)

    def decode(self, z: Tensor) -> Likelihood:
        return self.likelihood(torch.tanh(z) @ self.get_buffer("weight"))

    def infer(self, x: Tensor, generator: torch.Generator) -> Inference:
        raise NotImplementedError

    def propose(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def encode(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class Wavy(DataEnergy):
    """An energy that is not 0."""

    def of_x(self, x: Tensor) -> Tensor:
        return torch.sin(2 * x).sum(1) + 0.5 * x.square().sum(1)


def settings(target: str, likelihood: dict[str, str], **more: object) -> VAEBMSettings:
    return VAEBMSettings.model_validate(
        {
            "vae": {"kind": "mlp", "latent_dim": 4, "hidden": [16], "likelihood": likelihood},
            "sampler": {"kind": "mala"},
            "target": target,
            **more,
        }
    )


def two_level(target: str = "exact", energy: DataEnergy | None = None) -> VAEBM:
    """With a net on x whose last layer is 0, so that T is in the loop although E = 0."""
    term = energy or MLPEnergySettings(hidden=[4]).build((3,), torch.Generator().manual_seed(1))
    return VAEBM(TwoLevelVAE(), {"image": term}, DrawSettings(target=target))  # type: ignore[arg-type]


def three_scales(target: str = "exact") -> VAEBM:
    """An NVAE of 21 latents at three scales over 16 pixels, whose priors below the top are far from standard."""
    vae = {"kind": "nvae", "widths": [4, 4, 4], "groups": [1, 1, 1], "latents": 1, "expansion": 1}
    more = {"energy": {"image": {"kind": "mlp", "hidden": [4]}}, "code_mixture": {"components": 1}}
    likelihood = {"kind": "gaussian", "scale": "pixel"}
    settings = VAEBMSettings.model_validate(
        {"vae": {**vae, "likelihood": likelihood}, "sampler": {"kind": "mala"}, "target": target, **more}
    )
    model = settings.build((1, 4, 4), torch.Generator().manual_seed(1))
    assert isinstance(model.vae, NVAE)
    with torch.no_grad():
        for group in model.vae.hierarchy.groups:
            if group.prior_head is not None:
                group.prior_head.weight.mul_(60.0)
        model.vae.tail.out.weight.mul_(10.0)
    return model


def flat(likelihood: str, target: str = "exact", **options: str) -> VAEBM:
    more: dict[str, object] = {}
    if likelihood in ("gaussian", "censored"):
        more = {"energy": {"image": {"kind": "mlp", "hidden": [4]}}}
    return settings(target, {"kind": likelihood, **options}, **more).build((3,), torch.Generator().manual_seed(1))


MODELS = {
    "two_level": two_level,
    "flat_gaussian": lambda: flat("gaussian"),
    "flat_censored": lambda: flat("censored"),
    "flat_bernoulli": lambda: flat("bernoulli"),
    "flat_logistic_mixture": lambda: flat("logistic_mixture"),
}

# Steps that move a chain by about its width; unadjusted ones small, for a bias below the slack.
STEP_SIZES = {"langevin": 0.02, "underdamped": 0.2, "mala": 0.5, "hmc": 0.15, "mclmc": 0.3, "adjusted_mclmc": 0.4}


def kernel(name: str) -> sampling.Kernel:
    chosen = sampling.KERNELS[name]()
    if isinstance(chosen, sampling.tempering.Tempering):
        # Replicas that all start at the chains' positions are each in N(0, I) where only the energy is tempered.
        return replace(chosen, kernel=replace(chosen.kernel, step_size=0.5), path="energy")
    if name in STEP_SIZES:
        return replace(chosen, step_size=STEP_SIZES[name])  # type: ignore[type-var]
    return chosen


def moments(eps: Tensor) -> tuple[Tensor, Tensor]:
    """All first and second moments of N(0, I), (n, k), and what they should be, (k,)."""
    eps = eps.double()
    i, j = torch.triu_indices(eps.shape[1], eps.shape[1])
    values = torch.cat([eps, eps[:, i] * eps[:, j]], 1)
    return values, torch.cat([torch.zeros(eps.shape[1]), (i == j).double()])


def deviations(values: Tensor, expected: Tensor) -> Tensor:
    """In standard errors."""
    return (values.mean(0) - expected) / (values.std(0) / math.sqrt(len(values)))


def run(model: VAEBM, chosen: sampling.Kernel, steps: int) -> tuple[Tensor, Tensor]:
    """Where chains start, in N(0, I), and where they end."""
    generator = torch.Generator().manual_seed(2)
    start = model.noise.standard(CHAINS, generator, next(model.parameters()))
    with model.frozen():
        chains = sampling.sample_chains(
            model.moves.coordinates(start).target, start, chosen, steps=steps, generator=generator, keep_history=False
        )
    assert not chains.diverged.any()
    return start, chains.position


@pytest.mark.parametrize("name", sampling.KERNELS)
@pytest.mark.parametrize("model", MODELS)
def test_without_an_energy_every_kernel_leaves_the_prior_invariant(model: str, name: str) -> None:
    chosen = kernel(name)
    trajectories = getattr(chosen, "num_leapfrog_steps", 1) > 1
    start, end = run(MODELS[model](), chosen, steps=8 if trajectories else 50)
    values, expected = moments(end)
    quantile = float(stats.norm.isf(LEVEL / (2 * len(expected))))
    # Langevin's variance is 1 / (1 - eta / 4) exactly: a bias of half a percent at this step.
    slack = 0.0 if chosen.adjusted else 0.006
    error = values.std(0) / math.sqrt(CHAINS)
    assert ((values.mean(0) - expected).abs() <= quantile * error + slack).all()
    assert (end - start).square().mean() > 0.3


def test_without_an_energy_mala_leaves_the_prior_of_three_scales_invariant() -> None:
    """In noise space, and so for codes and pixels: what chains end at has the moments of fresh draws."""
    model = three_scales()
    start, end = run(model, kernel("mala"), steps=20)
    assert (end - start).square().mean() > 0.3
    values, expected = moments(end)
    assert deviations(values, expected).abs().max() < stats.norm.isf(LEVEL / (2 * len(expected)))
    fresh = model.noise.standard(CHAINS, torch.Generator().manual_seed(7), next(model.parameters()))
    with torch.no_grad():
        drawn, ended = (torch.cat([part.flatten(1) for part in model.generate(eps)], 1) for eps in (fresh, end))
        scales = model.vae.log_prior(model.generate(fresh)[1]) - standard_log_prob(fresh[:, : model.vae.latent_dim])
    assert scales.std() > 0.5  # the Jacobian of T is not constant
    difference = (ended.mean(0) - drawn.mean(0)).double() / ((ended.var(0) + drawn.var(0)) / CHAINS).double().sqrt()
    assert difference.abs().max() < stats.norm.isf(LEVEL / (2 * len(difference)))


def test_the_release_target_of_three_scales_drifts() -> None:
    model = three_scales("release")
    _, end = run(model, replace(kernel("mala"), step_size=0.3), steps=10)
    values, expected = moments(end)
    assert deviations(values, expected).abs().max() > 20


def test_the_release_target_does_not() -> None:
    chosen = kernel("mala")
    _, released = run(two_level("release"), chosen, steps=60)
    _, exact = run(two_level(), chosen, steps=60)
    expected = torch.zeros(4)
    drift, still = (deviations(end[:, :4].double(), expected) for end in (released, exact))
    # Small scales are likelier to it: the first noise goes where they are small.
    assert (drift[:2] < -15).all()
    assert drift.min() < -60
    assert still.abs().max() < stats.norm.isf(LEVEL / 8)


def test_without_an_energy_the_exact_target_is_the_prior_to_the_last_digit() -> None:
    for name, build in MODELS.items():
        model = build()
        eps = model.noise.standard(50, torch.Generator().manual_seed(3), next(model.parameters())).requires_grad_()
        value = model.noise_log_density(eps)
        assert torch.equal(value, standard_log_prob(eps)), name
        (score,) = torch.autograd.grad(value.sum(), eps)
        torch.testing.assert_close(score, -eps.detach())


def test_the_release_target_keeps_every_log_scale() -> None:
    model = two_level("release")
    eps = model.noise.standard(50, torch.Generator().manual_seed(3), next(model.parameters()))
    z = model.vae.latent(eps[:, :4])
    log_scales = 0.7 * torch.tanh(z[:, :2]).sum(1) + model.vae.decode(z).gaussian.log_scale.sum(1)
    released = model.moves.coordinates(eps).target(eps)
    torch.testing.assert_close(released, standard_log_prob(eps) - log_scales, rtol=1e-4, atol=1e-4)


def test_the_release_target_of_saturated_pixels_is_a_density_too() -> None:
    """With one global scale nothing but a constant is left out, wherever the decoder's means lie."""
    model = flat("censored", target="release", scale="global")
    with torch.no_grad():
        model.vae.decoder[0][-1].bias.fill_(1.5)
    eps = model.noise.standard(50, torch.Generator().manual_seed(3), next(model.parameters()))
    assert (model.decode(eps) == 1).double().mean() > 0.5
    difference = model.moves.coordinates(eps).target(eps) - standard_log_prob(eps)
    torch.testing.assert_close(difference, difference[:1].expand(50), rtol=0, atol=1e-4)


def test_the_pull_back_is_the_change_of_variables() -> None:
    """log h(eps) = log h(T(eps)) + log |det dT / d eps|, both up to the same log Z."""
    model = two_level(energy=Wavy())
    eps = torch.randn(20, 7, generator=torch.Generator().manual_seed(4))

    def joined(e: Tensor) -> Tensor:
        x, z = model.generate(e[None])
        return torch.cat([x, z], 1)[0]

    jacobian = torch.stack([torch.autograd.functional.jacobian(joined, e) for e in eps])
    log_volume = torch.linalg.slogdet(jacobian).logabsdet
    x, z = model.generate(eps)
    assert log_volume.std() > 0.5
    torch.testing.assert_close(model.noise_log_density(eps), model.log_density(x, z) + log_volume, rtol=1e-4, atol=1e-4)


def test_codes_and_noise_of_the_two_levels_are_inverse() -> None:
    vae = TwoLevelVAE()
    eps = torch.randn(20, 4, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(vae.latent_noise(vae.latent(eps)), eps, rtol=1e-4, atol=1e-5)

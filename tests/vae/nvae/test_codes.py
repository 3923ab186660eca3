"""Codes of an NVAE: the top, which the mixture is fitted to and an energy on z reads; the rest keeps its prior."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from vaebm.distributions.gaussian import standard_log_prob
from vaebm.distributions.mixture import GaussianMixture
from vaebm.models import VAEBM, VAEBMSettings
from vaebm.vae.nvae.model import NVAE

LEVEL = 1e-4
DRAWS = 4000


@pytest.fixture
def model() -> VAEBM:
    """E_z is the mixture; eight codes of the top, 72 latents below."""
    settings = VAEBMSettings.model_validate(
        {
            "vae": {"kind": "nvae", "widths": [4, 6], "groups": [1, 2], "latents": 2},
            "code_mixture": {"components": 3},
            "energy": {"latent": {"kind": "mixture"}},
            "sampler": {"kind": "langevin"},
        }
    )
    model = settings.build((1, 4, 4), torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    means = 2 * torch.randn(3, 8, generator=generator)
    factors = torch.randn(3, 8, 8, generator=generator).tril(-1) * 0.2 + 0.5 * torch.eye(8)
    model.set_mixture(GaussianMixture(torch.tensor([0.2, 0.3, 0.5]).log(), means, factors))
    assert isinstance(model.vae, NVAE)
    for group in model.vae.hierarchy.groups:
        if group.prior_head is not None:
            torch.nn.init.normal_(group.prior_head.weight, std=0.5, generator=generator)
    return model


@torch.no_grad()
def test_the_density_is_the_mixtures_times_what_the_prior_says_of_the_rest(model: VAEBM) -> None:
    eps = model.noise.standard(6, torch.Generator().manual_seed(2), next(model.parameters()))
    x, z = model.generate(eps)
    codes = z[:, :8]
    log_rest = model.vae.log_prior(z) - standard_log_prob(codes)
    expected = model.mixture.log_prob(codes) + log_rest + model.vae.decode(z).log_prob(x)
    torch.testing.assert_close(model.log_density(x, z), expected, rtol=1e-4, atol=1e-3)
    noise = model.mixture.log_prob(codes) + standard_log_prob(eps[:, 8:])
    torch.testing.assert_close(model.noise_log_density(eps), noise, rtol=1e-4, atol=1e-3)


@torch.no_grad()
def test_its_proposals_are_exact(model: VAEBM) -> None:
    generator = torch.Generator().manual_seed(3)
    for eps in (model.sample_base(DRAWS, generator), model.draw(DRAWS, generator, "vae_mixture")):
        rest = eps[:, 8:].double()
        quantile = stats.norm.isf(LEVEL / (4 * eps.shape[1]))
        assert (rest.mean(0).abs() < quantile / math.sqrt(DRAWS)).all()
        assert ((rest.square().mean(0) - 1).abs() < quantile * math.sqrt(2 / DRAWS)).all()
        codes = eps[:, :8].double()
        mean = (model.mixture.log_weights.exp()[:, None] * model.mixture.means).sum(0).double()
        assert ((codes.mean(0) - mean).abs() < quantile * codes.std(0) / math.sqrt(DRAWS)).all()
        torch.testing.assert_close(model.generate(eps[:5])[1][:, :8], eps[:5, :8])


def test_chains_on_the_energy_of_codes_leave_it_invariant(model: VAEBM) -> None:
    generator = torch.Generator().manual_seed(4)
    start = model.sample_base(DRAWS, generator)
    sampler = model.settings.sampler.model_copy(update={"step_size": 0.01, "steps": 20})
    end = model.chains(start, generator, sampler).position

    def log_mixture(eps: Tensor) -> Tensor:
        return model.mixture.log_prob(eps[:, :8]).double()

    before, after = log_mixture(start), log_mixture(end)
    error = math.sqrt(float(before.var() + after.var()) / DRAWS)
    assert abs(float(after.mean() - before.mean())) < stats.norm.isf(LEVEL / 2) * error + 0.1  # Langevin's bias
    assert float((end - start)[:, :8].square().mean()) > 0.01

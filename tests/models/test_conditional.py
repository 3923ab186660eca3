"""Conditionals of a linear-Gaussian model against their closed forms."""

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from tests.models.test_linear_gaussian import DIM, LATENT, Case, QuadraticPair, assert_mean, expected_moments, moments
from vaebm.energy import FlowSettings
from vaebm.errors import InputError
from vaebm.models import VAEBM
from vaebm.models.conditional import sample_data_given_codes, sample_posterior, sample_with_held_latent

N = 3000


@pytest.fixture(scope="module")
def joint() -> tuple[VAEBM, MultivariateNormal]:
    """A model with an energy of (x, z), and its law of (eps, x): h(eps) is Gaussian, and x is linear in eps."""
    case = Case(image=False)
    generator = torch.Generator().manual_seed(11)
    root, centre = torch.randn(5, 5, generator=generator), torch.randn(5, generator=generator)
    curvature = root @ root.T / 4 + 0.2 * torch.eye(5)
    sampler = {"kind": "hmc", "steps": 15, "warmup": 40}
    settings = Case(image=False, sampler=sampler).model.settings
    model = VAEBM(case.model.vae, {"joint": QuadraticPair(curvature, centre)}, settings)
    of_codes = torch.cat([torch.eye(LATENT), torch.zeros(LATENT, DIM)], 1).double()
    jacobian = torch.cat([case.jacobian, of_codes])
    away = centre.double() - torch.cat([case.offset, torch.zeros(LATENT)])
    precision = torch.eye(5) + jacobian.T @ curvature.double() @ jacobian
    mean = torch.linalg.solve(precision, jacobian.T @ curvature.double() @ away)
    spread = torch.linalg.inv(precision)
    everything = torch.cat([torch.eye(5).double(), case.jacobian])  # (eps, x) less its offset
    covariance = everything @ spread @ everything.T + 1e-12 * torch.eye(5 + DIM)
    law = MultivariateNormal(everything @ mean + torch.cat([torch.zeros(5).double(), case.offset]), covariance)
    return model, law


def given(law: MultivariateNormal, wanted: list[int], known: list[int], value: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of some coordinates given others."""
    cov = law.covariance_matrix
    gain = torch.linalg.solve(cov[known][:, known], cov[known][:, wanted]).T
    mean = law.mean[wanted] + gain @ (value.double() - law.mean[known])
    return mean, cov[wanted][:, wanted] - gain @ cov[known][:, wanted]


def test_codes_of_data_follow_the_posterior_under_the_energy(joint: tuple[VAEBM, MultivariateNormal]) -> None:
    model, law = joint
    x = torch.tensor([0.3, -0.5, 0.8])
    z = sample_posterior(model, x.expand(N, DIM), torch.Generator().manual_seed(0))
    expected = given(law, [0, 1], [5, 6, 7], x)
    assert_mean(moments(z), expected_moments(*expected))
    no_energy = given(MultivariateNormal(law.mean, law.covariance_matrix), [0, 1], [5, 6, 7], x + 1)
    assert (no_energy[0] - expected[0]).abs().max() > 0.05


def test_codes_of_a_flow_need_no_density_of_it(
    joint: tuple[VAEBM, MultivariateNormal], monkeypatch: pytest.MonkeyPatch
) -> None:
    vae, settings, shift = joint[0].vae, joint[0].settings, torch.tensor([1.5, -1.0])
    flow = FlowSettings(width=8, blocks=1, steps=2).build(LATENT, 1, torch.Generator().manual_seed(0))
    flow.mixture.means.copy_(shift)  # the flow is the identity still, so codes are N(shift, I)
    x = torch.tensor([0.3, -0.5, 0.8]).expand(N, DIM)
    offset = vae.decode(shift[None]).center - vae.decode(torch.zeros(1, LATENT)).center
    expected = shift + sample_posterior(VAEBM(vae, {}, settings), x - offset, torch.Generator().manual_seed(0))
    monkeypatch.setattr(type(flow), "of_z", lambda *_: pytest.fail("a density of the flow was computed"))
    found = sample_posterior(VAEBM(vae, {"latent": flow}, settings), x, torch.Generator().manual_seed(1))
    torch.testing.assert_close(found.mean(0), expected.mean(0), rtol=0, atol=0.06)
    torch.testing.assert_close(found.std(0), expected.std(0), rtol=0.1, atol=0)


def test_data_of_codes_follow_their_law_given_the_code(joint: tuple[VAEBM, MultivariateNormal]) -> None:
    model, law = joint
    z = torch.tensor([0.7, -0.4])
    eps = sample_data_given_codes(model, z.expand(N, LATENT), torch.Generator().manual_seed(1))
    assert torch.equal(eps[:, :LATENT], z.expand(N, LATENT))
    expected = given(law, [5, 6, 7], [0, 1], z)
    assert_mean(moments(model.decode(eps)), expected_moments(*expected))


@pytest.mark.parametrize("latent", [0, 1])
def test_a_held_latent_stays_and_all_else_follows_it(joint: tuple[VAEBM, MultivariateNormal], latent: int) -> None:
    model, law = joint
    generator = torch.Generator().manual_seed(2)
    start = model.noise.standard(N, generator, next(model.parameters()))
    start[:, latent] = 1.3
    eps = sample_with_held_latent(model, start, latent, generator)
    assert (eps[:, latent] == 1.3).all()
    others = [i for i in range(5) if i != latent]
    expected = given(law, others, [latent], torch.tensor([1.3]))
    assert_mean(moments(eps[:, others]), expected_moments(*expected))


def test_replicas_of_a_chain_hold_the_same_latent(joint: tuple[VAEBM, MultivariateNormal]) -> None:
    sampler = {"kind": "tempering", "steps": 2, "warmup": 0}
    model = VAEBM(joint[0].vae, joint[0].energy_net, Case(image=False, sampler=sampler).model.settings)
    eps = torch.randn(3, model.noise.dim, generator=torch.Generator().manual_seed(0))
    moved = sample_with_held_latent(model, eps, 1, torch.Generator().manual_seed(1))
    assert torch.equal(moved[:, 1], eps[:, 1])
    assert not torch.equal(moved, eps)


def test_what_cannot_be_held_is_refused(joint: tuple[VAEBM, MultivariateNormal]) -> None:
    model, _ = joint
    eps = torch.zeros(2, model.noise.dim)
    with pytest.raises(InputError, match="0 to 1"):
        sample_with_held_latent(model, eps, 2, torch.Generator())
    flow = FlowSettings(width=8, blocks=1, steps=2).build(LATENT, 1, torch.Generator().manual_seed(0))
    carrying = VAEBM(model.vae, {"latent": flow, **model.energy_net.terms}, model.settings)
    with pytest.raises(InputError, match="flow"):
        sample_with_held_latent(carrying, eps, 0, torch.Generator())


def test_precision_is_full_within_and_as_it_was_after(joint: tuple[VAEBM, MultivariateNormal]) -> None:
    model = VAEBM(joint[0].vae, joint[0].energy_net, joint[0].settings.model_copy(update={"precision": "bfloat16"}))
    x = torch.zeros(4, DIM)
    found = sample_posterior(model, x, torch.Generator().manual_seed(0))
    assert model.settings.precision == "bfloat16"
    torch.testing.assert_close(found, sample_posterior(joint[0], x, torch.Generator().manual_seed(0)))

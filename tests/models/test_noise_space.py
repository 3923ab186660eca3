"""Strategies for noise space: what chains move, what they keep, the law that follows, and what each needs."""

import pytest
import torch
from torch import Tensor

from tests.models.test_linear_gaussian import (
    DIM,
    LATENT,
    Case,
    assert_mean,
    expected_moments,
    joined,
    moments,
    repeated,
    with_latent_energy,
)
from tests.models.test_vaebm import build, noise
from vaebm.errors import InputError

CODE = torch.tensor([0.7, -1.1, 0.3, 0.4])[:LATENT]
LADDER = {"kind": "tempering", "steps": 40, "warmup": 60, "betas": [1.0, 0.5, 0.2]}


def given_a_code(case: Case, code: Tensor) -> Tensor:
    """Moments of eps_x under N(eps_x; 0, I) exp(-E(W z + b + sigma eps_x)), which is Gaussian."""
    covariance = torch.linalg.inv(torch.eye(DIM) + case.sigma**2 * case.curvature)
    away = case.centre - case.offset - case.weight @ code.double()
    return expected_moments(covariance @ (case.sigma * case.curvature @ away), covariance)


@pytest.mark.parametrize("target", ["exact", "release"])
@pytest.mark.parametrize("sampler", ["mala", "hmc", LADDER], ids=["mala", "hmc", "tempering"])
def test_with_fixed_codes_chains_sample_the_noise_of_an_image_given_its_code(sampler: object, target: str) -> None:
    """Any kernel, a ladder of replicas too; the two targets differ by a function of the code alone."""
    chosen = {"kind": sampler, "steps": 60, "warmup": 60} if isinstance(sampler, str) else sampler
    case = Case(fix_codes=True, target=target, sampler={"step_size": 0.1, **chosen})  # type: ignore[dict-item]
    start = case.model.noise.standard(3000, torch.Generator().manual_seed(0), torch.empty(0))
    start[:, :LATENT] = CODE
    end = case.model.chains(start, torch.Generator().manual_seed(1)).position
    assert torch.equal(end[:, :LATENT], start[:, :LATENT])
    assert_mean(moments(end[:, LATENT:]), given_a_code(case, CODE))


def test_a_ladder_knows_each_chains_own_code() -> None:
    case = Case(fix_codes=True, sampler={"step_size": 0.1, **LADDER})
    start = case.model.noise.standard(3000, torch.Generator().manual_seed(0), torch.empty(0))
    start[:, :LATENT] = torch.where(torch.arange(3000)[:, None] % 2 == 0, CODE, -CODE)
    end = case.model.chains(start, torch.Generator().manual_seed(1)).position[:, LATENT:]
    assert_mean(moments(end[::2]), given_a_code(case, CODE))
    assert_mean(moments(end[1::2]), given_a_code(case, -CODE))


def test_fixed_codes_that_the_energy_chose_follow_h() -> None:
    """Importance weights choose codes by h(z), and chains that leave h(x | z) invariant then keep h(x, z)."""
    case = Case(fix_codes=True, init={"importance_samples": 100})
    end = repeated(case.model.draw, repeats=40, n=100)
    assert_mean(end, expected_moments(case.mean, case.covariance))


def test_fixed_codes_without_a_term_on_x_are_the_base_itself() -> None:
    case, mean, covariance = with_latent_energy(energy={"latent": {"kind": "mixture"}}, fix_codes=True, image=False)
    assert_mean(moments(case.model.draw(4000, torch.Generator().manual_seed(2))), joined(mean, covariance))


@pytest.mark.parametrize("data", ["points", "images"])
def test_their_target_is_the_whole_one_up_to_what_codes_alone_decide(data: str) -> None:
    model = build(data, "gaussian", fix_codes=True)
    eps = noise(model)
    moved = torch.cat([eps[:, :4], noise(model, seed=9)[:, 4:]], dim=1)
    with model.frozen():
        space = model.moves.coordinates(eps)
        difference = space.target(moved[:, 4:]) - space.target(space.start)
        expected = model.noise_log_density(moved) - model.noise_log_density(eps)
    torch.testing.assert_close(difference, expected, rtol=1e-3, atol=1e-3)
    assert torch.equal(space.position(space.start), eps)


def test_the_released_target_of_fixed_codes_is_that_of_all_noise() -> None:
    fixed, free = (build("images", "censored", target="release", fix_codes=fix) for fix in (True, False))
    eps = noise(fixed)
    moved = torch.cat([eps[:, :4], noise(fixed, seed=9)[:, 4:]], dim=1)
    with fixed.frozen(), free.frozen():
        space, whole = fixed.moves.coordinates(eps), free.moves.coordinates(eps).target
        difference = space.target(moved[:, 4:]) - space.target(space.start)
        torch.testing.assert_close(difference, whole(moved) - whole(eps), rtol=1e-3, atol=1e-3)


def test_a_state_of_theirs_is_one_of_whole_positions() -> None:
    model = build("images", "gaussian", fix_codes=True)
    eps = noise(model)
    seen: list[Tensor] = []
    chains = model.chains(eps, torch.Generator().manual_seed(0), observer=lambda _, position: seen.append(position))
    assert chains.position.shape == chains.state.score.shape == eps.shape
    assert torch.equal(chains.position[:, :4], eps[:, :4])
    assert not bool(chains.state.score[:, :4].any())
    assert bool((chains.position[:, 4:] != eps[:, 4:]).any())
    assert len(seen) == model.settings.sampler.steps
    assert torch.equal(seen[-1], chains.position)


@pytest.mark.parametrize("setting", [{"fix_codes": True}, {"target": "release"}])
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_what_moves_pixel_noise_needs_some(setting: dict[str, object], likelihood: str) -> None:
    """Refused when the model is built, and when settings change; the settings before then stay."""
    key = next(iter(setting))
    energy = {"energy": {"image": {"kind": "mlp", "hidden": [4]}, "input": "mean"}}
    with pytest.raises(InputError, match=key):
        build("points", likelihood, **energy, **setting)
    model = build("points", likelihood, **energy)
    before = model.settings
    with pytest.raises(InputError, match=key):
        model.update_settings(before.model_copy(update=setting))
    assert model.settings is before
    assert model.sample(2).isfinite().all()

"""Chains that leave the codes alone: their law, what they keep, and which parts they need."""

import pytest
import torch

from tests.models.test_linear_gaussian import DIM, LATENT, Case, assert_mean, expected_moments, moments
from tests.models.test_vaebm import build, noise
from vaebm.errors import InputError
from vaebm.models.noise_space import chain_space


@pytest.mark.parametrize("kind", ["mala", "hmc"])
def test_they_sample_the_noise_of_an_image_given_its_code(kind: str) -> None:
    """N(eps_x; 0, I) exp(-E_x(W z + b + sigma eps_x)) is Gaussian; codes keep the law that they came with."""
    case = Case(latent_step_scale=0, sampler={"kind": kind, "steps": 60, "warmup": 60, "step_size": 0.1})
    code = torch.tensor([0.7, -1.1, 0.3, 0.4])[:LATENT]
    start = case.model.noise.standard(3000, torch.Generator().manual_seed(0), torch.device("cpu"))
    start[:, :LATENT] = code
    end = case.model.chains(start, torch.Generator().manual_seed(1)).position
    assert torch.equal(end[:, :LATENT], start[:, :LATENT])
    covariance = torch.linalg.inv(torch.eye(DIM) + case.sigma**2 * case.curvature)
    away = case.centre - case.offset - case.weight @ code.double()
    mean = covariance @ (case.sigma * case.curvature @ away)
    assert_mean(moments(end[:, LATENT:]), expected_moments(mean, covariance))


@pytest.mark.parametrize("data", ["points", "images"])
def test_their_target_is_the_whole_one_up_to_what_codes_alone_decide(data: str) -> None:
    model = build(data, "gaussian", latent_step_scale=0)
    eps = noise(model)
    moved = torch.cat([eps[:, :4], noise(model, seed=9)[:, 4:]], dim=1)
    with model.frozen():
        space = chain_space(model, eps)
        difference = space.target(moved[:, 4:]) - space.target(space.start)
        expected = model.noise_log_density(moved) - model.noise_log_density(eps)
    torch.testing.assert_close(difference, expected, rtol=1e-3, atol=1e-3)
    assert torch.equal(space.position(space.start), eps)


def test_a_state_of_theirs_is_one_of_whole_positions() -> None:
    model = build("images", "gaussian", latent_step_scale=0)
    eps = noise(model)
    chains = model.chains(eps, torch.Generator().manual_seed(0))
    assert chains.position.shape == chains.state.score.shape == eps.shape
    assert torch.equal(chains.position[:, :4], eps[:, :4])
    assert not bool(chains.state.score[:, :4].any())
    assert bool((chains.position[:, 4:] != eps[:, 4:]).any())


@pytest.mark.parametrize(
    "more",
    [
        {"energy": {"latent": {"kind": "mixture"}}},
        {"energy": {"image": {"kind": "mlp", "hidden": [4]}, "input": "mean"}},
        {"target": "release"},
        {"sampler": {"kind": "tempering"}},
        {"init": {"importance_samples": 2}},
    ],
)
def test_parts_that_they_cannot_do_with_are_refused(more: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"latent_step_scale=0 moves pixels alone.*or latent_step_scale above 0$"):
        build("points", "gaussian", latent_step_scale=0, **more)
    model = build("points", "gaussian", **{name: value for name, value in more.items() if name == "energy"})
    before = model.settings
    with pytest.raises(InputError, match="latent_step_scale=0 moves pixels alone"):
        model.update_settings(type(before).model_validate(before.model_dump() | {"latent_step_scale": 0, **more}))
    assert model.settings is before

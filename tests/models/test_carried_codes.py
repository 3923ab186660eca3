"""Chains in the source of a flow: the push-forward of their target is h, though nobody computes the flow's density."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import jacrev, vmap

from vaebm import sampling
from vaebm.distributions.mixture import GaussianMixture
from vaebm.energy import Energy, FlowEnergy
from vaebm.energy.flow import Velocity
from vaebm.models import VAEBM, VAEBMSettings
from vaebm.models.noise_space import AllNoise, CarriedCodes, FixedCodes

LATENT, DIM = 2, 3


class OnData(Energy):
    reads_x = True

    def forward(self, x: Tensor | None, z: Tensor | None = None) -> Tensor:
        assert x is not None
        return torch.sin(2 * x).sum(1) + 0.5 * x.square().sum(1)


def model_of(steps: int, **more: object) -> VAEBM:
    """A small VAE, a mixture of two, and a velocity that bends."""
    generator = torch.Generator().manual_seed(0)
    settings = VAEBMSettings.model_validate(
        {
            "vae": {"kind": "mlp", "latent_dim": LATENT, "hidden": [8]},
            "energy": {"image": None, "latent": {"kind": "flow"}},
            "code_mixture": {"components": 2},
            **more,
        }
    )
    vae = settings.build((DIM,), generator).vae
    mixture = GaussianMixture.standard(2, LATENT)
    mixture.means.copy_(torch.tensor([[-1.0, 0.3], [0.8, -0.5]]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        velocity = Velocity(LATENT, 16, 1)
    return VAEBM(vae, {"image": OnData(), "latent": FlowEnergy(mixture, velocity, steps)}, settings, mixture=mixture)


def test_the_target_is_the_pull_back_of_h() -> None:
    model = model_of(steps=200)
    moves = model.moves
    assert isinstance(moves, CarriedCodes)
    moved = torch.randn(20, LATENT + DIM, generator=torch.Generator().manual_seed(1))
    with model.frozen():
        eps = moves.coordinates(torch.zeros(20, LATENT + DIM)).position(moved)
        jacobian = vmap(jacrev(lambda u: moves.base.carry(u[None])[0]))(moved[:, :LATENT])
        expected = model.noise_log_density(eps) + torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(moves.target(moved), expected, atol=2e-3, rtol=0)
        torch.testing.assert_close(moves.coordinates(eps).start, moved, atol=2e-3, rtol=0)  # the way back


def test_the_reference_is_the_base() -> None:
    model = model_of(steps=5)
    moves = model.moves
    assert isinstance(moves, CarriedCodes)
    generator = torch.Generator().manual_seed(0)
    drawn = moves.position(moves.sample_reference(20_000, generator))
    base = model.sample_base(20_000, generator)
    torch.testing.assert_close(drawn.mean(0), base.mean(0), atol=0.03, rtol=0)
    torch.testing.assert_close(drawn.std(0), base.std(0), atol=0.03, rtol=0)


def test_chains_agree_with_importance_weights() -> None:
    model = model_of(steps=5, sampler={"kind": "mala", "step_size": 0.3, "steps": 300})
    generator = torch.Generator().manual_seed(0)
    eps = model.sample_base(60_000, generator)
    weights = model.log_weights(eps).softmax(0)
    exact = (weights[:, None] * eps[:, :LATENT]).sum(0)
    ends = model.chains(model.start(4_000, generator), generator).position
    stderr = ends[:, :LATENT].std(0) / 4_000**0.5
    assert ((ends[:, :LATENT].mean(0) - exact).abs() < 6 * stderr).all()
    assert ((exact - eps[:, :LATENT].mean(0)).abs() > 10 * stderr).any()  # the energy moves the codes


def test_which_strategy_serves() -> None:
    assert isinstance(model_of(2, fix_codes=True).moves, FixedCodes)
    assert isinstance(model_of(2, target="release").moves, AllNoise)
    assert model_of(2).moves.follows_h
    assert isinstance(model_of(2).kernel(), sampling.Kernel)

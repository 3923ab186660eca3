"""Score matching against closed forms: a linear decoder, whose data, base and ratio are all Gaussian."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vaebm.distributions.likelihood import GaussianSettings
from vaebm.energy import DataEnergy, TotalEnergy
from vaebm.errors import InputError
from vaebm.experiment.recipe import load_recipe
from vaebm.experiment.train import build_model
from vaebm.models import VAEBM
from vaebm.progress import silent
from vaebm.training.engine import Engine
from vaebm.training.estimators.score_matching import base_score, score_matching_loss
from vaebm.training.stage import Training
from vaebm.vae import FlatVAE

V, S = 0.7, 0.5  # variance of the data about 0, noise
SLOPE, SIGMA = 0.8, 0.6  # x = SLOPE z + SIGMA eps
BASE = SLOPE**2 + SIGMA**2
BEST = 1 / (V + S**2) - 1 / BASE  # N(0, V + S^2) = N(0, BASE) exp(-E),  E = BEST x^2 / 2


class Quadratic(DataEnergy):
    """a x^2 / 2."""

    def __init__(self, a: float) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a))

    def of_x(self, x: Tensor) -> Tensor:
        return (0.5 * self.a * x.square()).flatten(1).sum(1)


class Encoder(nn.Module):
    """N(slope x, scale^2)."""

    def __init__(self, slope: float, scale: float) -> None:
        super().__init__()
        self.slope, self.log_scale = slope, torch.tensor(scale).log()

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.slope * x, self.log_scale.expand_as(x)], 1)


def model(slope: float, scale: float, energy: float = 0.0) -> VAEBM:
    """Each of two coordinates has a code of its own."""
    head = GaussianSettings(initial_scale=SIGMA - 0.004).build()
    decoder = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        decoder.weight.copy_(SLOPE * torch.eye(2))
    vae = FlatVAE((2,), 2, Encoder(slope, scale), decoder, head).eval()
    return VAEBM(vae, {"image": Quadratic(energy)})


EXACT = (SLOPE / BASE, SIGMA / BASE**0.5)  # p(z | x)


@pytest.mark.parametrize(("slope", "scale"), [EXACT, (0.6 * EXACT[0], 1.5 * EXACT[1])], ids=["exact", "off"])
def test_the_score_of_the_base(slope: float, scale: float) -> None:
    """Also where q(z | x) is not p(z | x): the weights make up for it, up to their noise."""
    generator = torch.Generator().manual_seed(0)
    x = (V + S**2) ** 0.5 * torch.randn(2000, 2, generator=generator)
    score = base_score(model(slope, scale), x, generator)
    assert score.shape == x.shape
    error = score + x / BASE
    assert float(error.square().mean().sqrt()) < 0.08
    assert abs(float((error * x).mean())) < 0.02


@pytest.mark.parametrize("off", [-0.5, 0.0, 0.4])
def test_the_loss_is_the_closed_form(off: float) -> None:
    """Per value, V / (V + s^2) + s^2 off^2 (V + s^2): the score is wrong by `off` x~."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(100_000, 2, generator=generator)
    x = V**0.5 * torch.randn(noise.shape, generator=generator) + S * noise
    loss = score_matching_loss(TotalEnergy({"image": Quadratic(BEST + off)}), x, noise, -x / BASE, S)
    assert float(loss.detach()) == pytest.approx(2 * (V / (V + S**2) + S**2 * off**2 * (V + S**2)), rel=0.01)


def test_training_finds_data_with_noise_whatever_the_encoder() -> None:
    """With plain draws from this q(z | x) the curvature would be off by 0.7."""
    generator = torch.Generator().manual_seed(0)
    part = model(0.6 * EXACT[0], 1.5 * EXACT[1])
    energy = part.energy_net
    optimizer = torch.optim.Adam(energy.parameters(), lr=0.05)
    values = []
    for step in range(120):
        noise = torch.randn(500, 2, generator=generator)
        x = V**0.5 * torch.randn(noise.shape, generator=generator) + S * noise
        optimizer.zero_grad()
        score_matching_loss(energy, x, noise, base_score(part, x, generator), S).backward()
        optimizer.step()
        values += [float(next(energy.parameters()).detach())] if step >= 60 else []
    assert sum(values) / len(values) == pytest.approx(BEST, abs=0.03)


def test_what_has_no_score_is_refused(engine: Engine) -> None:
    recipe = load_recipe("digits", ["energy_stage.phases={score: {kind: score_matching}}"])
    data = recipe.data.load()
    training = Training(build_model(recipe, data, engine.device), data.train, engine, silent(), 0)
    with pytest.raises(InputError, match=r"vae\.likelihood\.kind=gaussian"):
        recipe.training_settings().stages(training)

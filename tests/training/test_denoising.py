"""Denoising score matching against closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vaebm.distributions.gaussian import DiagonalGaussian
from vaebm.distributions.likelihood import GaussianLikelihood, NoisyLikelihood
from vaebm.energy import DataEnergy, TotalEnergy
from vaebm.training.estimators.denoising import denoising_loss

V, S, SIGMA = 0.7, 0.5, 0.9  # variance of the data about 0, noise, decoder's scale
ROWS = 100_000


class Quadratic(DataEnergy):
    """a x^2 / 2."""

    def __init__(self, a: float) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a))

    def of_x(self, x: Tensor) -> Tensor:
        return (0.5 * self.a * x.square()).flatten(1).sum(1)


# Data N(0, V) and a decoder without knowledge, N(0, SIGMA^2): with noise, N(0, V + S^2) = N(0, SIGMA^2 + S^2) exp(-E).
BEST = 1 / (V + S**2) - 1 / (SIGMA**2 + S**2)
FLOOR = V / (V + S**2)  # variance of x given x~, in units of S^2


def pair() -> tuple[Tensor, Tensor, Tensor, NoisyLikelihood]:
    generator = torch.Generator().manual_seed(0)
    x = V**0.5 * torch.randn(ROWS, 2, 1, 1, generator=generator)
    noisy = x + S * torch.randn(x.shape, generator=generator)
    pixels = GaussianLikelihood(DiagonalGaussian(torch.zeros_like(x), torch.tensor(SIGMA).log())).with_noise(S)
    return x, noisy, torch.zeros(ROWS, 1), pixels


@pytest.mark.parametrize("off", [-0.5, 0.0, 0.4])
def test_the_loss_is_the_closed_form(off: float) -> None:
    """FLOOR + s^2 off^2 (V + s^2): the score is wrong by `off` x~."""
    loss = float(denoising_loss(TotalEnergy({"image": Quadratic(BEST + off)}), *pair()))
    assert loss == pytest.approx(FLOOR + S**2 * off**2 * (V + S**2), rel=0.01)


def test_training_finds_the_energy_of_data_against_the_decoder() -> None:
    energy = Quadratic(0.0)
    optimizer = torch.optim.Adam(energy.parameters(), lr=0.05)
    parts = pair()
    for _ in range(200):
        optimizer.zero_grad()
        denoising_loss(TotalEnergy({"image": energy}), *parts).backward()
        optimizer.step()
    assert float(energy.a) == pytest.approx(BEST, abs=0.01)

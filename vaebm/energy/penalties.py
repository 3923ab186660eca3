"""What keeps an energy net in bounds while it learns.

energy-square    mean(E(x+)^2) + mean(E(x-)^2): keeps the free constant, and the scale, near 0 (Du & Mordatch 2019)
spectral         sum over layers of the largest singular value (Vahdat & Kautz 2020; the paper's alpha_s)
"""

from __future__ import annotations

from torch import Tensor


def energy_square(positive: Tensor, negative: Tensor) -> Tensor:
    """Mean square of the energies of data and of samples, a scalar."""
    return positive.square().mean() + negative.square().mean()

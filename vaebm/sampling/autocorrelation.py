r"""Autocorrelation: how long a chain remembers.

    $$ \rho_k = \frac{E[(x_t - \bar x)(x_{t+k} - \bar x)]}{E[(x_t - \bar x)^2]}, \qquad
       \tau = 1 + 2 \sum_{k \ge 1} \rho_k $$

Mean and expectations are over all chains, which are taken to sample the same distribution. The sum ends before the
first pair $\rho_{2k} + \rho_{2k+1}$ that is not positive. $\tau$ steps are worth one independent sample.

Reference: Geyer, Practical Markov chain Monte Carlo, Statistical Science 7, 1992 (initial positive sequence).
"""

import torch
from torch import Tensor


def autocorrelation(history: Tensor) -> Tensor:
    """rho_k of each quantity.

    Args:
        history: (steps, chain, quantity).

    Returns:
        (steps, quantity), from lag 0, which is 1; nan for a quantity that does not change.
    """
    steps = history.shape[0]
    centred = history - history.mean(dim=(0, 1))
    # Zeros after the series keep the circular correlation from wrapping around.
    spectrum = torch.fft.rfft(centred, n=2 * steps, dim=0)
    products = torch.fft.irfft(spectrum.abs().square(), n=2 * steps, dim=0)[:steps].mean(dim=1)
    pairs = torch.arange(steps, 0, -1, device=history.device, dtype=history.dtype)[:, None]
    covariance: Tensor = products / pairs
    return covariance / covariance[0]


def integrated_time(history: Tensor) -> Tensor:
    """tau of each quantity, (quantity,), from a history (steps, chain, quantity)."""
    rho = autocorrelation(history)
    pairs = rho[: len(rho) // 2 * 2].reshape(-1, 2, rho.shape[1]).sum(dim=1)
    positive = (pairs > 0).cumprod(dim=0)
    tau: Tensor = 2 * (pairs * positive).sum(dim=0) - 1
    return tau

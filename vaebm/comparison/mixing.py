r"""Mixing: whether chains have forgotten where they began, and how many independent samples they are worth.

Some chains start from the base and as many from held-out data. Of the second half of their steps:

    rhat                  rank-normalised split R-hat over all of these chains: 1 where each has seen everything
    rhat_between_starts   sqrt(1 + B / W), B the variance of the two groups' means, W that within the groups: 1 where
                          the chains of a group together have forgotten where they began (nested R-hat)
    ess_per_gradient      1 / (tau g), tau the integrated autocorrelation time in steps and g the gradients of a step

tau sums the autocorrelation over all chains, about their common mean, up to half of those steps, or to where it is no
longer positive; what is left at the end is continued at the rate at which the whole window fell, since few steps do
not show the end of a slow decay. Of a chain that hardly moves it is a lower bound, and its R-hat says so.

`rhat` and `rhat_between_starts` are the largest, and the effective sample size the smallest, over the test functions:
coordinates (64 random directions where there are more), energy, and features of the sample in data space. One that is
the same everywhere says nothing and is left out. Where no chain moves, all are nan.

Samplers without chains give populations that are independent of each other. Their `rhat` is that between four of
them; their effective sample size is n times the variance of a sample over n / G times that of the means of G
populations.

Reference: Vehtari et al., Rank-normalization, folding, and localization: An improved R-hat, Bayesian Analysis 16,
2021, https://arxiv.org/abs/1903.08008; Margossian et al., Nested R-hat: assessing the convergence of Markov chain Monte
Carlo when running many short chains, Bayesian Analysis, 2024, https://arxiv.org/abs/2110.13017.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vaebm.sampling.diagnostics import MAX_DIRECTIONS, MIN_STEPS, autocorrelation

POPULATIONS = 32
POPULATIONS_COMPARED = 4


@dataclass(frozen=True)
class Mixing:
    """What the module's definitions give; `slowest` is the test function of the largest R-hat."""

    rhat: float
    rhat_between_starts: float | None
    ess_per_gradient: float
    slowest: str


class TestFunctions:
    """Functions of a position: coordinates or directions, and features (chain,) of the sample by name."""

    def __init__(self, dim: int, features: Callable[[Tensor], dict[str, Tensor]], generator: torch.Generator) -> None:
        self.features = features
        self.directions: Tensor | None = None
        if dim > MAX_DIRECTIONS:
            chosen = torch.randn(dim, MAX_DIRECTIONS, device=generator.device, generator=generator)
            self.directions = torch.nn.functional.normalize(chosen, dim=0)
        self.coordinates = tuple(f"x[{k}]" for k in range(min(dim, MAX_DIRECTIONS)))
        self.names: tuple[str, ...] = ()

    def __call__(self, position: Tensor) -> Tensor:
        """(chain, function), on the CPU, in the order of `names`."""
        coordinates = position if self.directions is None else position @ self.directions
        features = self.features(position)
        self.names = (*self.coordinates, *features)
        return torch.cat([coordinates, *(values.to(coordinates)[:, None] for values in features.values())], dim=1).cpu()


def between_starts(
    history: Tensor, energies: Tensor, functions: TestFunctions, gradients_per_step: float
) -> Mixing | None:
    """Reads chains of which the first half started from the base and the second from data.

    The history (steps, chain, function) is what `functions` gave after each step; energies are (steps, chain). None
    where there are too few steps.
    """
    if len(history) < 2 * MIN_STEPS:
        return None
    kept = len(history) // 2
    values, names = _varying(history[-kept:], energies[-kept:], functions)
    if bool((values == values[0]).all()):
        return Mixing(math.nan, math.nan, math.nan, "")
    groups = values.unflatten(1, (2, -1))
    between = groups.mean(dim=(0, 2)).var(dim=0)
    within = groups.var(dim=(0, 2), correction=0).mean(dim=0)
    rhat, slowest = _largest_rhat(values, names)
    ess = 1 / (float(_times(values).max()) * gradients_per_step)
    return Mixing(rhat, float((1 + between / within).sqrt().max()), ess, slowest)


def between_populations(values: Tensor, energies: Tensor, functions: TestFunctions, gradients: float) -> Mixing:
    """Reads samples (n, function) whose neighbours are of one population, at `gradients` evaluations a sample."""
    values, names = _varying(values, energies, functions)
    if not names:
        return Mixing(math.nan, None, math.nan, "")
    n = len(values)
    means = torch.stack([part.mean(dim=0) for part in values.tensor_split(POPULATIONS)])
    ess = float((POPULATIONS * values.var(dim=0) / means.var(dim=0)).min())
    size = n // POPULATIONS_COMPARED
    chains = values[: size * POPULATIONS_COMPARED].unflatten(0, (POPULATIONS_COMPARED, size)).transpose(0, 1)
    rhat, slowest = _largest_rhat(chains, names)
    return Mixing(rhat, None, min(ess, n) / (n * gradients), slowest)


def _varying(history: Tensor, energies: Tensor, functions: TestFunctions) -> tuple[Tensor, list[str]]:
    """The functions and the energy, (..., function) in float64, without those that are the same everywhere."""
    values = torch.cat([history, energies.cpu()[..., None].to(history)], dim=-1).double()
    flat = values.flatten(0, -2)
    varies = (flat != flat[0]).any(dim=0)
    names = (*functions.names, "energy")
    return values[..., varies], [name for name, kept in zip(names, varies.tolist(), strict=True) if kept]


def _largest_rhat(history: Tensor, names: list[str]) -> tuple[float, str]:
    """Over the functions of (steps, chain, function), and whose it is."""
    from arviz_stats.base.array import array_stats

    split_rhat: Callable[..., np.ndarray] = array_stats.rhat
    with np.errstate(divide="ignore", invalid="ignore"):
        rhat = np.asarray(split_rhat(history.numpy(), chain_axis=1, draw_axis=0, method="rank"))
    largest = int(np.nan_to_num(rhat, nan=0.0, posinf=np.inf).argmax())
    return float(rhat[largest]), names[largest]


def _times(history: Tensor) -> Tensor:
    """tau of each function of (steps, chain, function), as the module defines it."""
    rho = autocorrelation(history)[: len(history) // 2 + 1]
    positive = (rho > 0).cumprod(dim=0)
    lags = positive.sum(dim=0) - 1
    last = rho.gather(0, lags.clamp(min=0)[None])[0].clamp(max=1 - 1 / (10 * history.shape[1]))
    rate = last ** (1 / lags.clamp(min=1))
    # Where the correlation has crossed 0 within the window, nothing is left.
    tail = torch.where(lags == len(rho) - 1, last * rate / (1 - rate), 0.0)
    times: Tensor = 1 + 2 * ((rho * positive)[1:].sum(dim=0) + tail)
    return times

r"""Mixing: whether chains have forgotten where they began, and how many independent samples they are worth.

Some chains start from the model's own start and as many from held-out data. Of the second half of their steps:

    rhat                  rank-normalised split R-hat over all of these chains: 1 where each has seen everything
    rhat_between_starts   sqrt(1 + B / W), B the variance of the two groups' means, W that within the groups: 1 where
                          the chains of a group together have forgotten where they began (nested R-hat)
    ess_per_gradient      1 / (tau g), tau the integrated autocorrelation time in steps and g the gradients of a step

tau sums the autocorrelation over all chains, about their common mean, up to half of those steps, or to where it is no
longer positive; what is left at the end is continued at the rate at which the whole window fell, since few steps do
not show the end of a slow decay. Of a chain that hardly moves it is a lower bound, and its R-hat says so.

`rhat` and `rhat_between_starts` are the largest, and the effective sample size the smallest, over coordinates (64
random directions where there are more), energy, and what the samples are in data space.

Samplers without chains give populations that are independent of each other. Their `rhat` is that between four of
them; their effective sample size is n times the variance of a sample over n / G times that of the means of G
populations.

Reference: Vehtari et al., Rank-normalization, folding, and localization: An improved R-hat, Bayesian Analysis 16,
2021; Margossian et al., Nested R-hat: assessing the convergence of Markov chain Monte Carlo when running many short
chains, Bayesian Analysis, 2024.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vaebm import sampling
from vaebm.sampling.autocorrelation import autocorrelation
from vaebm.sampling.diagnostics import MAX_DIRECTIONS, MIN_STEPS
from vaebm.sampling.kernel import ChainState
from vaebm.sampling.mala import MALA

POPULATIONS = 32
POPULATIONS_COMPARED = 4


@dataclass(frozen=True)
class Mixing:
    """What the module's definitions give; `slowest` is the quantity of the largest R-hat."""

    rhat: float
    rhat_between_starts: float | None
    ess_per_gradient: float
    slowest: str


class Watch:
    """What is looked at of a position: coordinates or directions, and the sample's own features.

    Args:
        dim: of a position.
        features: positions (chain, dim) to quantities (chain,) by name.
        generator: for the directions.
    """

    def __init__(self, dim: int, features: Callable[[Tensor], dict[str, Tensor]], generator: torch.Generator) -> None:
        self.features = features
        self.directions: Tensor | None = None
        if dim > MAX_DIRECTIONS:
            chosen = torch.randn(dim, MAX_DIRECTIONS, device=generator.device, generator=generator)
            self.directions = torch.nn.functional.normalize(chosen, dim=0)
        self.places = min(dim, MAX_DIRECTIONS)
        self.names: tuple[str, ...] = ()

    def __call__(self, position: Tensor) -> Tensor:
        """(chain, quantity): places first, then features in the order of `names`."""
        places = position if self.directions is None else position @ self.directions
        features = self.features(position)
        self.names = tuple(features)
        return torch.cat([places, *(values.to(places)[:, None] for values in features.values())], dim=1).cpu()


def between_starts(history: Tensor, energies: Tensor, watch: Watch, gradients_per_step: float) -> Mixing | None:
    """Reads chains of which the first half started from the model and the second from data.

    Args:
        history: (steps, chain, quantity), what `watch` gave after each step.
        energies: (steps, chain).
        watch: what the quantities are.
        gradients_per_step: spent by each chain.

    Returns:
        None where there are too few steps.
    """
    if len(history) < 2 * MIN_STEPS:
        return None
    kept = len(history) // 2
    history, energies = history[-kept:], energies[-kept:].cpu()
    rhat, slowest = _largest(_diagnose(history, energies, watch))
    every = torch.cat([history, energies[..., None]], dim=2).double()
    groups = every.unflatten(1, (2, -1))
    between = groups.mean(dim=(0, 2)).var(dim=0)
    within = groups.var(dim=(0, 2), correction=0).mean(dim=0)
    nested = torch.where(between > 0, (1 + between / within).sqrt(), 1.0)
    times = _times(every).nan_to_num(1.0)
    return Mixing(rhat, float(nested.max()), 1 / (float(times.max()) * gradients_per_step), slowest)


def _times(history: Tensor) -> Tensor:
    """tau of each quantity of (steps, chain, quantity), as the module defines it."""
    rho = autocorrelation(history)[: len(history) // 2 + 1]
    positive = (rho > 0).cumprod(dim=0)
    lags = positive.sum(dim=0) - 1
    last = rho.gather(0, lags.clamp(min=0)[None])[0].clamp(max=1 - 1 / (10 * history.shape[1]))
    rate = last ** (1 / lags.clamp(min=1))
    # Where the correlation has crossed 0 within the window, nothing is left.
    tail = torch.where(lags == len(rho) - 1, last * rate / (1 - rate), 0.0)
    times: Tensor = 1 + 2 * ((rho * positive)[1:].sum(dim=0) + tail)
    return times


def between_populations(quantities: Tensor, energies: Tensor, watch: Watch, gradients: float) -> Mixing:
    """Reads samples (n, quantity) whose neighbours are of one population, at `gradients` evaluations a sample."""
    n = len(quantities)
    size = n // POPULATIONS_COMPARED
    chosen = slice(size * POPULATIONS_COMPARED)
    history = quantities[chosen].unflatten(0, (POPULATIONS_COMPARED, size)).transpose(0, 1)
    energies = energies.cpu()
    diagnosis = _diagnose(history, energies[chosen].reshape(POPULATIONS_COMPARED, size).T, watch)
    every = torch.cat([quantities, energies[:, None]], dim=1).double()
    means = torch.stack([part.mean(dim=0) for part in every.tensor_split(POPULATIONS)])
    ess = POPULATIONS * every.var(dim=0) / means.var(dim=0)
    rhat, slowest = _largest(diagnosis)
    return Mixing(rhat, None, min(float(ess.nan_to_num(n).min()), n) / (n * gradients), slowest)


def _diagnose(history: Tensor, energies: Tensor, watch: Watch) -> sampling.Diagnosis:
    steps, count, _ = history.shape
    none = torch.zeros(count, dtype=torch.int64)
    chains = sampling.Chains(
        state=ChainState(history[-1], -energies[-1], history[-1]),
        kernel=MALA(),
        steps=steps,
        history=history[:, :, : watch.places],
        log_density_history=-energies,
        acceptance=none.double(),
        gradients=none,
        divergences=none,
        interrupted=False,
    )
    features = {name: history[:, :, watch.places + k] for k, name in enumerate(watch.names)}
    return sampling.diagnose(chains, features=features, generator=torch.Generator())


def _largest(diagnosis: sampling.Diagnosis) -> tuple[float, str]:
    rhat = diagnosis.rhat.nan_to_num(1.0)  # of a quantity that never changed, in any chain
    return float(rhat.max()), diagnosis.names[int(rhat.argmax())]

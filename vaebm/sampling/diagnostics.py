r"""Diagnostics: whether chains have mixed, and what their averages are worth.

Of each quantity, over the steps of all chains:

- rank-normalised split $\hat R$: spread between half chains over the spread within, 1 where they agree; above 1.01
  they do not;
- bulk and tail effective sample size (the tail's is the smaller of those of the 5 % and 95 % quantiles), and the Monte
  Carlo standard error of the mean: as published, by arviz-stats;
- the drift: how far the mean of the second half of the run lies from that of the first, in standard deviations;
- autocorrelation by lag, and the integrated autocorrelation time: $\tau$ steps are worth one independent sample,

    $$ \rho_k = \frac{E[(x_t - \bar x)(x_{t+k} - \bar x)]}{E[(x_t - \bar x)^2]}, \qquad
       \tau = 1 + 2 \sum_{k \ge 1} \rho_k $$

  Mean and expectations are over all chains, which are taken to sample the same distribution. The sum ends before the
  first pair $\rho_{2k} + \rho_{2k+1}$ that is not positive.

Quantities are the coordinates; in more than 64 dimensions 64 random unit directions instead, since chains that have
not mixed disagree in nearly every direction. The energy (minus log-density) is always among them, and so is any
feature that the caller has recorded, such as the class of a sample.

Reference: Vehtari, Gelman, Simpson, Carpenter and Buerkner, Rank-normalization, folding, and localization: An improved
R-hat, Bayesian Analysis 16, 2021; Geyer, Practical Markov chain Monte Carlo, Statistical Science 7, 1992 (initial
positive sequence).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vaebm.sampling.run import Chains

MAX_DIRECTIONS = 64
MIN_STEPS = 4


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What chains are worth, by quantity.

    Attributes:
        names: coordinate or direction k ("x[k]"), "energy", and the features.
        rhat: (quantity,).
        ess_bulk: (quantity,), independent samples that the mean is worth; nan, as are `ess_tail` and `mcse`, of a
            coordinate that no chain ever changed, and of all quantities where no chain moved.
        ess_tail: (quantity,).
        mcse: (quantity,), standard error of the mean, in the quantity's unit.
        drift: (quantity,), in standard deviations.
        autocorrelation: (steps, quantity), from lag 0.
        acceptance: mean over the chains.
        diverged: fraction of the chains.
        still: fraction of the chains that never moved.
        gradients: evaluations spent by all chains, warm-up included.
    """

    names: tuple[str, ...]
    rhat: Tensor
    ess_bulk: Tensor
    ess_tail: Tensor
    mcse: Tensor
    drift: Tensor
    autocorrelation: Tensor
    acceptance: float
    diverged: float
    still: float
    gradients: int

    @property
    def ess_per_gradient(self) -> float:
        """The smallest bulk effective sample size over all gradient evaluations; nan where `ess_bulk` has a nan."""
        return float(self.ess_bulk.min()) / self.gradients


def diagnose(chains: Chains, *, features: Mapping[str, Tensor] | None = None, generator: torch.Generator) -> Diagnosis:
    """Diagnoses a run.

    Args:
        chains: a run that kept its history, of at least 4 steps.
        features: more quantities, each (steps, chain).
        generator: for the random directions; the same seed gives the same ones.

    Raises:
        ValueError: there is no history, or too little, or a feature has another shape.
    """
    if chains.history is None or chains.log_density_history is None:
        raise ValueError("the run kept no history; run it with keep_history=True")
    steps = len(chains.history)
    if steps < MIN_STEPS:
        raise ValueError(f"the run kept {steps} steps; diagnostics need at least {MIN_STEPS}")
    places = _directions(chains.history, generator)
    columns = {f"x[{k}]": places[:, :, k] for k in range(places.shape[2])}
    columns["energy"] = -chains.log_density_history
    for name, feature in (features or {}).items():
        if feature.shape != chains.log_density_history.shape:
            wanted = tuple(chains.log_density_history.shape)
            raise ValueError(f"feature {name!r} is {tuple(feature.shape)}; it has to be (steps, chain) = {wanted}")
        columns[name] = feature
    history = torch.stack([column.double().cpu() for column in columns.values()], dim=2)
    half = steps // 2
    drift = (history[half:].mean(dim=(0, 1)) - history[:half].mean(dim=(0, 1))) / history.std(dim=(0, 1))
    found = _by_arviz(history)
    still = (history == history[:1]).all(dim=0)
    worthless = still.all(dim=0)
    worthless[places.shape[2] :] &= worthless[: places.shape[2]].all()  # a feature may be constant where chains move
    for name in ("ess_bulk", "ess_tail", "mcse"):
        found[name][worthless] = torch.nan  # arviz takes what never changes for independent draws
    return Diagnosis(
        names=tuple(columns),
        **found,
        drift=drift,
        autocorrelation=autocorrelation(history),
        acceptance=float(chains.acceptance.mean()),
        diverged=float(chains.diverged.double().mean()),
        still=float(still[:, : places.shape[2]].all(dim=1).double().mean()),
        gradients=int(chains.gradients.sum()),
    )


def _directions(history: Tensor, generator: torch.Generator) -> Tensor:
    dim = history.shape[2]
    if dim <= MAX_DIRECTIONS:
        return history
    directions = torch.randn(dim, MAX_DIRECTIONS, device=generator.device, generator=generator)
    directions = directions.to(device=history.device, dtype=history.dtype)
    return history @ torch.nn.functional.normalize(directions, dim=0)


def _by_arviz(history: Tensor) -> dict[str, Tensor]:
    from arviz_stats.base.array import array_stats

    draws = history.numpy()

    def apply(function: Callable[..., np.ndarray], method: str, **options: object) -> Tensor:
        values = function(draws, chain_axis=1, draw_axis=0, method=method, **options)
        return torch.as_tensor(np.asarray(values), dtype=torch.float64)

    return {
        "rhat": apply(array_stats.rhat, "rank"),
        "ess_bulk": apply(array_stats.ess, "bulk"),
        "ess_tail": apply(array_stats.ess, "tail", prob=(0.05, 0.95)),
        "mcse": apply(array_stats.mcse, "mean"),
    }


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

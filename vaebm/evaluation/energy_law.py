"""Energy law: what the energy adds to the base, log Z and the mean energy under h, without trusting any chain.

    h(x, z) = base(x, z) exp(-E(x, z)) / Z,      Z = E_base[exp(-E)],      E_h[E] = E_base[E exp(-E)] / Z

*Weights*: both by importance sampling from exact draws of the base, as long as enough of them count. log of a mean of
weights is too small on average, so a gain that is computed with it may be optimistic: by about stderr^2 / 2.

*Annealing*: where too few count, a population goes from the base to h while the energy is scaled from 0 to 1
(sequential Monte Carlo, sampling/normaliser.py); forwards it gives log Z, too small on average, and back from its own
ends the other side of a bracket. The ends lag behind h where the way was too fast: the mean energy is of chains that
go on from them, four times as long as the recipe's. Where the population misses a part of h, neither side shows it.

E is the energy of the terms beyond the base, and the base is normalised.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vaebm.models import NoiseSpaceModel
from vaebm.models.cost import lengthened
from vaebm.models.noise_space import CarriedCodes
from vaebm.progress import Progress
from vaebm.sampling.hmc import HMC
from vaebm.sampling.normaliser import log_normaliser
from vaebm.sampling.resampling import effective_sample_size

DRAWS, MIN_ESS = 20_000, 200.0
PARTICLES, MOVES = 256, 2


@dataclass(frozen=True)
class EnergyLaw:
    """In nats.

    Args:
        log_z: the estimate, with `stderr`.
        lower: of a bracket of log Z; by weights the estimate less two standard errors.
        upper: the other end.
        mean_energy: under h, with `mean_stderr`.
        method: how they were found.
        ess: draws of the base that count, or particles.
    """

    log_z: float
    stderr: float
    lower: float
    upper: float
    mean_energy: float
    mean_stderr: float
    method: Literal["weights", "annealing"]
    ess: float


def energy_law(model: NoiseSpaceModel, seed: int, progress: Progress, annealing: bool = True) -> EnergyLaw | None:
    """Of a model whose energy has terms beyond the base; None where only `annealing` could tell and it may not."""
    generator = torch.Generator(model.device).manual_seed(seed)
    with progress.task("draws of the base", DRAWS, "draws") as task:
        parts = []
        for rows in torch.arange(DRAWS).split(sampling_batch(model)):
            parts.append(-model.log_weights(model.sample_base(len(rows), generator)).double().cpu())
            task.advance(len(rows))
    energies = torch.cat(parts)
    if float(effective_sample_size(-energies)) >= MIN_ESS:
        return by_weights(energies)
    return _by_annealing(model, generator, progress) if annealing else None


def sampling_batch(model: NoiseSpaceModel) -> int:
    """Draws of the base at once: a mixture's are stratified within one call, so that calls are few."""
    return min(DRAWS, 2_048 if model.noise.dim > 256 else DRAWS)


def by_weights(energies: Tensor) -> EnergyLaw:
    """Of energies (n,) float64 of exact draws of the base."""
    n, least = len(energies), energies.min()
    weights = (least - energies).exp()
    mean = weights.mean()
    log_z, stderr = float(mean.log() - least), float(weights.std() / mean / n**0.5)
    share = weights / weights.sum()
    mean_energy = float((share * energies).sum())
    mean_stderr = float((share.square() * (energies - mean_energy).square()).sum().sqrt())
    ess = float(1 / share.square().sum())
    return EnergyLaw(log_z, stderr, log_z - 2 * stderr, log_z + 2 * stderr, mean_energy, mean_stderr, "weights", ess)


class _Base:
    """The base as a reference of annealing, in coordinates where its density is cheap."""

    def __init__(self, model: NoiseSpaceModel, generator: torch.Generator) -> None:
        self._model, self._generator, base = model, generator, model.energy_net.base
        self._carried = CarriedCodes(model, base, 1.0) if base is not None and base.carries else None
        self.target = model.noise_log_density if self._carried is None else self._carried.target

    def log_prob(self, position: Tensor, /) -> Tensor:
        if self._carried is not None:
            return self._carried.reference(position)
        return self._model.base_log_density(position)

    def sample(self, shape: tuple[int], /) -> Tensor:
        if self._carried is not None:
            return self._carried.sample_reference(shape[0], self._generator)
        return self._model.sample_base(shape[0], self._generator)

    def noise(self, position: Tensor) -> Tensor:
        """(n, dim), positions in the model's noise space."""
        return position if self._carried is None else self._carried.position(position)


def _by_annealing(model: NoiseSpaceModel, generator: torch.Generator, progress: Progress) -> EnergyLaw:
    base = _Base(model, generator)
    with model.frozen(), progress.task("annealing from the base to h", 1_000, "thousandths") as task:
        told = 0

        def advance(done: int, _: int) -> None:
            nonlocal told
            task.advance(done - told)
            told = done

        found = log_normaliser(
            base.target,
            base,
            particles=PARTICLES,
            moves=MOVES,
            kernel=HMC(step_size=0.2, num_leapfrog_steps=5, jitter=0.5),
            generator=generator,
            progress=advance,
        )
    # The ends lag behind h where the way was short: chains of the recipe's kernel go on from them.
    chains = model.chains_in_batches(base.noise(found.position), generator, lengthened(model.settings.sampler))
    energies = -model.log_weights(torch.cat([run.position for run in chains])).double()
    stderr = float(energies.std() / len(energies) ** 0.5)
    mean = float(energies.mean())
    return EnergyLaw(found.value, found.stderr, found.lower, found.upper, mean, stderr, "annealing", found.ess)

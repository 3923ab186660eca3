r"""Populations: samplers without chains, from the model without E_x to the model.

    importance    as many proposals a sample as there are gradients, and of them samples in proportion to their weights,
                  by `POPULATIONS` separate resamplings; an energy counts as a gradient
    smc           particles that go from the model without E_x to the model, moved by MALA and resampled on the way, and
                  back again for the upper bound; as many moves as the budget has room for

Both estimate log Z. Their `acceptance` is the effective share of their weighted population.
"""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from vaebm import sampling
from vaebm.experiment.contender import MARKS, Course, LogZ, Terms
from vaebm.experiment.mixing import POPULATIONS, between_populations
from vaebm.experiment.spending import Advance
from vaebm.models import CHAINS_AT_ONCE, NoiseSpaceModel
from vaebm.sampling.mala import MALA
from vaebm.sampling.resampling import effective_sample_size, systematic_resample

TRIAL = 200  # particles that find out how many stages there will be
BESIDE_STAGES = 12  # gradients for the first step size and for parting copies
SMC_MARKS = (0.4, 0.85)  # of the gradients; what is left has room for one stage more than before
MIN_EFFECTIVE = 100


class Reference:
    """The model without E_x, in noise: normalised where E_z is the mixture or there is none."""

    def __init__(self, model: NoiseSpaceModel, generator: torch.Generator) -> None:
        self.model, self.generator = model, generator

    def log_prob(self, eps: Tensor) -> Tensor:
        """(n, dim) to (n,), in nats."""
        return self.model.base_log_density(eps)

    def sample(self, shape: tuple[int]) -> Tensor:
        """(n,) to (n, dim)."""
        return self.model.sample_base(shape[0], self.generator)


class ImportanceContender:
    """Resamples proposals; round b draws one for every sample, from its own seed, so that none need be kept."""

    def work(self, terms: Terms) -> int:
        return terms.gradients * len(terms.start)

    @torch.no_grad()
    def run(self, terms: Terms, advance: Advance) -> Course:
        began = time.perf_counter()
        n, rounds = len(terms.start), terms.gradients
        log_weights = torch.stack([self._weigh(terms, b, advance) for b in range(rounds)])
        marks = sorted({max(1, round(share * rounds)) for share in MARKS} | {rounds})
        generator = terms.generator("importance", rounds)
        taken = torch.stack(
            [self._choose(log_weights[:mark], generator) for mark in marks]
        )  # (mark, n) of flat weights
        chosen = torch.empty(len(marks), n, terms.start.shape[1], device=terms.start.device)
        for b in range(rounds):
            here = taken // n == b
            if bool(here.any()):
                chosen[here] = self._propose(terms, b)[taken[here] % n]
        seconds = time.perf_counter() - began
        flat = log_weights.double().flatten()
        ess = float(effective_sample_size(flat))
        log_z = LogZ(float(flat.logsumexp(0)) - math.log(len(flat)), math.sqrt(max(0.0, 1 / ess - 1 / len(flat))))
        mixing = between_populations(terms.watch(chosen[-1]), _energies(terms, chosen[-1]), terms.watch, rounds)
        settings = {"proposals": rounds, "populations": POPULATIONS, "effective_proposals": ess}
        words = [f"init.importance_samples={rounds}"]
        return Course(list(zip(marks, chosen, strict=True)), ess / len(flat), mixing, seconds, settings, words, log_z)

    def _propose(self, terms: Terms, b: int) -> Tensor:
        return terms.model.sample_base(len(terms.start), terms.generator("importance", b))

    def _weigh(self, terms: Terms, b: int, advance: Advance) -> Tensor:
        reference = Reference(terms.model, terms.generator("importance", b))
        parts = self._propose(terms, b).split(CHAINS_AT_ONCE)
        log_weights = torch.cat([terms.target(part) - reference.log_prob(part) for part in parts])
        advance(len(log_weights))
        return log_weights

    def _choose(self, log_weights: Tensor, generator: torch.Generator) -> Tensor:
        """Indices (n,) into the flattened weights (round, n), population by population."""
        n = log_weights.shape[1]
        taken = []
        for columns in torch.arange(n, device=log_weights.device).tensor_split(min(POPULATIONS, n)):
            picked = systematic_resample(log_weights[:, columns].flatten(), len(columns), generator)
            taken.append(picked // len(columns) * n + columns[picked % len(columns)])
        return torch.cat(taken)


class SMCContender:
    """Sequential Monte Carlo with MALA moves, of which there are as many as the budget has room for."""

    def work(self, terms: Terms) -> int:
        return terms.gradients * len(terms.start)

    def run(self, terms: Terms, advance: Advance) -> Course | None:
        n, kernel = len(terms.start), MALA(step_size=0.1)
        generator = terms.generator("smc")
        last, moves = self._anneal(terms, kernel, 1, TRIAL, generator), 1
        spent = trial = last.gradients * TRIAL / n
        stages = last.gradients / _turns(TRIAL, 1)
        samples: list[tuple[int, Tensor]] = []
        seconds = 0.0
        for mark in SMC_MARKS:
            room = int((mark * terms.gradients - trial - BESIDE_STAGES) / (max(stages, 1.0) * _turns(n, 0))) - 1
            if room < 1:
                continue
            began, moves = time.perf_counter(), room
            last = self._anneal(terms, kernel, moves, n, generator)
            seconds = time.perf_counter() - began
            stages = (last.gradients - BESIDE_STAGES) / _turns(n, moves)
            spent = trial + last.gradients
            samples.append((math.ceil(spent), last.position[:n]))
            advance(round(mark * n * terms.gradients / sum(SMC_MARKS)))
        if not samples:
            return None
        end = samples[-1][1]
        with torch.no_grad():
            mixing = between_populations(terms.watch(end), _energies(terms, end), terms.watch, samples[-1][0])
        # Neighbours descend from each other: whoever takes the first few is to see all families.
        order = torch.randperm(n, device=end.device, generator=generator)
        samples = [(gradients, position[order]) for gradients, position in samples]
        settings = {"particles": n, "moves": moves, "kernel": "mala", "stages": math.ceil(stages)}
        log_z = LogZ(last.value, last.stderr, last.lower, last.upper)
        return Course(samples, last.ess / n, mixing, seconds, settings, [], log_z)

    def _anneal(
        self, terms: Terms, kernel: MALA, moves: int, particles: int, generator: torch.Generator
    ) -> sampling.LogNormaliser:
        reference = Reference(terms.model, terms.generator("smc", particles))
        return sampling.log_normaliser(
            terms.target, reference, "smc", particles=particles, kernel=kernel, moves=moves, generator=generator
        )


def _turns(particles: int, moves: int) -> float:
    """Gradients a stage and particle: there, back, and its share in the planning by a quarter of them."""
    return (moves + 1) * (2 + max(0.25, 100 / particles))


def mean_energy(model: NoiseSpaceModel, proposals: int, generator: torch.Generator) -> tuple[float, float] | None:
    """Mean of E_x over the model, and its standard error, by weighted proposals of the model without E_x.

    None where there is no E_x, or too few of the proposals count.
    """
    if not model.corrects:
        return None
    reference = Reference(model, generator)
    energies, log_weights = [], []
    with torch.no_grad():
        for _ in range(math.ceil(proposals / CHAINS_AT_ONCE)):
            eps = model.sample_base(CHAINS_AT_ONCE, generator)
            energies.append(model_energies(model, eps))
            log_weights.append(model.noise_log_density(eps) - reference.log_prob(eps))
    energy, weights = torch.cat(energies), torch.cat(log_weights).double()
    if float(effective_sample_size(weights)) < MIN_EFFECTIVE:
        return None
    weights = weights.softmax(dim=0)
    mean = (weights * energy).sum()
    return float(mean), float((weights * (energy - mean)).square().sum().sqrt())


@torch.no_grad()
def model_energies(model: NoiseSpaceModel, eps: Tensor) -> Tensor:
    """E_x of positions (n, dim), (n,) float64."""
    return torch.cat([model.energy_over_base(*model.generate(part)).double() for part in eps.split(CHAINS_AT_ONCE)])


def _energies(terms: Terms, position: Tensor) -> Tensor:
    return torch.cat([-terms.target(part) for part in position.split(CHAINS_AT_ONCE)])

"""Particles: importance sampling and SMC, samplers without chains that go from the base to the model.

    importance    as many draws of the base a sample as there are gradients, and of them samples in proportion to their
                  weights, by `POPULATIONS` separate resamplings; an energy counts as a gradient
    smc           particles that go from the base to the model, moved by MALA and resampled on the way, and back again
                  for the upper bound; as many moves as the budget has room for

Both estimate log Z. Their `acceptance` is the effective fraction of their weighted population.
"""

import math
import time

import torch
from torch import Tensor

from vaebm import sampling
from vaebm.comparison.candidate import Advance, Candidate, LogZ, SamplerRun, Setup
from vaebm.comparison.kernel_candidate import MARKS
from vaebm.comparison.mixing import POPULATIONS, Mixing, between_populations
from vaebm.models import CHAINS_AT_ONCE, NoiseSpaceModel
from vaebm.sampling.langevin import MALA
from vaebm.sampling.resampling import effective_sample_size, systematic_resample

TRIAL = 200  # particles that find out how many stages there will be
BESIDE_STAGES = 12  # gradients for the first step size and for parting copies
SMC_MARKS = (0.4, 0.85)  # of the gradients; what is left has room for one stage more than before


class ImportanceCandidate(Candidate):
    """Importance resampling; round b draws one proposal for every sample, from its own seed, so that none is kept."""

    name, label = "importance", "importance resampling"

    @torch.no_grad()
    def run(self, setup: Setup, advance: Advance) -> SamplerRun:
        began = time.perf_counter()
        n, rounds = len(setup.start), setup.gradients
        weighed = []
        for b in range(rounds):
            weighed.append(setup.model.log_weights(self._base_draws(setup, b)))
            advance(n)
        log_weights = torch.stack(weighed)
        marks = sorted({max(1, round(fraction * rounds)) for fraction in MARKS} | {rounds})
        generator = setup.generator(self.name, rounds)
        taken = torch.stack([_choose(log_weights[:mark], generator) for mark in marks])  # (mark, n) of flat weights
        chosen = torch.empty(len(marks), n, setup.start.shape[1], device=setup.start.device)
        for b in range(rounds):
            here = taken // n == b
            if bool(here.any()):
                chosen[here] = self._base_draws(setup, b)[taken[here] % n]
        seconds = time.perf_counter() - began
        flat = log_weights.double().flatten()
        ess = float(effective_sample_size(flat))
        log_z = LogZ(float(flat.logsumexp(0)) - math.log(len(flat)), math.sqrt(max(0.0, 1 / ess - 1 / len(flat))))
        return SamplerRun(
            list(zip(marks, chosen, strict=True)),
            ess / len(flat),
            _mixing(setup, chosen[-1], rounds),
            seconds,
            settings={"proposals": rounds, "populations": POPULATIONS, "effective_proposals": ess},
            overrides=[f"init.importance_samples={rounds}"],
            log_z=log_z,
        )

    def _base_draws(self, setup: Setup, b: int) -> Tensor:
        return setup.model.sample_base(len(setup.start), setup.generator(self.name, b))


def _choose(log_weights: Tensor, generator: torch.Generator) -> Tensor:
    """Indices (n,) into the flattened weights (round, n), population by population."""
    n = log_weights.shape[1]
    taken = []
    for columns in torch.arange(n, device=log_weights.device).tensor_split(min(POPULATIONS, n)):
        picked = systematic_resample(log_weights[:, columns].flatten(), len(columns), generator)
        taken.append(picked // len(columns) * n + columns[picked % len(columns)])
    return torch.cat(taken)


class Base:
    """The base in noise space, as a distribution: normalised where its energy is."""

    def __init__(self, model: NoiseSpaceModel, generator: torch.Generator) -> None:
        self.model, self.generator = model, generator

    def log_prob(self, eps: Tensor) -> Tensor:
        return self.model.base_log_density(eps)

    def sample(self, shape: tuple[int]) -> Tensor:
        return self.model.sample_base(shape[0], self.generator)


class SMCCandidate(Candidate):
    """Sequential Monte Carlo with MALA moves, of which there are as many as the budget has room for."""

    name, label = "smc", "SMC"

    def run(self, setup: Setup, advance: Advance) -> SamplerRun | None:
        n, generator = len(setup.start), setup.generator(self.name)
        last, moves = _anneal(setup, 1, TRIAL, generator), 1
        trial = last.gradients * TRIAL / n
        stages = last.gradients / _turns(TRIAL, 1)
        samples: list[tuple[int, Tensor]] = []
        seconds = 0.0
        for mark in SMC_MARKS:
            room = int((mark * setup.gradients - trial - BESIDE_STAGES) / (max(stages, 1.0) * _turns(n, 0))) - 1
            if room < 1:
                continue
            began, moves = time.perf_counter(), room
            last = _anneal(setup, moves, n, generator)
            seconds = time.perf_counter() - began
            stages = (last.gradients - BESIDE_STAGES) / _turns(n, moves)
            samples.append((math.ceil(trial + last.gradients), last.position[:n]))
            advance(round(mark * n * setup.gradients / sum(SMC_MARKS)))
        if not samples:
            return None
        mixing = _mixing(setup, samples[-1][1], samples[-1][0])
        # Neighbours descend from each other: whoever takes the first few is to see all families.
        order = torch.randperm(n, device=setup.start.device, generator=generator)
        return SamplerRun(
            [(gradients, position[order]) for gradients, position in samples],
            last.ess / n,
            mixing,
            seconds,
            settings={"particles": n, "moves": moves, "kernel": "mala", "stages": math.ceil(stages)},
            log_z=LogZ(last.value, last.stderr, last.lower, last.upper),
        )


def _anneal(setup: Setup, moves: int, particles: int, generator: torch.Generator) -> sampling.LogNormaliser:
    base, kernel = Base(setup.model, setup.generator("smc", particles)), MALA(step_size=0.1)
    return sampling.log_normaliser(
        setup.target, base, "smc", particles=particles, kernel=kernel, moves=moves, generator=generator
    )


def _turns(particles: int, moves: int) -> float:
    """Gradients a stage and particle: there, back, and its part in the planning by a quarter of them."""
    return (moves + 1) * (2 + max(0.25, 100 / particles))


@torch.no_grad()
def _mixing(setup: Setup, position: Tensor, gradients: int) -> Mixing:
    energies = torch.cat([-setup.target(part) for part in position.split(CHAINS_AT_ONCE)])
    return between_populations(setup.functions(position), energies, setup.functions, gradients)

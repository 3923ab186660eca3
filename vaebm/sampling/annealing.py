r"""Annealing: particles that move along a path from a reference to a target.

On the path $\log p_\beta = (1 - \beta) \log q + \beta \log p$ from the normalised reference $q$ (of a VAEBM the VAE:
only the energy is scaled from 0 to 1) they move through $0 = \beta_0 < \ldots < \beta_K = 1$ by a kernel that leaves
each $p_\beta$ invariant, and collect

    $$ \log w = \sum_{k=1}^{K} (\beta_k - \beta_{k-1})\, \phi(x_{k-1}), \qquad \phi = \log p - \log q $$

- *AIS* leaves each particle its weight: $Z = E[w]$.
- *SMC* resamples after each stage, so that the particles of a group stay equally weighted, and Z is the product of the
  stages' mean weights. Groups are independent of each other.

Both are unbiased in Z, and the same path back from samples of p is so in 1 / Z.

The stages are learned by a pilot population and then fixed: each next $\beta$ keeps the effective size of a reweighted
population at a target; step size (by its acceptance) and mass (by the population's variances) are learned on the way.

Reference: Neal, Annealed importance sampling, Statistics and Computing 11, 2001; Del Moral, Doucet and Jasra,
Sequential Monte Carlo samplers, JRSS B 68, 2006; Zhou, Johansen and Aston, Toward automatic model comparison, JCGS
25, 2016 (adaptive stages).
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from vaebm.sampling.adaptation.warmup import Tunable, search_step_size
from vaebm.sampling.kernel import ChainState, LogDensity, evaluate, log_densities
from vaebm.sampling.resampling import Reference, effective_sample_size, reference_log_prob, systematic_resample

EFFECTIVE_FRACTION = 0.7
MAX_STAGES = 1000


class AnnealingStage(NamedTuple):
    """A place on the path, and the kernel's numbers there."""

    beta: float
    kernel: Tunable


class Arrival(NamedTuple):
    """What a population is at the end of the path: positions, log weights (group, particle), gradients spent."""

    position: Tensor
    log_weights: Tensor
    gradients: int


class Path:
    """The densities between reference and target."""

    def __init__(self, target: LogDensity, reference: Reference) -> None:
        self.target, self.reference = target, reference

    def at(self, beta: float) -> LogDensity:
        """log p_beta, up to its constant."""
        return lambda x: (1 - beta) * self.reference.log_prob(x) + beta * self.target(x)

    def ratio(self, position: Tensor) -> Tensor:
        """phi, (n,).

        Raises:
            ValueError: it is nan or infinite (-inf, outside the target's support, is allowed), or target or reference
                give another shape.
        """
        phi = log_densities(self.target, position) - reference_log_prob(self.reference, position)
        bad = int((phi.isnan() | phi.isposinf()).sum())
        if bad:
            raise ValueError(
                f"log p - log q is nan or infinite for {bad} of {len(phi)} particles; check target and reference"
            )
        return phi

    def move(
        self, position: Tensor, stage: AnnealingStage, moves: int, generator: torch.Generator
    ) -> tuple[Tensor, float, int]:
        """Moves at a stage: positions, mean acceptance, and gradient evaluations spent by each particle."""
        target = self.at(stage.beta)
        state = ChainState(position, *evaluate(target, position))
        acceptance, gradients = 0.0, 1
        for _ in range(moves):
            state, info = stage.kernel.step(state, target, generator)
            acceptance += float(info.acceptance.mean()) / moves
            gradients += info.gradients
        return state.position, acceptance, gradients


def learn_stages(
    path: Path,
    position: Tensor,
    kernel: Tunable,
    moves: int,
    generator: torch.Generator,
    progress: Callable[[float], None] = lambda _: None,
) -> tuple[list[AnnealingStage], int]:
    """Stages, and the gradient evaluations spent on them, by a pilot population (n, dim) of the reference.

    Raises:
        ValueError: the reference is too far from the target, or does not meet its support.
    """
    stages: list[AnnealingStage] = []
    beta, log_step, spent = 0.0, math.log(float(kernel.step_size)), 0
    wanted = kernel.desired_acceptance(position.shape[1])
    phi = path.ratio(position)
    while beta < 1:
        if len(stages) == MAX_STAGES:
            raise ValueError(
                f"the reference is too far from the target: after {MAX_STAGES} stages the path is at beta = {beta:.2g} "
                "of 1; choose a reference that is closer or wider, or check the target's scale"
            )
        last, beta = beta, next_beta(beta, phi)
        position = position[systematic_resample((beta - last) * phi, len(position), generator)]
        inverse_mass = position.var(dim=0).clamp(min=torch.finfo(position.dtype).tiny)
        kernel = replace(kernel, step_size=math.exp(log_step), inverse_mass=inverse_mass)
        if not stages:
            kernel, cost = _search(path.at(beta), position, kernel, generator)
            log_step, spent = math.log(float(kernel.step_size)), spent + cost
        position, acceptance, cost = path.move(position, AnnealingStage(beta, kernel), moves, generator)
        log_step += acceptance - wanted
        spent += cost
        stages.append(AnnealingStage(beta, replace(kernel, step_size=math.exp(log_step))))
        phi = path.ratio(position)
        progress(beta)
    return stages, spent


def next_beta(beta: float, phi: Tensor) -> float:
    """The furthest inverse temperature, at most 1, at which reweighting phi (n,) keeps the effective fraction.

    It is above `beta`, by one unit in the last place at least.

    Raises:
        ValueError: no particle lies in the target's support.
    """
    phi = phi[phi.isfinite()].double()
    if not len(phi):
        raise ValueError("no particle lies in the target's support: choose a reference that covers the target")

    def fraction(step: float) -> float:
        return float(effective_sample_size(step * phi)) / len(phi)

    high = 1 - beta
    if fraction(high) >= EFFECTIVE_FRACTION:
        return 1.0
    low = high / 2
    while low > 0 and fraction(low) < EFFECTIVE_FRACTION:
        low, high = low / 2, low
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if fraction(middle) >= EFFECTIVE_FRACTION else (low, middle)
    return max(beta + low, math.nextafter(beta, 1.0))


def subdivide(stages: list[AnnealingStage], parts: int) -> list[AnnealingStage]:
    """Each stage in equal parts of beta, with the kernel of its end."""
    fine, last = [], 0.0
    for stage in stages:
        fine += [AnnealingStage(last + (stage.beta - last) * k / parts, stage.kernel) for k in range(1, parts)]
        fine.append(stage)
        last = stage.beta
    return fine


def travel(
    path: Path,
    position: Tensor,
    stages: list[AnnealingStage],
    beta: float,
    moves: int,
    generator: torch.Generator,
    *,
    resample: bool,
    progress: Callable[[float], None] = lambda _: None,
) -> Arrival:
    """Takes a population (group, particle, dim) from inverse temperature `beta` through the stages.

    Resampling leaves the particles of a group equally weighted, at the group's estimate.
    """
    groups, size, dim = position.shape
    position, gradients = position.flatten(0, 1), 0
    log_weights = position.new_zeros(groups, size)
    for stage in stages:
        gained = (stage.beta - beta) * path.ratio(position).reshape(groups, size)
        beta = stage.beta
        if resample:
            # A group that has wholly left the support counts 0 from here on, wherever its particles are.
            dead = gained.isneginf().all(dim=1, keepdim=True)
            taken = systematic_resample(torch.where(dead, 0, gained), size, generator)
            position = position.reshape(groups, size, dim).gather(1, taken[..., None].expand(-1, -1, dim)).flatten(0, 1)
            gained = (gained.logsumexp(dim=1, keepdim=True) - math.log(size)).expand(-1, size)
        log_weights = log_weights + gained
        if beta > 0:  # the reference needs no moves: the path ends there
            position, _, cost = path.move(position, stage, moves, generator)
            gradients += cost
        progress(beta)
    return Arrival(position.reshape(groups, size, dim), log_weights, gradients)


def _search(target: LogDensity, position: Tensor, kernel: Tunable, generator: torch.Generator) -> tuple[Tunable, int]:
    state = ChainState(position, *evaluate(target, position))

    def attempt(step_size: Tensor) -> tuple[Tensor, int]:
        _, info = replace(kernel, step_size=step_size).step(state, target, generator)
        return info.acceptance.mean(), info.gradients

    begin = state.log_density.new_tensor(float(kernel.step_size))
    step_size, gradients = search_step_size(attempt, begin, kernel.desired_acceptance(position.shape[1]))
    return replace(kernel, step_size=float(step_size)), gradients + 1

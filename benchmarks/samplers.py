"""Samplers against those of ebmkit 0.16 and Pyro 1.9, on the same targets, in turn. The table in docs/benchmarks.md.

    python -m pip install -c constraints.txt -r benchmarks/requirements.txt
    OMP_NUM_THREADS=1 python benchmarks/samplers.py --repeats 3
    OMP_NUM_THREADS=1 python benchmarks/samplers.py --only banana funnel --repeats 1

Effective sample size (ESS) is the smallest bulk ESS (arviz-stats) over the coordinates and their squares. Gradients are
counted by the target itself, one for each chain at each evaluation. Seconds are of one CPU thread, as the system accounts
them, so that other work on the machine does not count. Chains start from exact draws of the target where it has any;
warm-ups come before the draws that are counted, and their cost is recorded apart.

ESS per gradient comes from 32 chains with history (Pyro: 8, one after another), ESS per second from the speed of 1,000
chains with the numbers so learned.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import ebm
import numpy as np
import pyro
import torch
from arviz_stats.base.array import array_stats
from pyro.infer import HMC as PyroHMC
from pyro.infer import MCMC, NUTS
from results import hardware, version
from scipy.stats import t as student
from torch import Tensor

from vaebm.distributions.analytic import Banana, DoubleWell, Funnel, GaussianGrid, IllConditioned
from vaebm.sampling import sample_chains
from vaebm.sampling.hmc import HMC
from vaebm.sampling.kernel import Kernel
from vaebm.sampling.mala import MALA
from vaebm.sampling.mclmc import MCLMC, AdjustedMCLMC
from vaebm.sampling.tempering import Tempering
from vaebm.sampling.underdamped import Underdamped

ROOT = Path(__file__).parent.parent
CHAINS = 32  # whose history is kept
ALONE = 8  # chains of a sampler that runs them one after another
MANY = 1000  # chains that are timed
KEPT = 1000  # draws of a chain that the ESS looks at; longer runs are thinned to so many


@dataclass(frozen=True)
class Problem:
    """A target, and what is measured on it.

    Attributes:
        log_prob: (chain, dim) -> (chain,).
        draw: (n, generator) -> (n, dim), where chains start.
        means: (quantity,), true means of the quantities; None where unknown.
        quantities: (draw, chain, dim) -> (draw, chain, quantity), averages of which are wanted.
        ladder: inverse temperatures for tempering; empty where it is not called for.
        length: factor on the number of draws.
    """

    dim: int
    log_prob: Callable[[Tensor], Tensor]
    draw: Callable[[int, torch.Generator], Tensor]
    means: Tensor | None
    quantities: Callable[[Tensor], Tensor]
    ladder: tuple[float, ...] = ()
    length: float = 1.0


def and_squares(x: Tensor) -> Tensor:
    return torch.cat([x, x.square()], dim=2)


def analytic(target: Any, kept: int | None = None, **options: Any) -> Problem:
    means = torch.cat([target.mean[:kept], target.mean[:kept].square() + target.variance[:kept]])
    return Problem(target.dim, target.log_prob, target.sample, means, lambda x: and_squares(x[:, :, :kept]), **options)


def within_modes(target: GaussianGrid) -> Problem:
    def quantities(x: Tensor) -> Tensor:
        nearest = target.modes[torch.cdist(x, target.modes).argmin(dim=2)]
        return and_squares((x - nearest) / target.scale)

    return Problem(2, target.log_prob, target.sample, torch.tensor([0.0, 0.0, 1.0, 1.0]), quantities)


def digits() -> Problem:
    """exp(-E(x)) N(x; 0, I) in 16 whitened principal components of the digits, E an MLP fitted by their density ratio."""
    from sklearn.datasets import load_digits

    generator = torch.Generator().manual_seed(0)
    data = torch.tensor(load_digits().data, dtype=torch.float32)
    data = data - data.mean(dim=0)
    codes = torch.linalg.svd(data, full_matrices=False).U[:, :16] * math.sqrt(len(data))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [torch.nn.Linear(16, 128), torch.nn.SiLU(), torch.nn.Linear(128, 128), torch.nn.SiLU()]
        net = torch.nn.Sequential(*layers, torch.nn.Linear(128, 1))
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3)
    for _ in range(500):
        batch = codes[torch.randint(len(codes), (256,), generator=generator)]
        noise = torch.randn(256, 16, generator=generator)
        loss = torch.nn.functional.softplus(net(batch)).mean() + torch.nn.functional.softplus(-net(noise)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.requires_grad_(False)

    def log_prob(x: Tensor) -> Tensor:
        return -net(x)[:, 0] - x.square().sum(dim=1) / 2

    def draw(n: int, generator: torch.Generator) -> Tensor:
        return codes[torch.randint(len(codes), (n,), generator=generator)]

    return Problem(16, log_prob, draw, None, and_squares)


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "Gaussian, 100-D, condition 1,000": lambda: analytic(IllConditioned()),
    "banana, 2-D": lambda: analytic(Banana(), length=2),
    "funnel, 10-D, its first coordinate": lambda: analytic(Funnel(10), kept=1, length=4),
    "double well, 2-D": lambda: analytic(DoubleWell(2), ladder=(1.0, 0.45, 0.2), length=4),
    "25 Gaussians, across modes": lambda: analytic(
        GaussianGrid(), ladder=tuple(0.005 ** (k / 4) for k in range(5)), length=4
    ),
    "25 Gaussians, within modes": lambda: within_modes(GaussianGrid()),
    "energy of digits, 16-D": digits,
}


class Counted:
    """A target that counts: gradient evaluations of one chain each, and calls."""

    def __init__(self, log_prob: Callable[[Tensor], Tensor]) -> None:
        self.log_prob, self.gradients = log_prob, 0

    def __call__(self, x: Tensor) -> Tensor:
        self.gradients += len(x) * x.requires_grad
        return self.log_prob(x)


@dataclass
class Meter:
    """CPU seconds and gradients since it was last set."""

    target: Counted
    seconds: float = field(init=False)
    gradients: int = field(init=False)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.seconds, self.gradients = time.process_time(), self.target.gradients

    def read(self) -> tuple[float, int]:
        return time.process_time() - self.seconds, self.target.gradients - self.gradients


@dataclass(frozen=True)
class Result:
    """A run.

    Attributes:
        history: (draw, chain, dim).
        gradients: evaluations of one chain for one draw.
        seconds: CPU time for one draw of one chain, at 1,000 chains.
        warmup_gradients: of one chain.
        settings: what was learned or chosen.
    """

    history: Tensor
    gradients: float
    seconds: float
    warmup_gradients: float
    settings: str


Sampler = Callable[[Problem, int], Result]


def ours(make: Callable[[Problem], Kernel], warmup: int, draws: int, problem: Problem, seed: int) -> Result:
    generator, target = torch.Generator().manual_seed(seed), Counted(problem.log_prob)
    meter, warm, draws = Meter(target), [0], round(draws * problem.length)

    def mark(done: int, _: int) -> None:
        if done == warmup:
            warm[0] = meter.read()[1]
            meter.reset()

    begin = problem.draw(CHAINS, generator)
    run = sample_chains(target, begin, make(problem), steps=draws, warmup=warmup, generator=generator, progress=mark)
    gradients = meter.read()[1] / CHAINS / draws
    begin = problem.draw(MANY, generator)
    steps = max(3, round(300 / gradients))
    timed = partial(sample_chains, target, begin, run.kernel, generator=generator, keep_history=False)
    timed(steps=3)
    meter.reset()
    timed(steps=steps)
    kernel = getattr(run.kernel, "kernel", run.kernel)
    learned = {name: getattr(kernel, name, None) for name in ("step_size", "leapfrogs", "decoherence")}
    settings = ", ".join(f"{name} {value:.3g}" for name, value in learned.items() if isinstance(value, float))
    assert run.history is not None
    return Result(
        run.history,
        gradients,
        meter.read()[0] / MANY / steps,
        warm[0] / CHAINS,
        f"{settings}, acceptance {run.acceptance.mean():.2f}",
    )


class CountedNUTS(ebm.NUTS):
    """Counts the leaves that a chain alone would have evaluated; in lockstep, chains that have ended wait for the rest."""

    leaves = 0

    def _build_tree(self, *arguments: Any) -> Any:
        depth, active = arguments[5], arguments[8]
        if depth == 0:
            self.leaves += int(active.sum())
        return super()._build_tree(*arguments)


def energy_of(target: Counted) -> Callable[[Tensor], Tensor]:
    return lambda x: -target(x)


def timed_ebmkit(sampler: ebm.samplers.Sampler, problem: Problem, generator: torch.Generator, draws: int) -> float:
    """CPU seconds for one draw of one chain, at 1,000 chains; the sampler is as learned."""
    energy, begin = energy_of(Counted(problem.log_prob)), problem.draw(MANY, generator)
    sampler.sample(energy, begin, steps=2)
    started = time.process_time()
    sampler.sample(energy, begin, steps=draws)
    return (time.process_time() - started) / MANY / draws


def ebmkit_nuts(warmup: int, draws: int, problem: Problem, seed: int) -> Result:
    generator, target = torch.Generator().manual_seed(seed), Counted(problem.log_prob)
    torch.manual_seed(seed)
    sampler, draws = CountedNUTS(warmup=warmup), round(draws * problem.length)
    begin = sampler.sample(energy_of(target), problem.draw(CHAINS, generator), steps=0)
    warmup_gradients, sampler.warmup, sampler.leaves = sampler.leaves / CHAINS + warmup, 0, 0
    history = sampler.sample(energy_of(target), begin, steps=draws, return_trajectory=True)[1:]
    gradients = 1 + sampler.leaves / CHAINS / draws
    seconds = timed_ebmkit(sampler, problem, generator, max(3, round(100 / gradients)))
    return Result(history, gradients, seconds, warmup_gradients, f"step_size {sampler.step_size:.3g}")

"""Samplers against those of ebmkit 0.16 and Pyro 1.9, on the same targets, in turn. The tables in docs/benchmarks.md.

    python -m pip install -c constraints.txt -r benchmarks/requirements.txt
    OMP_NUM_THREADS=1 python benchmarks/samplers.py --repeats 3
    OMP_NUM_THREADS=1 python benchmarks/samplers.py --only banana funnel --repeats 1
    python benchmarks/samplers.py --print results/samplers-cpu.jsonl

Effective sample size (ESS): the smallest bulk ESS, by arviz-stats, over the coordinates and their squares. A sampler
that gives a chain fewer than 5 in its whole run has not mixed: its figure is only a bound, and it is nobody's best. Nor
is one whose averages are off: further from the truth than chance allows, by the spread between chains.

Gradients are counted by the target, one for each chain at each evaluation (of ebmkit's NUTS, whose chains wait for each
other in lockstep, only those that a chain alone would have made; of Pyro, whose chains run one after another, the sum
of all leapfrogs). Seconds are of one CPU thread, as the system accounts them, so that other work on the machine does
not count. Warm-ups come before the draws that are counted; their gradients are recorded apart. Chains start from exact
draws of the target where it has any.

ESS per gradient comes from 32 or 128 chains with history (Pyro: 4). ESS per second is that of 1,000 chains, by the time
that so many take for a draw; Pyro's way there is the better of two: one after another, at the rate of the 4, and all as
one chain of 1,000 times the dimension. It is measured with the target as it is, and compiled: for ours together with
its score by `sampling.compiled`, for the peers, which have nothing of the kind, by torch.compile.

Each finished cell is a line of the results and is not run again.

What a sampler does not learn is chosen for it from a grid, in runs that are not counted: step size and leapfrogs of
ebmkit's HMC (and of ours, on the same grid); step size, leapfrogs and ladder of ebmkit's tempering.
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
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any, Literal

import ebm
import numpy as np
import pyro
import torch
from arviz_stats.base.array import array_stats
from pyro.infer import HMC as PyroHMC  # noqa: N811 - ours has the name
from pyro.infer import MCMC, NUTS
from scipy.stats import t as student
from torch import Tensor

from results import hardware, version
from vaebm.distributions.analytic import Banana, DoubleWell, Funnel, GaussianGrid, IllConditioned
from vaebm.sampling import LogDensity, compiled, sample_chains
from vaebm.sampling.hmc import HMC
from vaebm.sampling.kernel import Kernel, evaluate
from vaebm.sampling.mala import MALA
from vaebm.sampling.mclmc import MCLMC, AdjustedMCLMC
from vaebm.sampling.tempering import Tempering

ROOT = Path(__file__).parent.parent
ALONE = 4  # chains of a sampler that runs them one after another
MANY = 1000  # chains that are timed
FEWEST = 5.0  # effective draws of a chain, below which it has not mixed


@dataclass
class Problem:
    """A target, and what is measured on it.

    Attributes:
        log_prob: (chain, dim) -> (chain,).
        draw: (n, generator) -> (n, dim), where chains start.
        means: (quantity,), true means of the quantities; None where unknown.
        quantities: (draw, chain, dim) -> (draw, chain, quantity), averages of which are wanted.
        ladder: inverse temperatures for tempering; empty where it is not called for.
        path: what ours tempers.
        length: factor on the number of draws.
        chains: whose history is kept.
    """

    dim: int
    log_prob: LogDensity
    draw: Callable[[int, torch.Generator], Tensor]
    means: Tensor | None
    quantities: Callable[[Tensor], Tensor]
    ladder: tuple[float, ...] = ()
    path: Literal["density", "energy"] = "density"
    length: float = 1.0
    chains: int = 128

    @cached_property
    def with_score(self) -> LogDensity:
        """The target, compiled together with its score."""
        return compiled(self.log_prob)

    @cached_property
    def compiled(self) -> LogDensity:
        """The target, compiled by itself."""
        return torch.compile(self.log_prob)


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
    """exp(-E(x)) N(x; 0, I) in 16 whitened principal components of the digits; E is an MLP, fitted by the ratio."""
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

    return Problem(16, log_prob, draw, None, and_squares, (1.0, 0.7, 0.45, 0.25), "energy", 2)


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "Gaussian, 100-D, condition 1,000": lambda: analytic(IllConditioned(), chains=32),
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
    """A target that counts gradient evaluations, of one chain each."""

    def __init__(self, target: LogDensity) -> None:
        self.target, self.gradients = target, 0

    def __call__(self, x: Tensor) -> Tensor:
        self.gradients += len(x) * x.requires_grad
        return self.target(x)


class CountedScored(Counted):
    """And one that ours evaluates together with its score."""

    def value_and_score(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.gradients += len(x)
        return evaluate(self.target, x)


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
        seconds: CPU time for one draw of one chain, at 1,000 chains, of the plain target and of the compiled.
        warmup_gradients: of one chain.
        settings: what was learned or chosen.
    """

    history: Tensor
    gradients: float
    seconds: tuple[float, float]
    warmup_gradients: float
    settings: str


Sampler = Callable[[Problem, int], Result]


def seconds_of(run: Callable[[LogDensity, int], Any], steps: int, *targets: LogDensity) -> tuple[float, ...]:
    """CPU time for one draw of one of 1,000 chains, for each target; the middle of three, in turn."""
    taken: list[list[float]] = [[] for _ in targets]
    for _ in range(3):
        for target, times in zip(targets, taken, strict=True):
            run(target, 2)
            started = time.process_time()
            run(target, steps)
            times.append((time.process_time() - started) / MANY / steps)
    return tuple(map(statistics.median, taken))


def smallest_ess(problem: Problem, history: Tensor) -> float:
    """Of one chain, in draws; the smallest over the quantities, by arviz-stats."""
    values = problem.quantities(history).double().numpy()
    found = array_stats.ess(values, chain_axis=1, draw_axis=0, method="bulk")
    return float(np.min(found)) / history.shape[1]


def chosen(problem: Problem, grid: list[Any], run: Callable[[Any, Counted, Tensor, int], Tensor]) -> Any:
    """The element of a grid with the largest ESS per gradient, in runs of 1,500 gradients a chain or so."""
    scores = []
    for settings in grid:
        generator, target = torch.Generator().manual_seed(1234), Counted(problem.log_prob)
        torch.manual_seed(1234)
        history = run(settings, target, problem.draw(32, generator), round(1500 * problem.length))
        scores.append(smallest_ess(problem, history) * 32 / target.gradients)
    return grid[int(np.nanargmax(scores))]


# Ours


def ours(make: Callable[[Problem], Kernel], warmup: int, draws: int, problem: Problem) -> Sampler:
    kernel, draws = make(problem), round(draws * problem.length)

    def sampler(problem: Problem, seed: int) -> Result:
        generator, target = torch.Generator().manual_seed(seed), CountedScored(problem.with_score)
        meter, warm = Meter(target), 0.0

        def mark(done: int, _: int) -> None:
            nonlocal warm
            if done == warmup:
                warm = meter.read()[1] / problem.chains
                meter.reset()

        begin = problem.draw(problem.chains, generator)
        chains = sample_chains(target, begin, kernel, steps=draws, warmup=warmup, generator=generator, progress=mark)
        gradients = meter.read()[1] / problem.chains / draws
        begin, steps = problem.draw(MANY, generator), max(3, round(600 / gradients))

        def run(target: LogDensity, steps: int) -> None:
            sample_chains(target, begin, chains.kernel, steps=steps, generator=generator, keep_history=False)

        seconds = seconds_of(run, steps, problem.log_prob, problem.with_score)
        assert chains.history is not None
        learned = described(chains.kernel, float(chains.acceptance.mean()))
        return Result(chains.history, gradients, seconds, warm, learned)

    return sampler


def described(kernel: Kernel, acceptance: float) -> str:
    inner = getattr(kernel, "kernel", kernel)
    numbers = {name: getattr(inner, name, None) for name in ("leapfrogs", "decoherence", "acceptance_goal")}
    if inner is kernel:
        numbers["step_size"] = kernel.step_size
    else:
        numbers["rungs"] = float(len(kernel.betas))
    known = [f"{name} {value:.3g}" for name, value in numbers.items() if isinstance(value, float)]
    return ", ".join([*known, f"acceptance {acceptance:.2f}"])


def hmc_grid(problem: Problem) -> list[tuple[float, int]]:
    """Step sizes around that of ebmkit's NUTS, and leapfrogs."""
    generator = torch.Generator().manual_seed(99)
    torch.manual_seed(99)
    nuts = ebm.NUTS(warmup=200)
    nuts.sample(energy_of(Counted(problem.log_prob)), problem.draw(problem.chains, generator), steps=0)
    leapfrogs = (1, 2, 3, 4, 8, 16, *((32, 64) if problem.dim > 50 else ()))
    return list(product((nuts.step_size * 2 ** (k / 2) for k in range(-2, 3)), leapfrogs))


def by_hand(problem: Problem) -> HMC:
    """Our HMC with numbers from the grid."""

    def run(settings: tuple[float, int], target: Counted, begin: Tensor, gradients: int) -> Tensor:
        kernel, steps = HMC(*settings), gradients // settings[1]
        history = sample_chains(target, begin, kernel, steps=steps, generator=torch.Generator().manual_seed(1)).history
        assert history is not None
        return history

    return HMC(*chosen(problem, hmc_grid(problem), run))


# ebmkit


class CountedNUTS(ebm.NUTS):
    """Counts the leaves that each chain alone would have cost: in lockstep, those that have ended wait for the rest."""

    leaves = 0

    def _build_tree(self, *arguments: Any) -> Any:
        depth, active = arguments[5], arguments[8]
        if depth == 0:
            self.leaves += int(active.sum())
        return super()._build_tree(*arguments)


def energy_of(target: Counted) -> Callable[[Tensor], Tensor]:
    return lambda x: -target(x)


def peer_seconds(sampler: Any, problem: Problem, seed: int, gradients: float) -> tuple[float, float]:
    """Of a sampler of ebmkit that has learned all it does."""
    begin = problem.draw(MANY, torch.Generator().manual_seed(seed))

    def run(target: LogDensity, steps: int) -> None:
        sampler.sample(lambda x: -target(x), begin, steps=steps)

    return seconds_of(run, max(3, round(600 / gradients)), problem.log_prob, problem.compiled)


def ebmkit_nuts(problem: Problem, seed: int) -> Result:
    generator, target, warmup = torch.Generator().manual_seed(seed), Counted(problem.log_prob), 200
    torch.manual_seed(seed)
    sampler, draws = CountedNUTS(warmup=warmup), round(200 * problem.length)
    begin = sampler.sample(energy_of(target), problem.draw(problem.chains, generator), steps=0)
    warm, sampler.warmup, sampler.leaves = sampler.leaves / problem.chains + warmup, 0, 0
    history = sampler.sample(energy_of(target), begin, steps=draws, return_trajectory=True)[1:]
    gradients = 1 + sampler.leaves / problem.chains / draws
    seconds = peer_seconds(sampler, problem, seed, 2 * gradients)
    return Result(history, gradients, seconds, warm, f"step_size {sampler.step_size:.3g}")


class Warm(ebm.AdaptiveMALA):
    """With what it has learned, goes on without another warm-up."""

    def step(self, energy: Any, x: Tensor) -> Tensor:
        return self._transition(energy, x)[0]

    def sample(self, energy: Any, x_init: Tensor, **options: Any) -> Tensor:
        return ebm.samplers.Sampler.sample(self, energy, x_init, **options)


def ebmkit_mala(problem: Problem, seed: int) -> Result:
    generator, target, warmup = torch.Generator().manual_seed(seed), Counted(problem.log_prob), 500
    torch.manual_seed(seed)
    sampler, draws = ebm.AdaptiveMALA(warmup=warmup, precondition=True), round(1500 * problem.length)
    begin = sampler.sample(energy_of(target), problem.draw(problem.chains, generator), steps=0)
    warm = target.gradients / problem.chains
    sampler.__class__ = Warm
    history = sampler.sample(energy_of(target), begin, steps=draws, return_trajectory=True)[1:]
    return Result(history, 2, peer_seconds(sampler, problem, seed, 2), warm, f"step_size {sampler.step_size:.3g}")


def fixed(make: Callable[[Any], Any], settings: Any, cost: int) -> Sampler:
    """A sampler of ebmkit that learns nothing, with chosen numbers."""

    def run(problem: Problem, seed: int) -> Result:
        generator, target = torch.Generator().manual_seed(seed), Counted(problem.log_prob)
        torch.manual_seed(seed)
        draws = round(min(500, 8000 / cost) * problem.length)
        history = make(settings).sample(
            energy_of(target), problem.draw(problem.chains, generator), steps=draws, return_trajectory=True
        )[1:]
        gradients = target.gradients / problem.chains / draws
        return Result(history, gradients, peer_seconds(make(settings), problem, seed, gradients), 0, str(settings))

    return run


def ebmkit_chosen(make: Callable[[Any], Any], grid: list[Any], cost: Callable[[Any], int], problem: Problem) -> Sampler:
    def run(settings: Any, target: Counted, begin: Tensor, gradients: int) -> Tensor:
        steps = max(20, gradients // cost(settings))
        return make(settings).sample(energy_of(target), begin, steps=steps, return_trajectory=True)[1:]

    best = chosen(problem, grid, run)
    return fixed(make, best, cost(best))


def ebmkit_hmc(problem: Problem) -> Sampler:
    return ebmkit_chosen(lambda s: ebm.HMC(*s), hmc_grid(problem), lambda s: s[1] + 1, problem)


def ebmkit_tempering(problem: Problem) -> Sampler:
    own = tuple(1 / beta for beta in problem.ladder)
    scales = (factor * hmc_grid(problem)[0][0] for factor in (2, 4, 8))
    grid = list(product(scales, (1, 2), ((1.0, 2.0, 4.0, 8.0), own)))
    return ebmkit_chosen(
        lambda s: ebm.ParallelTempering(ebm.HMC(s[0], s[1]), s[2]), grid, lambda s: (s[1] + 1) * len(s[2]), problem
    )


# Pyro


def pyro_chain(make: Callable[..., Any], draws: int, warmup: int, begin: Tensor, target: Counted) -> tuple[Any, ...]:
    """One chain: draws (draw, *begin.shape), gradients, seconds, warm-up gradients, step size."""
    meter, learned = Meter(target), {"gradients": 0, "step_size": 0.0}

    def hook(kernel: Any, _: Any, stage: str, count: int) -> None:
        if stage == "Warmup" and count == warmup - 1:
            learned.update(gradients=meter.read()[1], step_size=kernel.step_size)
            meter.reset()

    def potential(position: dict[str, Tensor]) -> Tensor:
        x = position["x"]
        return -target(x if x.ndim == 2 else x[None]).sum()

    chain = MCMC(
        make(potential_fn=potential),
        num_samples=draws,
        warmup_steps=warmup,
        initial_params={"x": begin},
        disable_progbar=True,
        hook_fn=hook,
    )
    chain.run()
    seconds, gradients = meter.read()
    assert learned["gradients"]
    return chain.get_samples()["x"], gradients, seconds, learned["gradients"], learned["step_size"]


def pyro_alone(make: Callable[..., Any], problem: Problem, seed: int) -> Result:
    pyro.set_rng_seed(seed)
    begin, draws = problem.draw(ALONE, torch.Generator().manual_seed(seed)), round(400 * problem.length)
    runs = [pyro_chain(make, draws, 300, x, Counted(problem.log_prob)) for x in begin]
    histories, gradients, seconds, warm, steps = zip(*runs, strict=True)
    cost = [sum(each) / ALONE / draws for each in (gradients, seconds)]
    learned = f"step_size {min(steps):.3g} to {max(steps):.3g}"
    return Result(torch.stack(histories, dim=1), cost[0], (cost[1], cost[1]), sum(warm) / ALONE, learned)


def pyro_as_one(make: Callable[..., Any], problem: Problem, seed: int) -> Result:
    pyro.set_rng_seed(seed)
    begin, draws = problem.draw(MANY, torch.Generator().manual_seed(seed)), round(40 * problem.length)
    history, gradients, seconds, warm, step = pyro_chain(make, draws, 60, begin, Counted(problem.log_prob))
    cost = [each / MANY / draws for each in (gradients, seconds)]
    # What a compiled target would have saved of each evaluation.
    targets = problem.log_prob, problem.compiled
    plain, quick = seconds_of(lambda target, steps: [evaluate(target, begin) for _ in range(steps)], 50, *targets)
    both = (cost[1], cost[1] + min(0.0, quick - plain) * cost[0])
    return Result(history[:, : problem.chains], cost[0], both, warm / MANY, f"step_size {step:.3g}")


@dataclass(frozen=True)
class Method:
    """A way to sample.

    Attributes:
        prepare: chooses what has to be chosen by hand.
        exact: whether the target is exactly invariant; others are shown, but are nobody's best.
        tempered: only for problems with a ladder.
    """

    side: str
    prepare: Callable[[Problem], Sampler]
    exact: bool = True
    tempered: bool = False


def self_tuned(make: Callable[[Problem], Kernel], warmup: int = 300, draws: int = 500, **options: bool) -> Method:
    return Method("vaebm", partial(ours, make, warmup, draws), **options)


METHODS = {
    "HMC": self_tuned(lambda _: HMC()),
    "HMC, goal 0.8": self_tuned(lambda _: HMC(acceptance_goal=0.8)),
    "HMC, goal 0.97": self_tuned(lambda _: HMC(acceptance_goal=0.97)),
    "HMC, goal 0.65, spread 4": self_tuned(lambda _: HMC(acceptance_goal=0.65, spread=4.0)),
    "HMC by hand": self_tuned(by_hand, warmup=0),
    "adjusted MCLMC": self_tuned(lambda _: AdjustedMCLMC()),
    "MALA": self_tuned(lambda _: MALA(), draws=2000),
    "tempered MALA": self_tuned(lambda p: Tempering(MALA(), p.ladder, p.path), draws=1500, tempered=True),
    "tempered HMC": self_tuned(
        lambda p: Tempering(HMC(leapfrogs=4, acceptance_goal=0.8), p.ladder, p.path), draws=500, tempered=True
    ),
    "MCLMC (biased)": self_tuned(lambda _: MCLMC(), draws=2000, exact=False),
    "ebmkit NUTS": Method("ebmkit", lambda _: ebmkit_nuts),
    "ebmkit HMC by hand": Method("ebmkit", ebmkit_hmc),
    "ebmkit AdaptiveMALA": Method("ebmkit", lambda _: ebmkit_mala),
    "ebmkit tempered HMC by hand": Method("ebmkit", ebmkit_tempering, tempered=True),
    "Pyro NUTS": Method("Pyro", lambda _: partial(pyro_alone, NUTS)),
    "Pyro HMC": Method("Pyro", lambda _: partial(pyro_alone, PyroHMC)),
    "Pyro HMC, length pi/2": Method(
        "Pyro", lambda _: partial(pyro_alone, partial(PyroHMC, trajectory_length=math.pi / 2))
    ),
    "Pyro NUTS, all as one": Method("Pyro", lambda _: partial(pyro_as_one, NUTS)),
}


# Measuring


def biased(problem: Problem, history: Tensor) -> float:
    """The largest distance of an average from the truth, in standard errors between chains, over what chance allows."""
    if problem.means is None:
        return math.nan
    by_chain = problem.quantities(history).double().mean(dim=0)
    chains, quantities = by_chain.shape
    score = (by_chain.mean(dim=0) - problem.means).abs() / (by_chain.std(dim=0) / math.sqrt(chains))
    return float(score.max()) / float(student.ppf(1 - 1e-3 / 2 / quantities, chains - 1))


def ess_by_error(problem: Problem, history: Tensor) -> float:
    """Of one chain: variance over the squared error of a chain's average; the smallest over the quantities."""
    if problem.means is None:
        return math.nan
    values = problem.quantities(history).double()
    errors = (values.mean(dim=0) - problem.means).square().mean(dim=0)
    return float((values.var(dim=(0, 1)) / errors).min())


def measure(problem: Problem, name: str, sampler: Sampler, seed: int) -> dict[str, Any]:
    started = time.perf_counter()
    result = sampler(problem, seed)
    ess, draws = smallest_ess(problem, result.history), len(result.history)
    return {
        "sampler": name,
        "seed": seed,
        "ess_per_gradient": ess / draws / result.gradients,
        "ess_per_second": ess / draws / result.seconds[0],
        "ess_per_second_compiled": ess / draws / min(result.seconds),
        "ess_by_error_per_gradient": ess_by_error(problem, result.history) / draws / result.gradients,
        "ess_of_a_chain": ess,
        "gradients_per_draw": result.gradients,
        "microseconds_per_gradient": 1e6 * result.seconds[0] / result.gradients,
        "microseconds_per_gradient_compiled": 1e6 * result.seconds[1] / result.gradients,
        "warmup_gradients": result.warmup_gradients,
        "off": biased(problem, result.history),
        "settings": result.settings,
        "wall_seconds": time.perf_counter() - started,
    }


# The report


def hold(row: dict[str, Any]) -> bool:
    """Whether a sampler's figures may be a side's best."""
    return row["exact"] and row["ess_of_a_chain"] >= FEWEST and not row["off"] > 1


def medians(rows: list[dict[str, Any]], problem: str) -> list[dict[str, Any]]:
    """One row a sampler, the medians over repeats; ranges of the figures beside."""
    found = []
    for name in dict.fromkeys(row["sampler"] for row in rows if row["problem"] == problem):
        mine = [row for row in rows if row["problem"] == problem and row["sampler"] == name]
        middle = dict(mine[0])
        for key, value in mine[0].items():
            if isinstance(value, float):
                values = [row[key] for row in mine]
                middle[key], middle[f"{key} range"] = statistics.median(values), (min(values), max(values))
        found.append(middle)
    return found


def figure(row: dict[str, Any], key: str) -> str:
    low, high = row[f"{key} range"]
    return f"{row[key]:.3g} ({low:.3g}–{high:.3g})"


def verdicts(rows: list[dict[str, Any]], ours: str, theirs: str, factor: float) -> list[str]:
    """The best of each side on each target, by a figure of ours and one of theirs."""
    lines = ["| target | ours | | best of theirs | | ratio | holds |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for problem in dict.fromkeys(row["problem"] for row in rows):
        able = [row for row in medians(rows, problem) if hold(row)]
        mine = max((row for row in able if row["side"] == "vaebm"), key=lambda row: row[ours], default=None)
        yours = max((row for row in able if row["side"] != "vaebm"), key=lambda row: row[theirs], default=None)
        first = f"{mine['sampler']} | {figure(mine, ours)}" if mine else "none mixed |"
        second = f"{yours['sampler']} | {figure(yours, theirs)}" if yours else "none mixed |"
        ratio = mine[ours] / yours[theirs] if mine and yours else math.inf if mine else 0.0
        lines.append(f"| {problem} | {first} | {second} | {ratio:.2g} | {'yes' if ratio >= factor else '**no**'} |")
    return [*lines, ""]


def markdown(rows: list[dict[str, Any]]) -> str:
    """The verdict on each target, then all samplers."""
    lines = ["### ESS per gradient", "", *verdicts(rows, "ess_per_gradient", "ess_per_gradient", 1.0)]
    lines += ["### ESS per second, 1,000 chains: ours with `sampling.compiled`, theirs as they are", ""]
    lines += verdicts(rows, "ess_per_second_compiled", "ess_per_second", 3.0)
    lines += ["### ESS per second, 1,000 chains: ours with `sampling.compiled`, theirs with torch.compile", ""]
    lines += verdicts(rows, "ess_per_second_compiled", "ess_per_second_compiled", 3.0)
    lines += ["### ESS per second, 1,000 chains: nothing compiled", ""]
    lines += verdicts(rows, "ess_per_second", "ess_per_second", 3.0)
    for problem in dict.fromkeys(row["problem"] for row in rows):
        lines += [f"### {problem}", ""]
        heads = ["sampler", "ESS / gradient", "by error", "ESS / s", "compiled", "gradients a draw", "warm-up"]
        heads += ["numbers", ""]
        lines += [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
        for row in sorted(medians(rows, problem), key=lambda row: -row["ess_per_gradient"]):
            marks = [] if row["exact"] else ["biased by its step size"]
            marks += ["has not mixed"] if row["ess_of_a_chain"] < FEWEST else []
            marks += ["averages off"] if row["off"] > 1 else []
            cells = [
                row["sampler"],
                figure(row, "ess_per_gradient"),
                f"{row['ess_by_error_per_gradient']:.2g}",
                figure(row, "ess_per_second"),
                figure(row, "ess_per_second_compiled"),
                f"{row['gradients_per_draw']:.3g}",
                f"{row['warmup_gradients']:.0f}",
                row["settings"],
                ", ".join(marks),
            ]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Measures what is missing in results/samplers-MACHINE.jsonl, prints Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", help="targets whose names hold one of these words")
    parser.add_argument("--samplers", nargs="+", help="samplers whose names hold one of these words")
    parser.add_argument("--machine", default="cpu", help="names the file")
    parser.add_argument("--print", type=Path, help="only print the tables of a file")
    arguments = parser.parse_args()
    if arguments.print:
        print(markdown(read(arguments.print)))
        return
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    target = ROOT / "results" / f"samplers-{arguments.machine}.jsonl"
    target.parent.mkdir(exist_ok=True)
    rows = read(target) if target.exists() else []
    added = {"hardware": hardware(), "command": shlex.join(["python", *sys.argv]), "version": version()}
    for name, make in PROBLEMS.items():
        if arguments.only and not any(word in name for word in arguments.only):
            continue
        problem = make()
        methods = [
            method
            for method in METHODS
            if (problem.ladder or not METHODS[method].tempered)
            and (not arguments.samplers or any(word in method for word in arguments.samplers))
        ]
        done = {(row["sampler"], row["seed"]) for row in rows if row["problem"] == name}
        missing = [(method, seed) for seed in range(arguments.repeats) for method in methods]
        missing = [cell for cell in missing if cell not in done]
        samplers = {method: METHODS[method].prepare(problem) for method in dict.fromkeys(m for m, _ in missing)}
        for method, seed in missing:
            sort = {"problem": name, "side": METHODS[method].side, "exact": METHODS[method].exact}
            rows.append({**sort, **measure(problem, method, samplers[method], seed), **added})
            with target.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            short = {key: f"{value:.3g}" if isinstance(value, float) else value for key, value in rows[-1].items()}
            print({key: short[key] for key in short if key not in added}, file=sys.stderr, flush=True)
    print(markdown(rows))


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


if __name__ == "__main__":
    main()

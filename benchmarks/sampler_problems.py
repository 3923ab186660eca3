"""Targets on which samplers are compared, and what is counted of a run on them."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from arviz_stats.base.array import array_stats
from torch import Tensor

from tests.densities import Banana, DoubleWell, Funnel, GaussianGrid, IllConditioned
from vaebm.sampling import LogDensity, compiled
from vaebm.sampling.kernel import evaluate

MANY = 1000  # chains that are timed


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
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    for _ in range(500):
        batch = codes[torch.randint(len(codes), (256,), generator=generator)]
        noise = torch.randn(256, 16, generator=generator)
        loss = torch.nn.functional.softplus(net(batch)).mean() + torch.nn.functional.softplus(-net(noise)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.requires_grad_(False)

    def log_prob(x: Tensor) -> Tensor:
        return -net(x)[:, 0] - x.square().sum(dim=1) / 2

    def draw(n: int, generator: torch.Generator) -> Tensor:
        return codes[torch.randint(len(codes), (n,), generator=generator)]

    return Problem(16, log_prob, draw, None, and_squares, (1.0, 0.7, 0.45, 0.25), "energy")


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "Gaussian, 100-D, condition 1,000": lambda: analytic(IllConditioned(), chains=32),
    "banana, 2-D": lambda: analytic(Banana(), length=2),
    "double well, 2-D": lambda: analytic(DoubleWell(2), ladder=(1.0, 0.45, 0.2), length=2),
    "25 Gaussians, across modes": lambda: analytic(
        GaussianGrid(), ladder=tuple(0.005 ** (k / 4) for k in range(5)), length=2
    ),
    "25 Gaussians, within modes": lambda: within_modes(GaussianGrid()),
    "energy of digits, 16-D": digits,
    "funnel, 10-D, its first coordinate": lambda: analytic(Funnel(10), kept=1, length=2),
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


def seconds_of(
    run: Callable[[LogDensity, int], Any], steps: int, plain: LogDensity, compiled: LogDensity
) -> tuple[float, float]:
    """CPU time for one draw of one of 1,000 chains, for each target; the middle of three, in turn."""
    taken: tuple[list[float], list[float]] = [], []
    for _ in range(3):
        for target, times in zip((plain, compiled), taken, strict=True):
            run(target, 2)
            started = time.process_time()
            run(target, steps)
            times.append((time.process_time() - started) / MANY / steps)
    return statistics.median(taken[0]), statistics.median(taken[1])


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

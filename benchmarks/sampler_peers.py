"""ebmkit's and Pyro's samplers in the comparison."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import ebm
import pyro
import torch
from pyro.infer import HMC as PyroHMC  # noqa: N811 - ours has the name
from pyro.infer import MCMC, NUTS
from sampler_problems import MANY, Counted, Meter, Method, Problem, Result, Sampler, chosen, seconds_of
from torch import Tensor

from vaebm.sampling import LogDensity
from vaebm.sampling.kernel import evaluate

ALONE = 4  # chains of a sampler that runs them one after another


def hmc_grid(problem: Problem) -> list[tuple[float, int]]:
    """Step sizes around that of ebmkit's NUTS, and leapfrogs."""
    generator = torch.Generator().manual_seed(99)
    torch.manual_seed(99)
    nuts = ebm.NUTS(warmup=200)
    nuts.sample(energy_of(Counted(problem.log_prob)), problem.draw(problem.chains, generator), steps=0)
    leapfrogs = (1, 2, 3, 4, 8, 16, *((32, 64) if problem.dim > 50 else ()))
    return list(product((nuts.step_size * 2 ** (k / 2) for k in range(-2, 3)), leapfrogs))


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


METHODS = {
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

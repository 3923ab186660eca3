"""The library's samplers in the comparison."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from sampler_peers import hmc_grid
from sampler_problems import MANY, Counted, CountedScored, Meter, Method, Problem, Result, Sampler, chosen, seconds_of
from torch import Tensor

from vaebm.sampling import LogDensity, sample_chains
from vaebm.sampling.hmc import HMC
from vaebm.sampling.kernel import Kernel
from vaebm.sampling.langevin import MALA
from vaebm.sampling.mclmc import MCLMC, AdjustedMCLMC
from vaebm.sampling.tempering import Tempering


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
    inner: Any = getattr(kernel, "kernel", kernel)
    numbers = {name: getattr(inner, name, None) for name in ("num_leapfrog_steps", "decoherence", "target_acceptance")}
    if isinstance(kernel, Tempering):
        numbers["rungs"] = float(len(kernel.betas))
    else:
        numbers["step_size"] = inner.step_size
    known = [f"{name} {value:.3g}" for name, value in numbers.items() if isinstance(value, float)]
    return ", ".join([*known, f"acceptance {acceptance:.2f}"])


def by_hand(problem: Problem) -> HMC:
    """Our HMC with numbers from the grid."""

    def run(settings: tuple[float, int], target: Counted, begin: Tensor, gradients: int) -> Tensor:
        kernel, steps = HMC(*settings), gradients // settings[1]
        history = sample_chains(target, begin, kernel, steps=steps, generator=torch.Generator().manual_seed(1)).history
        assert history is not None
        return history

    return HMC(*chosen(problem, hmc_grid(problem), run))


def self_tuned(make: Callable[[Problem], Kernel], warmup: int = 300, draws: int = 500, **options: bool) -> Method:
    return Method("vaebm", partial(ours, make, warmup, draws), **options)


METHODS = {
    "HMC": self_tuned(lambda _: HMC()),
    "HMC, goal 0.8": self_tuned(lambda _: HMC(target_acceptance=0.8)),
    "HMC, goal 0.97": self_tuned(lambda _: HMC(target_acceptance=0.97)),
    "HMC, goal 0.65, spread 4": self_tuned(lambda _: HMC(target_acceptance=0.65, step_size_jitter=4.0)),
    "HMC by hand": self_tuned(by_hand, warmup=0),
    "adjusted MCLMC": self_tuned(lambda _: AdjustedMCLMC()),
    "MALA": self_tuned(lambda _: MALA(), draws=2000),
    "tempered MALA": self_tuned(lambda p: Tempering(MALA(), p.ladder, p.path), draws=1500, tempered=True),
    "tempered HMC": self_tuned(
        lambda p: Tempering(HMC(num_leapfrog_steps=4, target_acceptance=0.8), p.ladder, p.path),
        draws=500,
        tempered=True,
    ),
    "MCLMC (biased)": self_tuned(lambda _: MCLMC(), draws=2000, exact=False),
}

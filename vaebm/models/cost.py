"""Cost of drawing: how many gradients a chain takes, and how long that will be.

    gradients of a chain  =  1 + (steps + warm-up) * gradients of a step,  at most the sampler's bound
    seconds               =  those of one gradient of the first batch * gradients of a chain * batches

A warm-up may choose longer or shorter trajectories than its kernel starts with: both numbers are estimates, and the
bound alone is exact.
"""

from __future__ import annotations

import math
import time

from vaebm.models.noise_space import Coordinates
from vaebm.sampling import Kernel, SamplerSettings
from vaebm.wording import counted, duration


def lengthened(sampler: SamplerSettings) -> SamplerSettings:
    """The same sampler with four times as many steps, whatever its bound on gradients."""
    return sampler.model_copy(update={"steps": 4 * sampler.steps, "gradients": None})


def gradients_per_chain(sampler: SamplerSettings, kernel: Kernel) -> int:
    """Gradients of one chain, warm-up included."""
    planned = 1 + math.ceil((sampler.steps + sampler.warmup) * kernel.gradients_per_step)
    return planned if sampler.gradients is None else min(planned, sampler.gradients)


def expected_cost(n: int, sampler: SamplerSettings, kernel: Kernel, batch: Coordinates) -> str:
    """A sentence on what n chains cost; `batch` are the first of them, while the model's weights are frozen."""
    gradients, seconds = gradients_per_chain(sampler, kernel), 0.0
    for _ in range(2):  # the first one prepares what is used again
        started = time.perf_counter()
        float(kernel.init(batch.start, batch.target).log_density.sum())
        seconds = time.perf_counter() - started
    expected = duration(seconds * gradients * n / len(batch.start))
    limit = "up to" if gradients == sampler.gradients else "about"
    return f"Each sample costs {limit} {gradients:,} gradients: {counted(n, 'sample')} take about {expected}."


def too_large(sampler: SamplerSettings, stopped: int, n: int, acceptance: float) -> str:
    """A sentence for chains that do not follow their density, with what to do."""
    problem = (
        f"{stopped:,} of {n:,} chains met values that are not finite and were stopped where they were"
        if stopped
        else f"were its steps accepted or rejected, {100 * acceptance:.0f} % would be accepted"
    )
    advice = "Lower sampler.step_size, or use sampler.kind=mala."
    return f"The step size is too large for {sampler.kind}: {problem}. {advice}"

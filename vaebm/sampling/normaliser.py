r"""Normaliser: log Z of a target, with a bracket, and equally weighted samples of it.

Particles go along an annealing path (see `annealing`) from the reference to the target: $\hat Z$ is their mean weight,
unbiased, so that $\log \hat Z$ is low on average. Particles that go back from samples of the target estimate 1 / Z, and
their $\log \hat Z$ is high on average: forward and reverse bracket it.

Without exact samples of the target the reverse starts from the forward's. A mode that the particles never found is then
missing from both sides, and the bracket does not show it.

By SMC the standard error comes from the spread of about thirty independent groups, by AIS from that of the particles.

Reference: Grosse, Ghahramani and Adams, Sandwiching the marginal likelihood using bidirectional Monte Carlo, 2015.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from vaebm.sampling.adaptation.warmup import Tunable
from vaebm.sampling.annealing import AnnealingStage, Path, learn_stages, subdivide, travel
from vaebm.sampling.hmc import HMC
from vaebm.sampling.kernel import LogDensity
from vaebm.sampling.resampling import Reference, draw_reference, effective_sample_size, systematic_resample

PARTS = 16
MAX_GROUPS = 32
GROUP_SIZE = 25
# Standard errors from about thirty groups are uncertain themselves: four of them are as sure as three exact ones.
ERRORS = 4.0


class LogNormaliser(NamedTuple):
    """log Z, in nats.

    Attributes:
        value: the forward estimate.
        stderr: its standard error.
        lower: forward estimate less four standard errors.
        upper: reverse estimate plus four of its own: an estimate, no bound, unless exact `samples` were given.
            Where the ends would cross, since the weights are too uneven for their standard errors
            to be sure, the bracket spans both estimates with their errors.
        ess: effective number of the particles; by SMC that of its groups, times their size.
        position: (particles, dim), equally weighted samples of the target.
        gradients: gradient evaluations that each particle cost, forward and reverse, and its part of the pilot.
    """

    value: float
    stderr: float
    lower: float
    upper: float
    ess: float
    position: Tensor
    gradients: float


def log_normaliser(
    target: LogDensity,
    reference: Reference,
    method: Literal["smc", "ais"] = "smc",
    *,
    particles: int = 1000,
    generator: torch.Generator,
    kernel: Tunable | None = None,
    moves: int = 5,
    samples: Tensor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LogNormaliser:
    """Estimates the logarithm of a target's integral.

    Args:
        target: (chain, dim) -> (chain,), the log of an unnormalised density.
        reference: normalised; covers the target.
        method: "smc" or "ais".
        particles: rounded up to whole groups.
        generator: on the reference's device.
        kernel: an adjusted one that moves the particles; HMC with 5 leapfrog steps if left out.
        moves: its steps at each stage (with AIS at each part of a stage one).
        samples: (n, dim), exact samples of the target for the reverse run; the forward's own if left out.
        progress: called after each stage with the thousandths done, and 1,000.

    Raises:
        ValueError: the kernel cannot anneal, a count is too small, target or reference give another shape or values
            that are not finite, or the reference is too far from the target or misses its support.
    """
    if method not in ("smc", "ais"):
        raise ValueError(f"method is {method!r}; it has to be 'smc' or 'ais'")
    if particles < 2 * GROUP_SIZE or moves < 1:
        raise ValueError(f"particles is {particles}, moves {moves}; at least {2 * GROUP_SIZE} and 1 are needed")
    kernel = kernel or HMC(num_leapfrog_steps=5, jitter=0.5)
    if not isinstance(kernel, Tunable):
        raise ValueError(
            f"{type(kernel).__name__} has no step size to tune; annealing takes MALA, HMC or adjusted MCLMC"
        )
    if not kernel.adjusted:
        raise ValueError(f"{type(kernel).__name__} is unadjusted; annealing needs a kernel with an accept step")
    path = Path(target, reference)
    groups = min(MAX_GROUPS, particles // GROUP_SIZE)
    count = math.ceil(particles / groups) * groups
    if samples is not None and (samples.ndim != 2 or len(samples) < groups):
        raise ValueError(
            f"samples is {tuple(samples.shape)}; it has to be (n, dim) with n at least {groups}, one a group"
        )

    def tell(thirds: int) -> Callable[[float], None]:
        return lambda part: None if progress is None else progress(round(1000 * (thirds + part) / 3), 1000)

    pilots = max(particles // 4, 4 * GROUP_SIZE)
    stages, spent = learn_stages(path, draw_reference(reference, pilots, generator), kernel, moves, generator, tell(0))
    if method == "ais":
        stages, moves = subdivide(stages, PARTS), 1
    start = draw_reference(reference, count, generator).unflatten(0, (groups, -1))
    resample = method == "smc"
    forward = travel(path, start, stages, 0.0, moves, generator, resample=resample, progress=tell(1))
    taken = systematic_resample(forward.log_weights.flatten(), count, generator)
    position = forward.position.flatten(0, 1)[taken]
    if samples is None:
        # Copies of one particle part ways before they are sent back.
        position, _, more = path.move(position, stages[-1], max(moves, 5), generator)
        samples, spent = position, spent + more
    # Groups of neighbours: systematic resampling keeps the descendants of a group together.
    back = samples[: len(samples) // groups * groups].unflatten(0, (groups, -1))
    home = [*reversed(stages[:-1]), AnnealingStage(0.0, kernel)]
    reverse = travel(
        path, back, home, 1.0, moves, generator, resample=resample, progress=lambda beta: tell(2)(1 - beta)
    )

    value, stderr = _mean(forward.log_weights, by_group=resample)
    minus, back_stderr = _mean(reverse.log_weights, by_group=resample)
    lower, upper = value - ERRORS * stderr, -minus + ERRORS * back_stderr
    if lower > upper:
        # The errors are larger than they seem, and neither run bounds the other: the bracket spans both.
        lower, upper = -minus - ERRORS * back_stderr, value + ERRORS * stderr
    return LogNormaliser(
        value=value,
        stderr=stderr,
        lower=lower,
        upper=upper,
        ess=float(effective_sample_size(forward.log_weights.flatten())),
        position=position,
        gradients=forward.gradients + reverse.gradients + spent * pilots / count,
    )


def _mean(log_weights: Tensor, *, by_group: bool) -> tuple[float, float]:
    """Log of the mean weight, and its standard error, over particles or over groups (which are equal within)."""
    terms = (log_weights[:, 0] if by_group else log_weights.flatten()).double()
    value = terms.logsumexp(dim=0) - math.log(len(terms))
    return float(value), float((terms - value).exp().std()) / math.sqrt(len(terms))

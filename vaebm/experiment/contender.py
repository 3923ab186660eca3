r"""Contenders: samplers of one model's noise, each with the same number of gradient evaluations a sample.

Chains of a kernel all start at the same positions, from the model's own start, of which each proposal's energy counts as
a gradient. A pilot learns the kernel's numbers (see `spending`), and its gradients are counted too; the contender `recipe`
is the recipe's own kernel as it stands. Positions on the way are kept at the shares `MARKS` of a chain's gradients.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from vaebm import sampling
from vaebm.experiment.mixing import Mixing, Watch, between_starts
from vaebm.experiment.spending import Advance, learn, spend, with_room
from vaebm.hybrid import VAEBM
from vaebm.hybrid.vaebm import CHAINS_AT_ONCE
from vaebm.sampling.kernel import Kernel, LogDensity
from vaebm.sampling.tempering import TemperingSettings

PILOT_SHARE = 0.1  # of all gradients, for learning
PILOT_CHAINS = 128
FEWEST_PILOTS, FEWEST_PILOT_GRADIENTS = 8, 40
MARKS = (0.05, 0.125, 0.25, 0.5)  # of a chain's gradients, where its position is looked at
GRADIENTS_A_RUNG = 25  # a longer ladder leaves each of its replicas too few


@dataclass(frozen=True)
class Terms:
    """What all contenders get alike.

    Attributes:
        model: frozen while they run.
        start: (n, dim), where chains begin.
        start_cost: evaluations that a start cost.
        probes: (2 p, dim), where the chains that tell about mixing begin: p of the model's starts, then p from data.
        gradients: to spend on a sample.
        watch: what is looked at of the probes.
        seed: of all draws.
    """

    model: VAEBM
    start: Tensor
    start_cost: int
    probes: Tensor
    gradients: int
    watch: Watch
    seed: int

    @property
    def target(self) -> LogDensity:
        """The log-density of positions."""
        return self.model.noise_log_density

    def generator(self, name: str, part: int = 0) -> torch.Generator:
        """Of one contender's own draws."""
        spread = sum(ord(letter) * 31**k for k, letter in enumerate(name)) % 1_000_003
        return torch.Generator(self.model.device).manual_seed(self.seed * 1_000_003 + spread + 7919 * part)


@dataclass(frozen=True)
class LogZ:
    """An estimate of log Z; the bracket is SMC's alone."""

    value: float
    stderr: float
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True)
class Course:
    """What a contender made of its budget.

    Attributes:
        samples: gradients spent on a sample, and positions (n, dim) there; the last is the end.
        acceptance: mean probability of taking a move (of kernels without an accept step: of the one left out), nan where no
            move fitted in; of a weighted population its effective share.
        mixing: None where there were too few steps to tell.
        seconds: that the samples took, the time for `mixing` not included.
        settings: the numbers it ran with.
        words: overrides that repeat it with `vaebm sample`; none where no recipe can say it.
        log_z: where it is estimated.
    """

    samples: list[tuple[int, Tensor]]
    acceptance: float
    mixing: Mixing | None
    seconds: float
    settings: dict[str, Any]
    words: list[str]
    log_z: LogZ | None = None


class Contender(Protocol):
    """A sampler that can spend a budget."""

    def work(self, terms: Terms) -> int:
        """Gradient evaluations that `run` will report, about."""
        ...

    def run(self, terms: Terms, advance: Advance) -> Course | None:
        """Spends it; None where the budget is too small for it."""
        ...


def short_ladder(gradients: int) -> Kernel:
    """Tempering of the energy with as many rungs as the gradients allow."""
    rungs = min(max(gradients // GRADIENTS_A_RUNG, 2), 8)
    betas = tuple(round(0.01 ** (k / (rungs - 1)), 4) for k in range(rungs))
    return TemperingSettings(betas=betas).build()


class KernelContender:
    """Chains of a kernel that `make` builds for so many gradients a sample."""

    def __init__(self, name: str, make: Callable[[int], Kernel], *, learns: bool = True) -> None:
        self.name, self.make, self.learns = name, make, learns

    def work(self, terms: Terms) -> int:
        return terms.gradients * (len(terms.start) + len(terms.probes))

    def run(self, terms: Terms, advance: Advance) -> Course:
        began = time.perf_counter()
        generator = terms.generator(self.name)
        kernel, shared, learning = self.make(terms.gradients), 0.0, {}
        if self.learns:
            kernel, shared, learning = self._learn(kernel, terms, generator, advance)
        overhead = terms.start_cost + math.ceil(shared)
        own = max(1, terms.gradients - overhead)
        kernel = with_room(kernel, own)
        marks = [max(1, round(share * terms.gradients)) for share in MARKS]
        traces = [
            spend(kernel, terms.target, part, own, generator, marks=marks, advance=advance)
            for part in terms.start.split(CHAINS_AT_ONCE)
        ]
        seconds = time.perf_counter() - began
        looks = zip(*(trace.marks for trace in traces), strict=False)
        samples = [(overhead + round(sum(g for g, _ in look) / len(look)), torch.cat([x for _, x in look])) for look in looks]
        samples.append((overhead + max(trace.gradients for trace in traces), torch.cat([trace.position for trace in traces])))
        rows = [len(trace.position) for trace in traces]
        acceptance = sum(trace.acceptance * n for trace, n in zip(traces, rows, strict=True)) / sum(rows)
        diverged = sum(trace.diverged * n for trace, n in zip(traces, rows, strict=True)) / sum(rows)
        probe = spend(kernel, terms.target, terms.probes, own, generator, watch=terms.watch, advance=advance)
        mixing = None
        if probe.history is not None and probe.energies is not None:
            mixing = between_starts(probe.history, probe.energies, terms.watch, samples[-1][0])
        steps = 0 if probe.history is None else len(probe.history)
        settings = {"steps": steps, **_numbers(kernel), **learning, "start": terms.start_cost, "diverged": diverged}
        kind = terms.model.settings.sampler.kind if self.name == "recipe" else self.name
        return Course(samples, acceptance, mixing, seconds, settings, _words(kind, kernel, steps))

    def _learn(
        self, kernel: Kernel, terms: Terms, generator: torch.Generator, advance: Advance
    ) -> tuple[Kernel, float, dict[str, Any]]:
        """The kernel, gradients a sample that it cost, and what to say of it."""
        n = len(terms.start)
        most = PILOT_SHARE * terms.gradients * n
        chains = int(min(PILOT_CHAINS, n, max(FEWEST_PILOTS, most / (2 * terms.gradients))))
        gradients = int(max(FEWEST_PILOT_GRADIENTS, min(most / chains, 4 * terms.gradients)))
        kernel, spent = learn(kernel, terms.target, terms.start[:chains], gradients, generator, advance)
        return kernel, spent * chains / n, {"pilot_chains": chains, "pilot_gradients": spent}


def _numbers(kernel: Kernel) -> dict[str, Any]:
    """A kernel's numbers as JSON; the mass is 1."""
    numbers: dict[str, Any] = {}
    for field in dataclasses.fields(kernel):  # type: ignore[arg-type]
        value = getattr(kernel, field.name)
        if isinstance(value, Tensor):
            value = value.tolist()
        if dataclasses.is_dataclass(value):
            value = type(value).__name__.lower()
        if field.name != "inverse_mass" and value is not None:
            numbers[field.name] = list(value) if isinstance(value, tuple) else value
    return numbers


def _words(kind: str, kernel: Kernel, steps: int) -> list[str]:
    """Overrides of the recipe; a ladder's step sizes it has to learn anew."""
    words = [f"sampler.kind={kind}", f"sampler.steps={max(1, steps)}"]
    if isinstance(kernel, sampling.KERNELS["tempering"]):
        betas = ",".join(f"{beta:.4g}" for beta in _numbers(kernel)["betas"])
        return [*words, "sampler.warmup=19", f"'sampler.betas=[{betas}]'"]
    numbers = _numbers(kernel)
    said = [name for name in ("step_size", "leapfrogs", "decoherence", "friction") if name in numbers]
    return [*words, "sampler.warmup=0", *(f"sampler.{name}={numbers[name]:.4g}" for name in said)]

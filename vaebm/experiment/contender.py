r"""Contenders: samplers of one model's noise, each with the same number of gradient evaluations a sample.

Chains of a kernel all start at the same positions, samples of the model without E_x. A pilot learns the kernel's
numbers (see `spending`), and its gradients are counted too. The contender `recipe` is the recipe's own sampler: its
kernel, learned only if the recipe gives it a warm-up, and its start, each of whose proposals counts as a gradient.
Positions on the way are kept at the shares `MARKS` of a chain's gradients.
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
from vaebm.experiment.spending import Advance, Trace, learn, spend, with_room
from vaebm.models import CHAINS_AT_ONCE, NoiseSpaceModel
from vaebm.sampling.kernel import Kernel, LogDensity
from vaebm.sampling.mala import MALA
from vaebm.sampling.tempering import Tempering

PILOT_SHARE = 0.1  # of all gradients, for learning
PILOT_CHAINS = 128
MIN_PILOTS, MIN_PILOT_GRADIENTS = 8, 40
MARKS = (0.05, 0.125, 0.25, 0.5)  # of a chain's gradients, where its position is looked at
GRADIENTS_A_RUNG = 25  # a longer ladder leaves each of its replicas too few


@dataclass(frozen=True)
class Terms:
    """What all contenders get alike.

    Attributes:
        model: frozen while they run.
        start: (n, dim), where chains begin: samples of the model without E_x.
        probes: (2 p, dim), where the chains that tell about mixing begin: p such samples, then p from data.
        gradients: to spend on a sample.
        watch: what is looked at of the probes.
        seed: of all draws.
    """

    model: NoiseSpaceModel
    start: Tensor
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
        acceptance: mean probability of taking a move (of kernels without an accept step: of the one left out), nan
        where no
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
    return Tempering(MALA(), betas, "energy")


class KernelContender:
    """Chains of a kernel that `make` builds for so many gradients a sample.

    Args:
        name: of the sampler.
        make: gives the kernel.
        learns: whether a pilot learns its numbers.
        own_start: whether chains begin as the recipe says instead of where those of the others do.
    """

    def __init__(
        self, name: str, make: Callable[[int], Kernel], *, learns: bool = True, own_start: bool = False
    ) -> None:
        self.name, self.make, self.learns, self.own_start = name, make, learns, own_start

    def work(self, terms: Terms) -> int:
        return terms.gradients * (len(terms.start) + len(terms.probes))

    def run(self, terms: Terms, advance: Advance) -> Course | None:
        cost = start_cost(terms.model) if self.own_start else 0
        if cost >= terms.gradients:
            return None
        began = time.perf_counter()
        generator = terms.generator(self.name)
        start = terms.model.start(len(terms.start), generator) if cost else terms.start
        kernel, shared, learning = self._learn(self.make(terms.gradients), start, terms, generator, advance)
        overhead = cost + math.ceil(shared)
        own = max(1, terms.gradients - overhead)
        kernel = with_room(kernel, own)
        marks = [max(1, round(share * terms.gradients)) for share in MARKS]
        traces = [
            spend(kernel, terms.target, part, own, generator, marks=marks, advance=advance)
            for part in start.split(CHAINS_AT_ONCE)
        ]
        seconds = time.perf_counter() - began
        settings = {**_numbers(kernel), **learning, "start_cost": cost, "diverged": _mean(traces, "diverged")}
        probe, mixing = self._probe(kernel, own, start, terms, generator, advance)
        words = _words(terms.model.settings.sampler.kind if self.name == "recipe" else self.name, kernel, probe.steps)
        if not self.own_start and start_cost(terms.model):
            words.append("init.importance_samples=1")
        return Course(
            _looks(traces, overhead),
            _mean(traces, "acceptance"),
            mixing,
            seconds,
            {"steps": probe.steps, **settings},
            words,
        )

    def _probe(
        self, kernel: Kernel, own: int, start: Tensor, terms: Terms, generator: torch.Generator, advance: Advance
    ) -> tuple[Trace, Mixing | None]:
        half = len(terms.probes) // 2
        probes = torch.cat([start[-half:], terms.probes[half:]])
        trace = spend(kernel, terms.target, probes, own, generator, watch=terms.watch, advance=advance)
        if trace.history is None or trace.energies is None:
            return trace, None
        return trace, between_starts(trace.history, trace.energies, terms.watch, trace.gradients / trace.steps)

    def _learn(
        self, kernel: Kernel, start: Tensor, terms: Terms, generator: torch.Generator, advance: Advance
    ) -> tuple[Kernel, float, dict[str, Any]]:
        """The kernel, gradients a sample that it cost, and what to say of it."""
        if not self.learns:
            return kernel, 0.0, {}
        n = len(start)
        most = PILOT_SHARE * terms.gradients * n
        chains = int(min(PILOT_CHAINS, n, max(MIN_PILOTS, most / (2 * terms.gradients))))
        gradients = int(max(MIN_PILOT_GRADIENTS, min(most / chains, 4 * terms.gradients)))
        kernel, spent = learn(kernel, terms.target, start[:chains], gradients, generator, advance)
        return kernel, spent * chains / n, {"pilot_chains": chains, "pilot_gradients": spent}


def start_cost(model: NoiseSpaceModel) -> int:
    """Energies that the recipe's own start evaluates for a chain."""
    proposals = model.settings.init.importance_samples
    return proposals if proposals > 1 and model.corrects else 0


def _looks(traces: list[Trace], overhead: int) -> list[tuple[int, Tensor]]:
    """Of all batches of chains together: gradients spent on a sample, and positions."""
    ends = [[*trace.marks, (trace.gradients, trace.position)] for trace in traces]
    fewest = min(len(looks) for looks in ends)  # trajectories of random length may pass over a mark
    together = [looks[: fewest - 1] + looks[-1:] for looks in ends]
    return [
        (overhead + round(sum(spent for spent, _ in look) / len(look)), torch.cat([x for _, x in look]))
        for look in zip(*together, strict=True)
    ]


def _mean(traces: list[Trace], name: str) -> float:
    """Over all chains."""
    rows = [len(trace.position) for trace in traces]
    return float(sum(getattr(trace, name) * n for trace, n in zip(traces, rows, strict=True)) / sum(rows))


def _numbers(kernel: Kernel) -> dict[str, Any]:
    """A kernel's numbers as JSON; the mass is 1."""
    numbers: dict[str, Any] = {}
    for field in dataclasses.fields(kernel):
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
    said = [name for name in ("step_size", "num_leapfrog_steps", "decoherence", "friction") if name in numbers]
    return [*words, "sampler.warmup=0", *(f"sampler.{name}={numbers[name]:.4g}" for name in said)]

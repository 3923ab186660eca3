"""A candidate: a sampler that spends a given number of gradient evaluations on each sample.

`kernel_candidate` runs chains of a kernel, `particles` importance sampling and SMC. All draw in the model's noise space
and get the same setup.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from zlib import crc32

import torch
from torch import Tensor

from vaebm.comparison.mixing import Mixing, TestFunctions
from vaebm.models import NoiseSpaceModel
from vaebm.sampling import LogDensity

Advance = Callable[[int], None]
"""Told how many gradient evaluations have just been spent."""


@dataclass(frozen=True, eq=False)
class Setup:
    """What all candidates get.

    Attributes:
        model: frozen while they run.
        start: (n, dim), draws of the base, where chains begin.
        probes: (2 p, dim), where the chains that tell about mixing begin: p such draws, then p from data.
        gradients: evaluations to spend on a sample.
        functions: of a position, whose mixing is assessed.
        seed: of all draws.
    """

    model: NoiseSpaceModel
    start: Tensor
    probes: Tensor
    gradients: int
    functions: TestFunctions
    seed: int

    @property
    def target(self) -> LogDensity:
        """log h of positions (B, dim), to (B,)."""
        return self.model.noise_log_density

    def generator(self, name: str, part: int = 0) -> torch.Generator:
        """For one candidate's own draws."""
        return torch.Generator(self.model.device).manual_seed(crc32(f"{self.seed} {name} {part}".encode()))


class LogZ(NamedTuple):
    """An estimate of log Z, in nats; only SMC gives the bracket."""

    value: float
    stderr: float
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True, eq=False)
class SamplerRun:
    """What a candidate made of its budget.

    Attributes:
        samples: gradients spent on a sample, and positions (n, dim) there; the last is the end.
        acceptance: mean probability of taking a move (for an unadjusted kernel, with which an accept step would have
            taken it), nan without a move; for a weighted population its effective fraction.
        moved: fraction of the samples that are not where they began.
        mixing: None where there were too few steps to tell.
        seconds: that the samples took, without the time for `mixing`.
        settings: the numbers it ran with.
        overrides: repeat it with `vaebm sample`; none where no recipe can say it.
        log_z: where it is estimated.
    """

    samples: list[tuple[int, Tensor]]
    acceptance: float
    mixing: Mixing | None
    seconds: float
    moved: float = 1.0
    settings: dict[str, Any] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    log_z: LogZ | None = None


class Candidate(ABC):
    """A sampler that can be run for a budget; `name` in `samplers.json`, `label` in sentences."""

    name: str
    label: str

    def evaluations(self, setup: Setup) -> int:
        """How many gradient evaluations `run` will report, about."""
        return setup.gradients * len(setup.start)

    @abstractmethod
    def run(self, setup: Setup, advance: Advance) -> SamplerRun | None:
        """Spends the budget; None where it is too small."""

r"""MALA: the Metropolis-adjusted Langevin algorithm.

A Langevin move (see `langevin`) with an accept step, so that $p^{1/T}$ is exactly invariant at any step size. In high
dimension the best acceptance is 0.574.

Reference: Roberts and Rosenthal, Optimal scaling of discrete approximations to Langevin diffusions, JRSS B 60, 1998.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vaebm.sampling.adaptation.warmup import Adjusted
from vaebm.sampling.kernel import ChainState, LogDensity, RunLength, StepInfo, number
from vaebm.sampling.langevin import langevin_move
from vaebm.sampling.metropolis import metropolis


@dataclass(frozen=True, eq=False)
class MALA(Adjusted):
    """Langevin moves with an accept step."""

    kind: ClassVar[str] = "mala"
    label: ClassVar[str] = "MALA"
    kinetic: ClassVar[bool] = False
    run_length: ClassVar[RunLength] = RunLength(warmup=100)

    step_size: float | Tensor = number(0.01, "eta of the Langevin move, where a warm-up starts", gt=0)
    temperature: float = number(1.0, "T of the sampled density p^(1/T)", gt=0)
    target_acceptance: float = number(0.574, "mean acceptance that a warm-up aims at", gt=0, lt=1, kw_only=True)

    def step(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> tuple[ChainState, StepInfo]:
        proposed, log_ratio = langevin_move(
            state, target, generator, self.step_size, self.temperature, self.inverse_mass
        )
        return metropolis(state, proposed, log_ratio, generator)

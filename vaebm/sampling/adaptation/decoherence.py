r"""Decoherence length: how far a microcanonical chain goes before it has forgotten its direction.

    $$ L = 0.4\; h\; \bar \tau $$

with the step size $h$ and the integrated autocorrelation time $\bar \tau$ in steps, averaged over coordinates (the
length travelled per independent sample, times 0.4). Of many coordinates and chains a fixed random choice is looked
at. It is measured in the last mass window, whose mass the step size has settled on.

Reference: Robnik, De Luca, Silverstein and Seljak, Microcanonical Hamiltonian Monte Carlo, JMLR 24, 2023, section 4.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vaebm.sampling.adaptation.warmup import StepSizeWarmUp, Unadjusted
from vaebm.sampling.diagnostics import integrated_time
from vaebm.sampling.kernel import ChainState, LogDensity, StepInfo, WarmUp, number

FACTOR = 0.4
MAX_COORDINATES = 32
MAX_CHAINS = 64


@dataclass(frozen=True, eq=False)
class DecoherenceKernel(Unadjusted):
    """A kernel that forgets its direction over the decoherence length."""

    decoherence: float = number(1.0, "decoherence length over the square root of the dimension", gt=0)

    def warm_up(self, steps: int, gradients: float = math.inf) -> WarmUp:
        return DecoherenceWarmUp(self, steps, gradients)


class DecoherenceWarmUp(StepSizeWarmUp[DecoherenceKernel]):
    """Learns step size, mass and decoherence length."""

    def __init__(self, kernel: DecoherenceKernel, steps: int, gradients: float = math.inf) -> None:
        super().__init__(kernel, steps, gradients)
        self.seen: list[Tensor] = []
        self.coordinates: Tensor | None = None

    def advance(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> tuple[ChainState, StepInfo]:
        moved, info = self.kernel.step(state, target, generator)
        if len(self.ends) > 1 and self.ends[-2] <= self.done < self.ends[-1]:
            dim = state.position.shape[1]
            if self.coordinates is None:
                order = torch.randperm(dim, device=generator.device, generator=generator)
                self.coordinates = order[:MAX_COORDINATES]
            self.seen.append(moved.position[:MAX_CHAINS, self.coordinates])
        return moved, info

    def close_window(self) -> None:
        if self.done == self.ends[-1]:
            steps = float(integrated_time(torch.stack(self.seen)).nanmean().clamp(min=1))
            dim = self.variance.mean.shape[0] if self.variance.mean is not None else 1
            length = FACTOR * float(self.kernel.step_size) * steps
            if math.isfinite(length):  # chains have moved
                self.kernel = replace(self.kernel, decoherence=length / math.sqrt(dim))
            self.seen = []
        super().close_window()

r"""Block Gibbs: two blocks of coordinates move in turn, each given the other.

    $$ x = (a, b): \qquad a' \sim K_{p(\cdot \mid b)}(a, \cdot), \qquad b' \sim L_{p(\cdot \mid a')}(b, \cdot) $$

A half leaves $p$ invariant where its kernel leaves its target invariant. In a VAE's noise space the blocks are the
codes' noise and the pixels': each has an accept step, a step size and a mass of its own, so that a code may move far
while the pixels rest. Two gradients join the halves, besides those of the two kernels. A warm-up warms up both.

Reference: Geman & Geman, Stochastic relaxation, Gibbs distributions, and the Bayesian restoration of images, IEEE PAMI
6, 1984, https://doi.org/10.1109/TPAMI.1984.4767596
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from vaebm.sampling.adaptation.warmup import Tunable
from vaebm.sampling.hmc import HMC
from vaebm.sampling.kernel import ChainState, Kernel, LogDensity, RunLength, StepInfo, WarmUp, evaluate, number
from vaebm.sampling.langevin import MALA

Step = Callable[[ChainState, LogDensity, torch.Generator], tuple[ChainState, StepInfo]]
INNER: dict[str, type[Tunable]] = {kernel.kind: kernel for kernel in (MALA, HMC)}


@dataclass(frozen=True, eq=False)
class BlockGibbs(Kernel):
    """One kernel for the first coordinates, one for the others; without others, the first alone."""

    kind: ClassVar[str] = "block_gibbs"
    label: ClassVar[str] = "block Gibbs"
    adjusted: ClassVar[bool] = True
    run_length: ClassVar[RunLength] = RunLength(warmup=100, gradients=1000)
    recipe_fields: ClassVar[Mapping[str, tuple[Any, Any]]] = {
        "kernel": (Literal["mala", "hmc"], Field("mala", description="moves either block")),
        "step_size": (float, Field(0.1, gt=0, description="of both kernels, where a warm-up starts")),
    }

    split: int = number(1, "coordinates of the first block, such as vae.latent_dim for the codes", ge=1)
    first: Kernel = field(default_factory=MALA, kw_only=True)
    second: Kernel = field(default_factory=MALA, kw_only=True)

    @classmethod
    def build(cls, numbers: Mapping[str, Any], inverse_mass: float | Tensor) -> Self:
        split = numbers["split"]
        of_first, of_second = (
            (inverse_mass[..., :split], inverse_mass[..., split:])
            if isinstance(inverse_mass, Tensor)
            else (inverse_mass, inverse_mass)
        )
        kernel = INNER[numbers["kernel"]](step_size=numbers["step_size"], inverse_mass=of_first)
        return cls(split, first=kernel, second=replace(kernel, inverse_mass=of_second))

    @property
    def gradients_per_step(self) -> float:
        return 2 + self.first.gradients_per_step + self.second.gradients_per_step

    def within(self, gradients: float) -> Self:
        each = (gradients - 2) / 2
        first, second = self.first.within(each), self.second.within(each)
        same = first is self.first and second is self.second
        return self if same else replace(self, first=first, second=second)

    def step(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> tuple[ChainState, StepInfo]:
        return self.sweep(state, target, generator, self.first.step, self.second.step)

    def sweep(
        self, state: ChainState, target: LogDensity, generator: torch.Generator, first: Step, second: Step
    ) -> tuple[ChainState, StepInfo]:
        """Both halves."""
        state, info = self._half(state, target, generator, first, slice(0, self.split))
        if self.split >= state.position.shape[1]:
            return state, info
        state, other = self._half(state, target, generator, second, slice(self.split, None))
        return state, StepInfo(
            (info.acceptance + other.acceptance) / 2,
            info.accepted | other.accepted,
            info.diverged | other.diverged,
            info.gradients + other.gradients,
        )

    def _half(
        self, state: ChainState, target: LogDensity, generator: torch.Generator, step: Step, block: slice
    ) -> tuple[ChainState, StepInfo]:
        whole = state.position
        given = _GivenTheOther(target, whole, block)
        moved, info = step(ChainState(whole[:, block], state.log_density, state.score[:, block]), given, generator)
        position = given.joined(moved.position)
        log_density, score = evaluate(target, position)
        return ChainState(position, log_density, score), info._replace(gradients=info.gradients + 1)

    def warm_up(self, steps: int, gradients: float = math.inf) -> WarmUp:
        return _BothWarmUps(self, steps, gradients)


class _GivenTheOther:
    """The target as a function of one block."""

    def __init__(self, target: LogDensity, whole: Tensor, block: slice) -> None:
        self.target, self.whole, self.block = target, whole, block

    def joined(self, part: Tensor) -> Tensor:
        """(chain, dim) of a block."""
        position = self.whole.clone()
        position[:, self.block] = part
        return position

    def __call__(self, part: Tensor) -> Tensor:
        return self.target(self.joined(part))

    def value_and_score(self, part: Tensor) -> tuple[Tensor, Tensor]:
        log_density, score = evaluate(self.target, self.joined(part))
        return log_density, score[:, self.block]


class _BothWarmUps(WarmUp):
    kernel: BlockGibbs

    def __init__(self, kernel: BlockGibbs, steps: int, gradients: float) -> None:
        super().__init__(kernel)
        self.halves = [half.warm_up(steps, gradients / 2) for half in (kernel.first, kernel.second)]

    def step(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> tuple[ChainState, StepInfo]:
        return self.kernel.sweep(state, target, generator, self.halves[0].step, self.halves[1].step)

    def finish(self) -> Kernel:
        first, second = (half.finish() for half in self.halves)
        return replace(self.kernel, first=first, second=second)

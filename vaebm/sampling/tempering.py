r"""Tempering: replica exchange on a ladder of temperatures, around any kernel.

Each chain is a ladder of replicas; replica k samples a flatter target $p_k$ with inverse temperature $\beta_k$, where
$1 = \beta_1 > \ldots > \beta_K > 0$, and only the first is the sample.

    | path    | $\log p_k$                            | $\phi$                        |
    | ------- | ------------------------------------- | ----------------------------- |
    | density | $\beta_k \log p(x)$                   | $\log p(x)$                   |
    | energy  | $-\tfrac12 |x|^2 + \beta_k \phi(x)$   | $\log p(x) + \tfrac12 |x|^2$  |

On the second path, in noise space, only the energy is tempered, and towards the hot end stands the prior. After each
step of the inner kernel neighbours may swap (see `replicas`), which leaves the product of the $p_k$ invariant. All
replicas are one batch, and each rung has its own step size: the inner kernel's over $\beta$ (over $\sqrt\beta$ for a
kinetic one), or after a warm-up what gives each rung its target acceptance. The warm-up also moves the temperatures
between the ends to equal swap rates (see `adaptation.ladder`).

Reference: Geyer, Markov chain Monte Carlo maximum likelihood, 1991.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from vaebm.sampling.adaptation.ladder import LadderKernel
from vaebm.sampling.adaptation.warmup import Tunable
from vaebm.sampling.hmc import HMC
from vaebm.sampling.kernel import ChainState, LogDensity, RunLength, StepInfo, evaluate, number, start, sum_over_dim
from vaebm.sampling.langevin import MALA, Langevin
from vaebm.sampling.replicas import Exchange, Replicas, cold_info, exchange, replicate, swap, unpack
from vaebm.sampling.underdamped import Underdamped

GEOMETRIC = tuple(round(0.01 ** (k / 7), 4) for k in range(8))


def falling(betas: tuple[float, ...]) -> tuple[float, ...]:
    """The ladder, which has to fall from 1 to a positive number."""
    if len(betas) < 2:
        raise ValueError(f"betas has {len(betas)} rungs; a ladder needs at least 2")
    if betas[0] != 1:
        raise ValueError(f"betas begins with {betas[0]}; the cold end has to be 1")
    for k, beta in enumerate(betas):
        if not beta > 0:
            raise ValueError(f"betas[{k}] is {beta}; inverse temperatures have to be above 0")
        if k and not beta < betas[k - 1]:
            raise ValueError(f"betas[{k}] is {beta} after {betas[k - 1]}; inverse temperatures have to fall")
    return betas


INNER: dict[str, type[Tunable]] = {kernel.kind: kernel for kernel in (Langevin, Underdamped, MALA, HMC)}


@dataclass(frozen=True, eq=False)
class Tempering(LadderKernel):
    """Replica exchange; the state carries the replicas, and what the inner kernel carries of them."""

    kind: ClassVar[str] = "tempering"
    label: ClassVar[str] = "tempering"
    run_length: ClassVar[RunLength] = RunLength(warmup=100, gradients=1000)
    recipe_fields: ClassVar[Mapping[str, tuple[Any, Any]]] = {
        "kernel": (Literal["langevin", "underdamped", "mala", "hmc"], Field("mala", description="moves the replicas")),
        "step_size": (float, Field(0.01, gt=0, description="the inner kernel's at beta = 1, where a warm-up starts")),
    }

    kernel: Tunable = field(default_factory=MALA)
    betas: Annotated[tuple[float, ...], AfterValidator(falling)] = number(
        GEOMETRIC, "inverse temperatures, falling from 1"
    )
    path: Literal["density", "energy"] = number(
        "density", "what is tempered; energy: the hot end is the prior", recipe_default="energy"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        falling(self.betas)

    @classmethod
    def build(cls, numbers: Mapping[str, Any], inverse_mass: float | Tensor) -> Self:
        own = {name: value for name, value in numbers.items() if name not in cls.recipe_fields}
        return cls(INNER[numbers["kernel"]](step_size=numbers["step_size"], inverse_mass=inverse_mass), **own)

    @property
    def adjusted(self) -> bool:
        return self.kernel.adjusted

    @property
    def gradients_per_step(self) -> float:
        return len(self.betas) * self.kernel.gradients_per_step

    def within(self, gradients: float) -> Self:
        kernel = self.kernel.within(gradients / len(self.betas))
        return self if kernel is self.kernel else replace(self, kernel=kernel)

    def init(self, position: Tensor, target: LogDensity) -> ChainState:
        state = start(position, target)
        return state._replace(carried=tuple(replicate(state, len(self.betas))))

    def step(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> tuple[ChainState, StepInfo]:
        state, info = self.advance(state, target, generator)
        return state, cold_info(info)

    def advance(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> tuple[ChainState, StepInfo]:
        replicas, inner = unpack(state)
        betas = torch.tensor(self.betas, dtype=state.position.dtype, device=state.position.device)
        replicas, inner, info = self._move(replicas, inner, betas, target, generator)
        phi = replicas.log_density
        if self.path == "energy":
            phi = phi + (sum_over_dim(replicas.position.flatten(0, 1).square()) / 2).reshape(phi.shape)
        replicas, inner = swap(replicas, inner, betas, phi, generator)
        cold = replicas.position[:, 0], replicas.log_density[:, 0], replicas.score[:, 0]
        shape = phi.shape
        every = StepInfo(
            info.acceptance.reshape(shape),
            info.accepted.reshape(shape),
            info.diverged.reshape(shape),
            len(self.betas) * info.gradients,
            None if info.outside is None else info.outside.reshape(shape),
        )
        return ChainState(*cold, carried=(*replicas, *inner)), every

    def _move(
        self,
        replicas: Replicas,
        inner: tuple[Tensor, ...],
        betas: Tensor,
        target: LogDensity,
        generator: torch.Generator,
    ) -> tuple[Replicas, tuple[Tensor, ...], StepInfo]:
        chains, rungs, dim = replicas.position.shape
        tempered = Tempered(target, betas.repeat(chains), self.path)
        position = replicas.position.flatten(0, 1)
        values = tempered.heat(position, replicas.log_density.flatten(), replicas.score.flatten(0, 1))
        step_sizes = self.rung_step_sizes(position).repeat(chains)[:, None]
        moved, info = replace(self.kernel, step_size=step_sizes).step(
            ChainState(position, *values, inner), tempered, generator
        )
        # The untempered values follow from the tempered ones, which spares evaluating the target again.
        log_density, score = tempered.cool(moved.position, moved.log_density, moved.score)
        replicas = replicas._replace(
            position=moved.position.reshape(chains, rungs, dim),
            log_density=log_density.reshape(chains, rungs),
            score=score.reshape(chains, rungs, dim),
        )
        return replicas, moved.carried, info

    def exchange(self, state: ChainState) -> Exchange:
        """How well the replicas have travelled."""
        return exchange(state)


class Tempered:
    """log p_k of every row, at inverse temperatures `beta` (row,); its score follows from the target's."""

    def __init__(self, target: LogDensity, beta: Tensor, path: Literal["density", "energy"]) -> None:
        self.target, self.beta, self.rest = target, beta, None if path == "density" else 1 - beta

    def heat(self, position: Tensor, log_density: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
        """From the target's values (row,) and scores (row, dim) to those of log p_k."""
        value, slope = self.beta * log_density, self.beta[:, None] * score
        if self.rest is None:
            return value, slope
        return value - self.rest / 2 * sum_over_dim(position.square()), slope - self.rest[:, None] * position

    def cool(self, position: Tensor, log_density: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
        """The way back, in place."""
        if self.rest is not None:
            log_density += self.rest / 2 * sum_over_dim(position.square())
            score += self.rest[:, None] * position
        return log_density.div_(self.beta), score.div_(self.beta[:, None])

    def __call__(self, position: Tensor) -> Tensor:
        return self.value_and_score(position)[0]

    def value_and_score(self, position: Tensor) -> tuple[Tensor, Tensor]:
        return self.heat(position, *evaluate(self.target, position))

r"""Kernel: the contract between a target, a Markov kernel and whoever runs the chains.

A *target* is any log-density up to a constant, $(\text{chain}, \text{dim}) \to (\text{chain},)$, each chain on its
own. A *kernel* is a frozen dataclass of numbers with a pure `step`; it moves all chains in lockstep and holds no
chain itself. What the next step needs (position, log-density, score $\nabla \log p$, and whatever else the kernel
carries) is a `ChainState`; what a person wants to see of a step is a `StepInfo`. Warm-up learns the numbers and
returns another kernel.

A kernel is *adjusted* where it has an accept step, so that the target is exactly invariant; an unadjusted kernel is
not exact, and its `acceptance` is the probability with which an accept step *would* have taken the move: the closer
to 1, the smaller its bias.

Conventions shared by all kernels:

- an overdamped step of size $\eta$ drifts by $\tfrac{\eta}{2}\,\nabla \log p$ and adds noise of variance $\eta\,T$;
  a kinetic step of size $h$ moves for the time $h$, and $h^2$ plays the part of $\eta$;
- `inverse_mass` is the diagonal of $M^{-1}$, in units of position squared: moves are larger along the coordinates
  where it is larger;
- step sizes and inverse masses are numbers, or tensors that broadcast with (chain, dim), such as one step size a
  chain, (chain, 1).
"""

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache, reduce
from numbers import Real
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self, TypeVar, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

ValueT = TypeVar("ValueT")
COMPARISONS: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "gt": (operator.gt, "above"),
    "ge": (operator.ge, "of at least"),
    "lt": (operator.lt, "below"),
    "le": (operator.le, "of at most"),
}

LogDensity = Callable[[Tensor], Tensor]
"""(chain, dim) -> (chain,): log-density up to a constant."""


class ChainState(NamedTuple):
    """Where the chains are.

    Attributes:
        position: (chain, dim).
        log_density: (chain,), the target at `position`, up to its constant.
        score: (chain, dim), the gradient of `log_density`.
        carried: what else the kernel keeps between steps (a momentum, hot replicas); every tensor has the chains as
            its first axis.
    """

    position: Tensor
    log_density: Tensor
    score: Tensor
    carried: tuple[Tensor, ...] = ()


class StepInfo(NamedTuple):
    """What one step did.

    Attributes:
        acceptance: (chain,) in [0, 1], probability of the accept step (for unadjusted kernels: of the one that was
            left out).
        accepted: (chain,) bool, whether the chain moved.
        diverged: (chain,) bool, whether the move was refused for a value that is not finite.
        gradients: gradient evaluations that the step cost each chain.
        outside: (chain,) bool, whether the move was refused because the target has no density where it led; no smaller
            step size would have spared this refusal. None where the kernel does not tell.
    """

    acceptance: Tensor
    accepted: Tensor
    diverged: Tensor
    gradients: int = 1
    outside: Tensor | None = None


class RunLength(NamedTuple):
    """How long the chains of a recipe run, unless it says otherwise; see `SamplerSettings`."""

    steps: int = 100
    warmup: int = 0
    gradients: int | None = None


class Number(NamedTuple):
    """What is declared of one of a kernel's numbers: its meaning, its bounds, and its default in a recipe."""

    description: str
    bounds: Mapping[str, float]
    recipe_default: Any
    in_recipe: bool


def number(
    default: ValueT,
    description: str,
    *,
    recipe_default: ValueT | None = None,
    in_recipe: bool = True,
    kw_only: bool = False,
    **bounds: float,
) -> ValueT:
    """A field of a kernel, declared once: the settings of recipes follow from it.

    Args:
        default: of the kernel; a recipe has the same unless `recipe_default` is given.
        description: a phrase for recipes and editors.
        in_recipe: whether a recipe can say it.
        kw_only: whether Python has to name it.
        bounds: `gt`, `ge`, `lt`, `le`; tensors are not checked, since reading one would wait for its device.
    """
    declared = Number(description, bounds, default if recipe_default is None else recipe_default, in_recipe)
    return field(default=default, kw_only=kw_only, metadata={Number: declared})


@dataclass(frozen=True, eq=False)
class Kernel(ABC):
    """A Markov kernel: numbers, and what they do to chains.

    A new kernel derives from this as a frozen dataclass, declares each of its numbers by `number`, and is registered by
    `KERNELS.register`; recipes, tables and sentences then know it.
    """

    kind: ClassVar[str]
    """The name in recipes."""
    label: ClassVar[str]
    """The name in sentences."""
    run_length: ClassVar[RunLength] = RunLength()
    recipe_fields: ClassVar[Mapping[str, tuple[Any, Any]]] = {}
    """What else a recipe can say, by name: the type and the pydantic field."""

    def __post_init__(self) -> None:
        for name, bounds, choices in _declared(type(self)):
            value = getattr(self, name)
            if choices and value not in choices:
                raise ValueError(f"{name} is {value!r}; it has to be one of {', '.join(map(repr, choices))}")
            if bounds and not isinstance(value, Tensor):
                _check_bounds(name, value, bounds)

    @classmethod
    def build(cls, numbers: Mapping[str, Any], inverse_mass: float | Tensor) -> Self:
        """The kernel with the numbers of a recipe; `inverse_mass` scales its moves where it has such a number."""
        own = {"inverse_mass": inverse_mass} if "inverse_mass" in cls.__dataclass_fields__ else {}
        return cls(**numbers, **own)

    @property
    @abstractmethod
    def adjusted(self) -> bool:
        """Whether there is an accept step, so that the target is exactly invariant."""

    @property
    def gradients_per_step(self) -> float:
        """Gradient evaluations that one step costs each chain, on average."""
        return 1.0

    def within(self, gradients: float) -> Self:
        """The kernel, or, where it can be made cheaper, one whose step costs at most `gradients`."""
        return self

    def init(self, position: Tensor, target: LogDensity) -> ChainState:
        """The state of chains at `position`, (chain, dim); one gradient evaluation of each chain."""
        return start(position, target)

    @abstractmethod
    def step(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> tuple[ChainState, StepInfo]:
        """One step of every chain."""

    def warm_up(self, steps: int, gradients: float = math.inf) -> "WarmUp":
        """What learns this kernel's numbers over `steps` steps, for `gradients` evaluations a chain in all."""
        return WarmUp(self)


def _check_bounds(name: str, value: Any, bounds: Mapping[str, float]) -> None:
    if (
        isinstance(value, Real)
        and math.isfinite(value)
        and all(COMPARISONS[bound][0](value, limit) for bound, limit in bounds.items())
    ):
        return
    wanted = " and ".join(f"{COMPARISONS[bound][1]} {limit}" for bound, limit in bounds.items())
    raise ValueError(f"{name} is {value}; it has to be a finite number {wanted}")


@cache
def _declared(kernel: type[Kernel]) -> list[tuple[str, Mapping[str, float], tuple[str, ...]]]:
    """Names of the numbers, with their bounds, and with their choices where they are words."""
    hints = get_type_hints(kernel)
    return [
        (
            each.name,
            each.metadata[Number].bounds,
            get_args(hints[each.name]) if get_origin(hints[each.name]) is Literal else (),
        )
        for each in fields(kernel)
        if Number in each.metadata
    ]


class WarmUp:
    """Steps like a kernel, and learns its numbers from what it sees: here nothing, the chains only reach the target."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def step(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> tuple[ChainState, StepInfo]:
        """One step of every chain with the kernel as learned so far."""
        return self.kernel.step(state, target, generator)

    def finish(self) -> Kernel:
        """The kernel as learned."""
        return self.kernel


class Scored(Protocol):
    """A target that knows its own score, which `evaluate` then takes."""

    def __call__(self, position: Tensor, /) -> Tensor:
        """(chain, dim) -> (chain,)."""
        ...

    def value_and_score(self, position: Tensor, /) -> tuple[Tensor, Tensor]:
        """What `evaluate` returns, for positions that may be infinite or nan."""
        ...


class Unsuitable(ValueError):
    """The kernel cannot take a step on so few dimensions, or within so few gradients."""


class NotFinite(ValueError):
    """Chains cannot start: a position, log-density or score is not finite there."""


def evaluate(target: LogDensity | Scored, position: Tensor) -> tuple[Tensor, Tensor]:
    """Log-density and score of a target.

    Only the gradient with respect to the position is computed, under `torch.inference_mode` too: freeze the target's
    weights, or their graph is built for nothing. The log-density keeps a higher precision than the position's, which
    differences of large values need. The target never sees a coordinate that is not finite, at which many would raise:
    it sees 0 instead. Only a move that has diverged leads there, and its own length or momentum is not finite either,
    so that it is rejected.

    Args:
        target: (chain, dim) -> (chain,). It may run under an autocast of its own; results are brought to at least
            the position's precision.
        position: (chain, dim).

    Returns:
        Log-density (chain,) and score (chain, dim), both detached.

    Raises:
        ValueError: the target gives another shape, or does not depend on the position.
    """
    own: Callable[[Tensor], tuple[Tensor, Tensor]] | None = getattr(target, "value_and_score", None)
    if own is not None:
        return own(position)
    with torch.inference_mode(False), torch.enable_grad():
        leaf = position.detach().nan_to_num(0.0, 0.0, 0.0).requires_grad_()
        log_density = target(leaf)
        _check_shape(log_density, position)
        score: Tensor | None = None
        if log_density.requires_grad:
            (score,) = torch.autograd.grad(log_density.sum(), leaf, allow_unused=True)
    if score is None:
        raise ValueError(
            "the target's value does not depend on the position (no gradient, in any chain); compute it from the "
            "position with differentiable torch operations, without detach() or no_grad()"
        )
    return log_density.detach().to(torch.promote_types(position.dtype, log_density.dtype)), score


def log_densities(target: LogDensity, position: Tensor, *, noun: str = "target", hint: str = "") -> Tensor:
    """(chain,), without the score; the target gets a copy, which it may change. `noun` and `hint` are for messages."""
    with torch.no_grad():
        values = target(position.clone())
    _check_shape(values, position, noun, hint)
    return values


def _check_shape(log_density: Tensor, position: Tensor, noun: str = "target", hint: str = "") -> None:
    if log_density.shape != position.shape[:1]:
        raise ValueError(
            f"the {noun} gave shape {tuple(log_density.shape)} for positions {tuple(position.shape)}; "
            f"it has to give one log-density a chain, ({position.shape[0]},), for all {position.shape[0]} chains{hint}"
        )


def start(position: Tensor, target: LogDensity) -> ChainState:
    """The state of chains at `position`, after checking that they can start there.

    Raises:
        ValueError: positions are not (chain, dim) of a floating type.
        NotFinite: position, log-density or score is not finite in some chains.
    """
    if not isinstance(position, Tensor):
        raise ValueError(f"positions have to be a floating-point tensor (chain, dim), not {type(position).__name__}")
    if position.ndim != 2 or not position.is_floating_point():
        shape = tuple(position.shape)
        raise ValueError(f"positions have to be floating-point (chain, dim), not {position.dtype} {shape}")
    _refuse_non_finite("position", position)
    log_density, score = evaluate(target, position)
    _refuse_non_finite("log-density", log_density[:, None])
    _refuse_non_finite("score", score)
    return ChainState(position.detach(), log_density, score)


def _refuse_non_finite(name: str, values: Tensor) -> None:
    bad = (~values.isfinite()).any(dim=1).nonzero()[:, 0].tolist()
    if bad:
        some = ", ".join(map(str, bad[:10])) + (", ..." if len(bad) > 10 else "")
        raise NotFinite(
            f"the {name} is not finite at the start in {len(bad)} of {len(values)} chains ({some}); "
            "start those chains where the target is positive and finite"
        )


def select(mask: Tensor, chosen: ChainState, otherwise: ChainState) -> ChainState:
    """Chain by chain, `chosen` where `mask` (chain,) holds and `otherwise` where it does not."""
    # On a CPU, copying the other rows is up to ten times faster than torch.where with a broadcast mask; elsewhere,
    # finding those rows would wait for the device.
    others = (~mask).nonzero()[:, 0] if mask.device.type == "cpu" else None

    def pick(a: Tensor, b: Tensor) -> Tensor:
        if others is None:
            return torch.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a, b)
        return a.index_copy(0, others, b.index_select(0, others)) if len(others) else a

    return ChainState(
        pick(chosen.position, otherwise.position),
        pick(chosen.log_density, otherwise.log_density),
        pick(chosen.score, otherwise.score),
        tuple(pick(a, b) for a, b in zip(chosen.carried, otherwise.carried, strict=True)),
    )


def plus(values: Tensor, scale: float | Tensor, others: Tensor) -> Tensor:
    """values + scale * others, as one operation."""
    if isinstance(scale, Tensor):
        return torch.addcmul(values, others, scale)
    return torch.add(values, others, alpha=scale)


def sum_over_dim(values: Tensor) -> Tensor:
    """(chain, dim) -> (chain,)."""
    # Adding a few columns is four times faster than reducing a short axis.
    return values.sum(dim=1) if values.shape[1] > 3 else reduce(torch.add, values.unbind(dim=1))


def unit(values: Tensor) -> Tensor:
    """(chain, dim) of length 1; in place."""
    return values.div_(sum_over_dim(values.square()).sqrt_()[:, None])


def standard_normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise of the shape, type and device of `like`."""
    return torch.randn(like.shape, dtype=like.dtype, device=like.device, generator=generator)

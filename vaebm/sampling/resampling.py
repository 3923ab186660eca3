r"""Resampling: equally weighted samples out of weighted ones.

Systematic resampling takes n indices with one uniform number: the i-th is where the running sum of the normalised
weights passes $(U + i) / n$. An index of normalised weight $w$ is taken $n w$ times, rounded up or down.

Importance resampling draws N proposals from a normalised reference $q$, weighs each by $w = p / q$, and resamples n of
them: a start for chains that is already in the right places where the reference covers the target. The effective
sample size $(\sum w)^2 / \sum w^2$ says how many of the proposals count.

Reference: Carpenter, Clifford and Fearnhead, Improved particle filter for nonlinear problems, IEE Proceedings 146, 1999
(systematic); Rubin, Using the SIR algorithm to simulate posterior distributions, Bayesian Statistics 3, 1988.
"""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vaebm.sampling.kernel import LogDensity, log_densities

WITH_GENERATOR = {"default": ("generator",), "low": ("low_generator",)}
NOT_INDEPENDENT = (
    "; a distribution of single coordinates becomes one of vectors by torch.distributions.Independent(..., 1)"
)


class Reference(Protocol):
    """A normalised distribution that can be drawn from, such as those of `torch.distributions`."""

    def log_prob(self, value: Tensor, /) -> Tensor:
        """(n, dim) -> (n,), in nats."""
        ...

    def sample(self, shape: tuple[int], /) -> Tensor:
        """(n,) -> (n, dim)."""
        ...


class Resampled(NamedTuple):
    """Equally weighted positions (n, dim), and the effective sample size among the proposals."""

    position: Tensor
    ess: float


def effective_sample_size(log_weights: Tensor) -> Tensor:
    """(sum w)^2 / sum w^2 over the last axis."""
    return torch.exp(2 * log_weights.logsumexp(dim=-1) - (2 * log_weights).logsumexp(dim=-1))


def systematic_resample(log_weights: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Indices of equally weighted samples.

    Args:
        log_weights: (..., N), up to a constant; -inf is never taken.
        n: how many to take.
        generator: on the weights' device.

    Returns:
        (..., n) int64, ascending.

    Raises:
        ValueError: a weight is nan or infinite, or all are 0.
    """
    bad = log_weights.isnan() | log_weights.isposinf()
    if bool(bad.any()):
        raise ValueError(
            f"{int(bad.sum())} of {log_weights.numel()} weights are nan or infinite; leave those samples out"
        )
    if bool(log_weights.isneginf().all(dim=-1).any()):
        raise ValueError("all weights are 0: no sample has a positive density")
    running = log_weights.double().softmax(dim=-1).cumsum(dim=-1)
    uniform = torch.rand(*log_weights.shape[:-1], 1, dtype=running.dtype, device=running.device, generator=generator)
    points = (uniform + torch.arange(n, device=running.device)) / n * running[..., -1:]
    return torch.searchsorted(running, points, right=True).clamp(max=log_weights.shape[-1] - 1)


class _DrawFrom(TorchDispatchMode):
    """Within it, in this thread alone, random operations that are given no generator draw from this one."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.generator = generator

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        # Some operations, such as rand, take a generator by another overload.
        others = [getattr(func.overloadpacket, name, None) for name in WITH_GENERATOR.get(func._overloadname, ())]
        for overload in (func, *others):
            if overload is not None and any(argument.name == "generator" for argument in overload._schema.arguments):
                if kwargs.get("generator") is None:
                    kwargs["generator"] = self.generator
                return overload(*args, **kwargs)
        return func(*args, **kwargs)


def draw_reference(reference: Reference, n: int, generator: torch.Generator) -> Tensor:
    """(n, dim) draws from `generator`.

    `torch.distributions` asks for no generator and would draw from the global one, which all threads share.
    """
    with _DrawFrom(generator):
        position = reference.sample((n,))
    if position.ndim != 2:
        raise ValueError(f"the reference gave draws of shape {tuple(position.shape)}; they have to be (n, dim)")
    return position


def reference_log_prob(reference: Reference, position: Tensor) -> Tensor:
    """(n,), without gradient."""
    return log_densities(reference.log_prob, position, noun="reference", hint=NOT_INDEPENDENT)


def importance_resample(
    target: LogDensity, reference: Reference, n: int, *, proposals: int, generator: torch.Generator
) -> Resampled:
    """Draws n equally weighted samples out of proposals of a reference.

    Args:
        target: (chain, dim) -> (chain,), log-density up to a constant.
        reference: covers the target; its log-density may lack a constant here.
        n: samples to take.
        proposals: N, several times n: a proposal can be taken more than once.
        generator: on the reference's device.

    Raises:
        ValueError: target or reference give another shape or values that are not finite, or no proposal lies where the
            target is positive.
    """
    position = draw_reference(reference, proposals, generator)
    log_weights = log_densities(target, position) - reference_log_prob(reference, position)
    taken = systematic_resample(log_weights, n, generator)
    return Resampled(position[taken], float(effective_sample_size(log_weights)))

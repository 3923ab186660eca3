"""The machine's rates: how long it takes for operations of given shapes.

    seconds = sum over operations of n (overhead + kernel),     kernel measured, or   flops / rate + bytes / bandwidth

The operations that weigh most are run, with fewer rows where they are large, until `BUDGET` is spent. What is measured
of them gives the rate and bandwidth for all others. The overhead is what an operation takes in a net so small that
there is nothing to compute, forwards and backwards. On a CPU, time is what this thread got of it, so that other
programs do not count.
"""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vaebm.experiment.shapes import Count, Operation, Signature, aten, is_signature, tensors_of

BUDGET = 0.5  # seconds of measuring
MAX_KERNEL = 0.02  # seconds that one run may take
ASSUMED_RATE, ASSUMED_BANDWIDTH = 3e10, 5e9  # of a slow machine, to know what is large before anything is measured
ROWS = {aten.convolution.default: (0,), aten.convolution_backward.default: (0, 1), aten.mm.default: (0,)} | {
    aten.addmm.default: (1,)
}  # which inputs have a row for each sample; elsewhere all that are as long as the first
PLAIN = {
    aten.sum.default,
    aten.sum.dim_IntList,
    aten.mean.dim,
    aten.native_batch_norm.default,
    aten.native_batch_norm_backward.default,
    aten.upsample_nearest2d.default,
    aten.upsample_nearest2d_backward.default,
    aten.avg_pool2d.default,
    aten.avg_pool2d_backward.default,
}  # which take any numbers, beside products and what goes point by point
LAYERS = 20  # of the tiny net that shows the overhead
OPERATIONS_OF_A_LAYER = 6  # addmm and silu; backwards silu, two products and a sum


class Machine:
    """A device, measured on the work that will run on it."""

    def __init__(self, device: torch.device, work: Count) -> None:
        self.device = device
        self.overhead = self._overhead()
        self._measured: dict[Operation, float] = {}
        started = time.perf_counter()
        for operation in sorted(work, key=lambda operation: -_assumed(operation) * work[operation]):
            if time.perf_counter() - started > BUDGET:
                break
            if _can_run(operation):
                args, fraction = _with_fewer_rows(operation)
                if fraction * _assumed(operation) < 2 * MAX_KERNEL:
                    self._measured[operation] = self._kernel(operation, args) / fraction
        self._factors = {dense: self._factor(work, dense) for dense in (True, False)}

    def seconds(self, count: Count) -> float:
        """How long these operations take."""
        return sum(times * (self.overhead + self._seconds(operation)) for operation, times in count.items())

    def _seconds(self, operation: Operation) -> float:
        measured = self._measured.get(operation)
        return measured if measured is not None else self._factors[operation.flops > 0] * _assumed(operation)

    def _factor(self, work: Count, dense: bool) -> float:
        """Measured time over assumed time."""
        of_kind = [operation for operation in self._measured if (operation.flops > 0) == dense]
        assumed = sum(work[operation] * _assumed(operation) for operation in of_kind)
        return sum(work[operation] * self._measured[operation] for operation in of_kind) / assumed if assumed else 1.0

    def _kernel(self, operation: Operation, args: tuple[Any, ...]) -> float:
        inputs = tensors_of(args, self._tensor)
        named = {name: tensors_of(value, self._tensor) for name, value in operation.kwargs.items()}
        if named.get("device") is not None:
            named["device"] = self.device
        with torch.no_grad():
            return self._typical(lambda: operation.function(*inputs, **named), 3)

    def _overhead(self) -> float:
        layers = [nn.utils.skip_init(nn.Linear, 4, 4, device=self.device) for _ in range(LAYERS)]
        net = nn.Sequential(*(part for layer in layers for part in (layer, nn.SiLU())))
        x = torch.ones(4, 4, device=self.device)
        return self._typical(lambda: net(x).sum().backward(), 5) / (OPERATIONS_OF_A_LAYER * LAYERS)

    def _typical(self, run: Callable[[], object], times: int) -> float:
        first = self._timed(run)
        return first if first > MAX_KERNEL else statistics.median(self._timed(run) for _ in range(times))

    def _timed(self, run: Callable[[], object]) -> float:
        on_cpu = self.device.type == "cpu"
        clock = time.thread_time if on_cpu else time.perf_counter
        started = clock()
        run()
        if not on_cpu:
            torch.zeros(1, device=self.device).item()  # waits
        return clock() - started

    def _tensor(self, signature: Signature) -> Tensor:
        size, stride, dtype = signature
        return torch.empty_strided(size, stride, dtype=dtype, device=self.device).fill_(
            0.5 if dtype.is_floating_point else 0
        )


def _assumed(operation: Operation) -> float:
    return operation.flops / ASSUMED_RATE + operation.bytes / ASSUMED_BANDWIDTH


def _can_run(operation: Operation) -> bool:
    """Whether any numbers will do for it."""
    known = operation.flops > 0 or torch.Tag.pointwise in operation.function.tags or operation.function in PLAIN
    return known and _assumed(operation) > 0


def _with_fewer_rows(operation: Operation) -> tuple[tuple[Any, ...], float]:
    """Inputs for a run that does not take long, and their fraction of all rows."""
    args, places = operation.args, ROWS.get(operation.function, range(len(operation.args)))
    rows = next((args[i][0][0] for i in places if is_signature(args[i]) and args[i][0]), 1)
    fewer = max(1, min(rows, math.floor(rows * MAX_KERNEL / _assumed(operation))))
    if fewer == rows:
        return args, 1.0

    def cut(arg: Any) -> Any:
        if is_signature(arg):
            return ((fewer, *arg[0][1:]), *arg[1:]) if arg[0][:1] == (rows,) else arg
        return [fewer, *arg[1:]] if type(arg) is list and len(arg) > 1 and arg[0] == rows else arg

    return tuple(cut(arg) if i in places else arg for i, arg in enumerate(args)), fewer / rows

"""Shapes: tensors without values, and what the operations on them would cost.

Inside `Counting`, real code runs on tensors that know their size, type and device and hold no numbers: nothing is
computed, everything is counted. A question whose answer depends on values gets a stand-in for one,

    a number: 0.5, or 1     any: false     all: true     the sum of a mask, the rows of a mask: all of them
    nonzero: none           unique: one value

(a few whole numbers in their order keep their values),
so that loops over rejected or broken samples end after their first turn. Floating-point operations are those of
convolutions and matrix products, 2 for each multiplication with its addition; bytes are those of inputs and outputs.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
Signature = tuple[tuple[int, ...], tuple[int, ...], torch.dtype]
STORAGES = itertools.count()


class Shape(Tensor):
    """A tensor without values; `storage_number` is shared by its views."""

    signature: Signature
    storage_number: int
    stand_in: int

    @staticmethod
    def __new__(cls, signature: Signature, device: torch.device, storage_number: int) -> Shape:
        size, stride, dtype = signature
        shape: Shape = Tensor._make_wrapper_subclass(cls, size, stride, dtype=dtype, device=device)
        shape.signature = signature
        shape.storage_number = storage_number
        return shape

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        raise RuntimeError(f"{func} on a shape outside of Counting")

    def __deepcopy__(self, memo: dict[int, Any]) -> Shape:
        copy = Shape(self.signature, self.device, next(STORAGES))
        copy.requires_grad_(self.requires_grad)
        memo[id(self)] = copy
        return copy


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation on inputs of certain shapes: `args` and `kwargs` hold signatures in place of tensors."""

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any
    flops: int
    bytes: int

    @cached_property
    def is_view(self) -> bool:
        """Whether its output is another view of its input, which costs nothing."""
        return bool(self.function.is_view) or self.function is aten.detach.default

    @cached_property
    def makes_several(self) -> bool:
        """Whether it has several outputs."""
        return type(self.output) is list or (type(self.output) is tuple and not is_signature(self.output))


class Count(dict[Operation, float]):
    """How often each operation is done."""

    def __add__(self, other: Count) -> Count:
        total = Count(self)
        for operation, times in other.items():
            total[operation] = total.get(operation, 0.0) + times
        return total

    def __mul__(self, factor: float) -> Count:
        return Count({operation: factor * times for operation, times in self.items()})

    def __sub__(self, other: Count) -> Count:
        """What is left of it; nothing is done less than never."""
        return Count({operation: times for operation, times in (self + other * -1.0).items() if times > 0})

    @property
    def flops(self) -> float:
        """Floating-point operations of convolutions and matrix products."""
        return sum(times * operation.flops for operation, times in self.items())


def signature_of(tensor: Tensor) -> Signature:
    """Size, strides and type."""
    return tensor.signature if type(tensor) is Shape else (tuple(tensor.shape), tensor.stride(), tensor.dtype)


def is_signature(value: Any) -> bool:
    """Whether it stands for a tensor."""
    return type(value) is tuple and len(value) == 3 and isinstance(value[2], torch.dtype)


class Counting(TorchDispatchMode):
    """Within: operations make shapes on `device` and are counted in `count`."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = device
        self._done: list[Operation] = []
        self._known: dict[Any, Operation] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # it would be imported for that, which takes a second

    def of(self, run: Callable[[], object]) -> Count:
        """What `run` costs."""
        before, self._done = self._done, []
        try:
            run()
            return Count({operation: n for operation, n in Counter(self._done).items() if not operation.is_view})
        finally:
            self._done = before

    @contextmanager
    def saving(self) -> Iterator[dict[int, int]]:
        """Within: bytes that are kept for a backward pass, by storage."""
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            if type(tensor) is Shape and not tensor.is_leaf:
                kept[tensor.storage_number] = tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            yield kept

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        key = (func, *[arg.signature if type(arg) is Shape else _key(arg) for arg in args])
        if kwargs:
            key += tuple((name, _key(value)) for name, value in kwargs.items())
        operation = self._known.get(key)
        if operation is None:
            kwargs = kwargs or {}
            tensors = [leaf for leaf in _leaves((args, tuple(kwargs.values()))) if isinstance(leaf, Tensor)]
            if not any(type(tensor) is Shape for tensor in tensors) and (tensors or _is_few(func, args, kwargs)):
                return func(*args, **kwargs)  # such as a constant of a few numbers
            if func in ANSWERS:
                return ANSWERS[func](args[0])
            operation = self._known[key] = self._new(func, args, kwargs)
        self._done.append(operation)
        output = operation.output
        if type(output) is _Written:
            return args[output.place] if type(output.place) is int else kwargs[output.place]
        number = args[0].storage_number if operation.is_view and type(args[0]) is Shape else next(STORAGES)
        if operation.makes_several:
            return type(output)(Shape(o, self.device, number) if is_signature(o) else o for o in output)
        if not is_signature(output):
            return output  # nothing, or a number that follows from types and sizes
        shape = Shape(output, self.device, number)
        if func in (aten.any.default, aten.any.dim):
            shape.stand_in = 0
        elif func is aten.sum.default and args[0].dtype == torch.bool:
            shape.stand_in = args[0].numel()
        return shape

    def _new(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Operation:
        plain, named = _described(args), {name: _described(value) for name, value in kwargs.items()}
        output = _output(func, plain, named)
        tensors = _signatures((plain, tuple(named.values()), output))
        size = sum(math.prod(s[0]) * s[2].itemsize for s in tensors)
        return Operation(func, plain, named, output, _flops(func, plain, output), size)


def _is_few(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether it makes a few whole numbers, such as the order of which the masks of a layer are made."""
    if kwargs.get("dtype") not in WHOLE.get(func, ()):
        return False
    return all(type(leaf) is int and leaf <= FEW for leaf in _leaves(args))


@dataclass(frozen=True)
class _Written:
    """The output is the argument at this place."""

    place: int | str


def _number(shape: Shape) -> float | int | bool:
    if shape.dtype.is_floating_point:
        return 0.5
    number = getattr(shape, "stand_in", 1)
    return bool(number) if shape.dtype == torch.bool else number


ANSWERS: dict[Any, Callable[[Shape], Any]] = {
    aten._local_scalar_dense.default: _number,
    aten.nonzero.default: lambda shape: torch.empty(0, shape.dim(), dtype=torch.int64, device="cpu"),
    aten._unique2.default: lambda _: (torch.zeros(1, dtype=torch.int64, device="cpu"),) * 3,
}
"""Stand-ins for what depends on values."""

FEW = 4096
WHOLE: dict[Any, tuple[torch.dtype | None, ...]] = {
    aten.arange.default: (None, torch.int64),
    aten.ones.default: (torch.bool,),
}
"""What makes whole numbers, and of which types: their values are kept where they are at most `FEW`."""


def _leaves(value: Any) -> Iterator[Any]:
    """What tuples and lists hold, at any depth."""
    if (type(value) is tuple and not is_signature(value)) or type(value) is list:
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _signatures(value: Any) -> list[Signature]:
    return [leaf for leaf in _leaves(value) if is_signature(leaf)]


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """The same tuples and lists with other leaves."""
    if (type(value) is tuple and not is_signature(value)) or type(value) is list:
        return type(value)(_mapped(item, change) for item in value)
    return change(value)


def _key(value: Any) -> Any:
    """What an output's shape depends on; not on the value of a real number."""
    kind = type(value)
    if kind is Shape:
        return value.signature
    if kind is tuple or kind is list:
        return tuple(map(_key, value))
    if kind is float or kind is torch.Generator:
        return kind
    return (Tensor, signature_of(value)) if isinstance(value, Tensor) else value


def _described(value: Any) -> Any:
    """The same with signatures for tensors and without generators."""

    def described(leaf: Any) -> Any:
        return signature_of(leaf) if isinstance(leaf, Tensor) else None if isinstance(leaf, torch.Generator) else leaf

    return _mapped(value, described)


def tensors_of(value: Any, make: Callable[[Signature], Tensor]) -> Any:
    """The same with tensors for signatures."""
    return _mapped(value, lambda leaf: make(leaf) if is_signature(leaf) else leaf)


def _output(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Signatures of what comes out."""
    schema = func._schema
    if schema.is_mutable and all(out.alias_info is not None and out.alias_info.is_write for out in schema.returns):
        written = [i for i, a in enumerate(schema.arguments) if a.alias_info is not None and a.alias_info.is_write]
        if not schema.returns:
            return None
        place = written[0]
        return _Written(place if place < len(args) else schema.arguments[place].name)
    if torch.Tag.pointwise in func.tags and kwargs.get("memory_format") in (None, torch.preserve_format):
        return _pointwise(func, args, kwargs)
    if func is aten.index.Tensor and any(index is not None and index[2] == torch.bool for index in args[1]):
        return args[0]
    if func in QUICK:
        return QUICK[func](*args, **kwargs)
    if func._schema.name in ("aten::randn", "aten::rand"):
        func, kwargs = aten.empty.memory_format, {n: value for n, value in kwargs.items() if n != "generator"}
    if any(argument.name == "device" for argument in func._schema.arguments):
        kwargs = {**kwargs, "device": torch.device("meta")}
    out = func(*tensors_of(args, _on_meta), **{name: tensors_of(value, _on_meta) for name, value in kwargs.items()})
    return _described(out)


def _cat(parts: list[Signature], dim: int = 0) -> Signature:
    size = list(next(s[0] for s in [*parts, parts[0]] if s[0] != (0,) or s is parts[0]))
    size[dim] = sum(s[0][dim] for s in parts if len(s[0]) == len(size))
    return _contiguous(tuple(size), functools.reduce(torch.promote_types, (s[2] for s in parts)))


def _stack(parts: list[Signature], dim: int = 0) -> Signature:
    size, dim = parts[0][0], dim % (len(parts[0][0]) + 1)
    return _contiguous((*size[:dim], len(parts), *size[dim:]), parts[0][2])


def _reduced(x: Signature, dims: list[int] | int | None, keep: bool = False, dtype: Any = None) -> Signature:
    axes = range(len(x[0])) if dims is None or dims == [] else [dims] if isinstance(dims, int) else dims
    gone = {axis % max(1, len(x[0])) for axis in axes}
    size = [1 if i in gone else n for i, n in enumerate(x[0]) if keep or i not in gone]
    return _contiguous(tuple(size), dtype or x[2])


def _batch_norm(x: Signature) -> tuple[Signature, ...]:
    channels = _contiguous(x[0][1:2], torch.float32)
    return x, channels, channels


def _product(*factors: Signature) -> Signature:
    """Of the last two; `addmm` adds it to the first."""
    a, b = factors[-2:]
    return _contiguous((a[0][0], b[0][1]), a[2])


QUICK: dict[Any, Callable[..., Any]] = {
    aten._reshape_alias.default: lambda x, size, stride: (tuple(size), tuple(stride), x[2]),
    aten.mm.default: _product,
    aten.addmm.default: lambda *factors, **_: _product(*factors),
    aten.eye.default: lambda n, dtype=None, **_: _contiguous((n, n), dtype or torch.get_default_dtype()),
    aten.cat.default: _cat,
    aten.stack.default: _stack,
    aten.cumsum.default: lambda x, *_, dtype=None: _contiguous(x[0], dtype or x[2]),
    aten.mean.default: lambda x, dtype=None: _reduced(x, None, dtype=dtype),
    aten.mean.dim: _reduced,
    aten.logsumexp.default: _reduced,
    aten.any.default: lambda x: _reduced(x, None, dtype=torch.bool),
    aten.any.dim: lambda x, dim, keep=False: _reduced(x, dim, keep, torch.bool),
    aten.std.correction: lambda x, dims=None, keepdim=False, **_: _reduced(x, dims, keepdim),
    aten.linalg_vector_norm.default: lambda x, _=2, dims=None, keep=False, dtype=None: _reduced(x, dims, keep, dtype),
    aten.softplus_backward.default: lambda gradient, *_: gradient,
    aten.native_batch_norm.default: lambda x, *_: _batch_norm(x),
    aten.native_batch_norm_backward.default: lambda _, x, *__: _batch_norm(x),
}
"""Operations whose own shape functions in torch are slow: they import its compiler."""


def _on_meta(signature: Signature) -> Tensor:
    size, stride, dtype = signature
    return torch.empty_strided(size, stride, dtype=dtype, device="meta")


def _contiguous(size: tuple[int, ...], dtype: torch.dtype) -> Signature:
    return size, tuple(math.prod(size[i + 1 :]) for i in range(len(size))), dtype


def _pointwise(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """As broadcast; the type is found by one real number of each input."""

    def one(signature: Signature) -> Tensor:
        return torch.ones((1,) * len(signature[0]), dtype=signature[2], device="cpu")

    plain = {name: value for name, value in kwargs.items() if name != "device"}
    out = func(*tensors_of(args, one), **{name: tensors_of(value, one) for name, value in plain.items()})
    inputs = _signatures((args, tuple(kwargs.values())))
    size = np.broadcast_shapes(*(s[0] for s in inputs))
    if not isinstance(out, Tensor):
        return type(out)(_contiguous(size, o.dtype) for o in out)
    like = next((s for s in inputs if s[0] == size and 0 not in s[1]), None)
    return _contiguous(size, out.dtype) if like is None else (size, like[1], out.dtype)


def _flops(func: Any, args: tuple[Any, ...], output: Any) -> int:
    products = 0
    if func is aten.convolution.default:
        products = math.prod(output[0]) * math.prod(args[1][0][1:])
    elif func is aten.convolution_backward.default:
        products = math.prod(args[0][0]) * math.prod(args[2][0][1:]) * sum(args[-1][:2])
    elif func in (aten.mm.default, aten.bmm.default, aten.addmm.default, aten.baddbmm.default):
        a, b = args[-2:]
        products = math.prod(a[0]) * b[0][-1]
    return 2 * products

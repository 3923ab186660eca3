"""CIFAR's "python version", read without unpickling: a stack machine for the few things that these files hold.

A batch is a dictionary of strings, small numbers, lists of them, and one array of bytes. `pickletools.genops` only
takes the file apart; what the parts mean stands below, and no name in the file is ever looked up or called: the three
that build a numpy array are recognised, any other is refused. So a file can hold wrong pixels, but not run anything.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

ARRAY = "numpy.core.multiarray _reconstruct"
NAMES = {ARRAY, "numpy ndarray", "numpy dtype"}
MARK = object()
CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "MARK": lambda: MARK,
}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
LITERALS = {"BININT", "BININT1", "BININT2", "SHORT_BINSTRING", "BINSTRING", "BINUNICODE"}


class _Array:
    """A numpy array whose bytes have not been met yet."""

    value: NDArray[np.uint8]


class _Machine:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memory: dict[int, Any] = {}

    def since_mark(self) -> list[Any]:
        at = len(self.stack) - 1 - self.stack[::-1].index(MARK)
        above = self.stack[at + 1 :]
        del self.stack[at:]
        return above

    def step(self, name: str, argument: Any) -> None:
        """One opcode; anything that a batch does not hold is a ValueError."""
        stack = self.stack
        if name in CONSTANTS:
            stack.append(CONSTANTS[name]())
        elif name in LITERALS:
            stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memory[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memory[argument])
        elif name in TUPLES:
            items = tuple(stack[-TUPLES[name] :])
            del stack[-TUPLES[name] :]
            stack.append(items)
        elif name == "TUPLE":
            stack.append(tuple(self.since_mark()))
        else:
            self.build(name, argument)

    def build(self, name: str, argument: Any) -> None:
        """What fills a container, and the array."""
        stack = self.stack
        if name in ("APPENDS", "SETITEMS"):
            items = self.since_mark()
            stack[-1].extend(items) if name == "APPENDS" else stack[-1].update(
                zip(items[::2], items[1::2], strict=True)
            )
        elif name == "APPEND":
            stack[-2].append(stack.pop())
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            stack[-1][key] = value
        elif name == "GLOBAL" and argument in NAMES:
            stack.append(argument)
        elif name == "REDUCE":
            stack.pop()
            stack.append(_Array() if stack.pop() == ARRAY else "dtype")
        elif name == "BUILD":
            state = stack.pop()
            if isinstance(stack[-1], _Array):
                stack[-1].value = np.frombuffer(state[4].encode("latin-1"), np.uint8).reshape(state[1])
        elif name not in ("PROTO", "STOP"):
            raise ValueError(f"{name} {argument!r}")


def read_python_batch(content: bytes) -> dict[str, Any]:
    """The dictionary in a file of CIFAR's python version; its arrays are (N, 3072) uint8.

    Raises:
        ValueError: truncated, or anything but such a dictionary.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(content):
            machine.step(opcode.name, argument)
        (batch,) = machine.stack
    except (IndexError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no batch: {error}") from None
    if not isinstance(batch, dict):
        raise ValueError("no dictionary")
    return {key: value.value if isinstance(value, _Array) else value for key, value in batch.items()}

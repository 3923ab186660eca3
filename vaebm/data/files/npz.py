"""Arrays in .npz files, read a few rows at a time, so that the whole need never lie in memory.

An .npz is a zip of .npy files; a .npy is a header, then the values, row by row or (then read whole) column by column.
Arrays of Python objects are refused: nothing is unpickled.
"""

import lzma
import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from vaebm.data.files.archives import open_zip
from vaebm.errors import InputError


@dataclass(frozen=True)
class StoredArray:
    """An array in a file: what is known before its values are read."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    columns_first: bool = False  # such an array is read whole

    def rows(self, at_once: int) -> Iterator[NDArray[Any]]:
        """All of it in order, `at_once` rows (of the first axis) at a time.

        Raises:
            InputError: the file is truncated or damaged, or holds Python objects.
        """
        if self.dtype.hasobject:
            raise InputError(f"{self.path}: {self.name} holds Python objects, which are not read: save plain arrays")
        if not self.shape:
            raise InputError(f"{self.path}: {self.name} is a single value: give an array with one row a sample")
        row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        try:
            with open_zip(self.path) as archive, archive.open(f"{self.name}.npy") as file:
                read_header(file)
                if self.columns_first:
                    content = file.read()
                    if len(content) != self.shape[0] * row_bytes:
                        raise EOFError
                    turned = np.frombuffer(content, self.dtype).reshape(self.shape[::-1]).T
                    yield from (turned[start : start + at_once] for start in range(0, self.shape[0], at_once))
                    return
                for start in range(0, self.shape[0], at_once):
                    count = min(at_once, self.shape[0] - start)
                    content = file.read(count * row_bytes)
                    if len(content) < count * row_bytes:
                        raise EOFError
                    yield np.frombuffer(content, self.dtype).reshape(count, *self.shape[1:])
        except (zipfile.BadZipFile, zlib.error, EOFError, lzma.LZMAError):
            raise InputError(f"{self.path} is truncated or damaged: get it whole, then try again") from None

    def all(self) -> NDArray[Any]:
        return np.empty(self.shape, self.dtype) if self.shape[:1] == (0,) else next(self.rows(*self.shape[:1] or (1,)))


def stored_arrays(path: Path) -> dict[str, StoredArray]:
    """The arrays in a file by name.

    Raises:
        InputError: the file is missing, truncated, or no .npz.
    """
    arrays = {}
    try:
        with open_zip(path) as archive:
            for member in archive.namelist():
                if member.endswith(".npy"):
                    with archive.open(member) as file:
                        shape, columns_first, dtype = read_header(file)
                    name = member.removesuffix(".npy")
                    arrays[name] = StoredArray(path, name, shape, dtype, columns_first and len(shape) > 1)
    except InputError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError):
        raise InputError(f"{path} is truncated or no .npz file: get it whole, then try again") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check the path and its permissions") from None
    return arrays


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and dtype of an open .npy, whose values follow.

    Raises:
        ValueError: the file is no .npy.
    """
    read = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
    try:
        shape, columns_first, dtype = read(file)
    except (SyntaxError, tokenize.TokenError):
        raise ValueError("header") from None
    if any(n < 0 for n in shape):
        raise ValueError("shape")
    return shape, columns_first, dtype


def read_npy(path: Path) -> NDArray[Any]:
    """The array of a .npy, which holds as many values as its header says, and no Python objects.

    Raises:
        InputError: it does not.
    """
    try:
        with path.open("rb") as file:
            shape, _, dtype = read_header(file)
            if dtype.hasobject or path.stat().st_size - file.tell() < math.prod(shape) * dtype.itemsize:
                raise ValueError("values")
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except (ValueError, EOFError):
        raise InputError(f"{path} is truncated or no .npy of numbers: get it whole, then try again") from None
    return array

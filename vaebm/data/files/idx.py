"""The IDX format, gzipped, in which MNIST and its kin are published: an array of unsigned bytes.

0 0 8 ndim | ndim sizes, big-endian uint32 | the bytes, last axis fastest          8 stands for unsigned bytes
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vaebm.errors import InputError

UNSIGNED_BYTES = 8


def read_idx(path: Path, ndim: int) -> NDArray[np.uint8]:
    """The array of `ndim` axes in a file.

    Raises:
        InputError: the file is truncated, damaged, or holds something else.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise InputError(f"{path} is truncated or damaged: delete it to have it downloaded again") from None
    start = 4 + 4 * ndim
    if len(content) < start or content[:4] != bytes((0, 0, UNSIGNED_BYTES, ndim)):
        raise InputError(f"{path} is no IDX file of bytes with {ndim} axes: replace it by the published file")
    sizes = struct.unpack(f">{ndim}I", content[4:start])
    if len(content) - start != math.prod(sizes):
        raise InputError(f"{path} does not hold {math.prod(sizes):,} bytes, as its header promises: replace it")
    return np.frombuffer(content, np.uint8, offset=start).reshape(sizes)

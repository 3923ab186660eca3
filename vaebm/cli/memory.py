"""Memory settings: what large arrays give back stays with the process, ready for the next ones.

The C library of Linux returns every freed array of over 32 MB to the system, which clears each page of the next one as
it is first touched. A chain step over a thousand images takes and frees hundreds of such arrays; clearing their pages
costs as much time as the arithmetic. Kept, they cost it once, and the process stays as large as it has ever been.
"""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

# From malloc.h
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
NEVER = 2**31 - 1


@cache
def keep_freed_memory() -> bool:
    """Asks the C library to keep what is freed; False where it is not one that can be asked (not glibc)."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, NEVER))


@contextmanager
def without_collection() -> Iterator[None]:
    """Within: cycles of objects are not collected, for brief work that makes many objects and keeps most of them."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()

"""Arrays as metrics take them: feature rows, images and classes, numpy or torch, checked where they enter.

Whatever memory layout a numpy array has (negative strides, another byte order, read-only) and whatever precision, it is
read for what it says. Tables of all pairs of rows are made a block at a time, so memory is bounded.
"""

import operator
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, SupportsIndex

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaebm.errors import InputError

Array = Tensor | NDArray[Any]
Rows = Array  # (n, dim)
PAIRS_AT_ONCE = 1 << 22  # of rows: 32 MB of float64 for each table of distances or kernel values
FAR_OUTSIDE = 16.0  # what no image in [-1, 1] reaches, nor a sample of it with pixel noise


def as_tensor(values: Array, name: str) -> Tensor:
    """The values as a tensor on the CPU, without a graph; values that are no real numbers are refused."""
    if isinstance(values, Tensor):
        tensor = values.detach().cpu()
    else:
        array = np.asarray(values)
        if array.dtype.kind not in "biuf":
            raise InputError(f"{name} holds {array.dtype}, not real numbers: give a numeric array")
        wide = array.dtype.kind == "f" and array.dtype.itemsize > 8
        native = np.dtype(np.float64) if wide else array.dtype.newbyteorder("=")
        tensor = torch.from_numpy(np.array(array, dtype=native, order="C"))
    if tensor.is_complex():
        raise InputError(f"{name} holds complex numbers: give real ones")
    return tensor


def as_rows(values: Rows, name: str = "features", at_least: int = 2) -> Tensor:
    """Rows (n, dim) of finite numbers as float64 on the CPU, `at_least` so many; `name` is how messages call them."""
    rows = as_tensor(values, name)
    if rows.ndim != 2 or rows.shape[0] < at_least or rows.shape[1] < 1:
        raise InputError(f"{name} has shape {tuple(rows.shape)}: give (n, dim) with n at least {at_least}")
    rows = rows.to(torch.float64)
    if not rows.isfinite().all():
        fraction = 1.0 - rows.isfinite().all(1).double().mean().item()
        raise InputError(
            f"{fraction:.2%} of the rows of {name} hold values that are not finite: look for the samples that caused"
            " them"
        )
    return rows


def same_dim(generated: Tensor, reference: Tensor) -> None:
    """Refuses rows, or means, whose last axes differ."""
    if generated.shape[-1] != reference.shape[-1]:
        raise InputError(
            f"generated has {generated.shape[-1]} dimensions and reference {reference.shape[-1]}: "
            "give the same features of both"
        )


def as_images(values: Array, at_least: int = 1) -> Tensor:
    """Images (n, C, H, W) in [-1, 1] as float32 on the CPU; values that no such image has are warned about."""
    images = as_tensor(values, "images")
    shape = tuple(images.shape)
    if images.ndim != 4 or len(images) < at_least:
        raise InputError(f"images have shape {shape}: give (n, C, H, W) with n at least {at_least}")
    if shape[3] in (1, 3) and shape[1] not in (1, 3) and shape[1] > 4:
        raise InputError(f"images have shape {shape}, channels last: give (n, C, H, W)")
    if not images.is_floating_point():
        raise InputError(f"images are {images.dtype}: give values in [-1, 1], as vaebm.data.transforms.to_model does")
    low, high = (end.item() for end in images.aminmax())
    if max(-low, high) > FAR_OUTSIDE:
        warnings.warn(f"images live in [-1, 1], and these have values from {low:.3g} to {high:.3g}", stacklevel=3)
    return images.float()


def as_classes(values: Array, classes: int, name: str) -> Tensor:
    """Class numbers (n,) int64 from 0 to `classes` - 1."""
    found = as_tensor(values, name)
    if found.ndim != 1 or found.is_floating_point():
        raise InputError(f"{name} has shape {tuple(found.shape)} and type {found.dtype}: give whole numbers (n,)")
    found = found.long()
    if len(found) and not (int(found.min()) >= 0 and int(found.max()) < classes):
        raise InputError(f"{name} has classes beyond the {classes} that were named: give their number")
    return found


def as_count(value: SupportsIndex, name: str, at_least: int = 1) -> int:
    """A whole number, of Python, numpy or torch, `at_least` so large."""
    try:
        number = operator.index(value)
    except TypeError:
        number = at_least - 1
    if number < at_least:
        raise InputError(f"{name} is {value!r}: give a whole number of at least {at_least}")
    return number


def blocks(rows: Tensor, others: int) -> Sequence[Tensor]:
    """The rows in parts, so that a table with a column for each of the others is bounded."""
    return torch.split(rows, max(1, PAIRS_AT_ONCE // others))


def distances(a: Tensor, b: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of rows of the (n, m) distances from a (n, dim) to b (m, dim), float64, in order; and which rows they are.

    By differences: exact to rounding however far rows lie from the origin or from each other, and the same from a to b
    as from b to a. (As |a|^2 - 2 a.b + |b|^2 the error would grow with the norms.)
    """
    start = 0
    for rows in blocks(a.double(), len(b)):
        block = torch.cdist(rows, b.double(), compute_mode="donot_use_mm_for_euclid_dist")
        yield slice(start, start + len(block)), block
        start += len(block)


def nearest(rows: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Of rows (n, dim) the distance to the nearest of centres (K, dim), and its number; both (n,)."""
    found = [block.min(1) for _, block in distances(rows, centres)]
    return torch.cat([part.values for part in found]), torch.cat([part.indices for part in found])

"""Inputs: what the public doors of a model accept, and what they say to anything else.

Floats of any precision, as tensors or as NumPy arrays, are cast to the model's type and device. A wrong shape is
refused with the shape that is wanted; whole numbers (0 to 255), values that are not finite and values far outside the
model's range are refused with the way to get there; values a little outside it, or of the range [0, 1], are warned
about.
"""

from __future__ import annotations

import operator
import warnings
from typing import SupportsIndex

import numpy as np
import torch
from torch import Tensor

from vaebm.data.modality import modality_of
from vaebm.errors import InputError

TOLERANCE = 1e-3  # of the ends of the range: rounding
FAR_OUT = 7.0  # this far beyond the range, values are of another scale; samples of a Gaussian decoder may pass 1
USER = 5  # frames from a warning to the caller of a model's method
MAX_SEED = 2**63 - 1


def whole_number(name: str, value: SupportsIndex, low: int = 0, high: int = MAX_SEED) -> int:
    """An integer, of Python or of NumPy.

    Raises:
        InputError: it is none, or out of range.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise InputError(f"{name} is {value!r}: give a whole number") from None
    if not low <= number <= high:
        raise InputError(f"{name} is {number}: give {f'at least {low}' if number < low else f'at most {high}'}")
    return number


def data_tensor(x: object, data_shape: tuple[int, ...], like: Tensor, noise_std: float = 0.0) -> Tensor:
    """Data points (B, *data_shape) as the model takes them.

    Raises:
        InputError: they are no floats, of another shape, or of another range.
    """
    x = _floats("x", x, like)
    if x.dim() != 1 + len(data_shape) or tuple(x.shape[1:]) != data_shape:
        wanted = f"(batch, {', '.join(map(str, data_shape))})"
        raise InputError(f"x is {tuple(x.shape)}, but this model takes {wanted}{_hint(x, data_shape)}")
    _check_finite("x", x)
    limits = modality_of(data_shape).limits
    if limits is not None and x.numel():
        _check_range(x, limits, 6 * noise_std)
    return x


def code_tensor(z: object, latent_dim: int, like: Tensor) -> Tensor:
    """Codes (B, latent_dim) as the model takes them.

    Raises:
        InputError: they are no floats, of another shape, or not finite.
    """
    z = rows("z", z, latent_dim, like)
    _check_finite("z", z)
    return z


def rows(name: str, value: object, dim: int, like: Tensor) -> Tensor:
    """Vectors (B, dim), of the type and on the device of `like`.

    Raises:
        InputError: they are no floats, or of another shape.
    """
    value = _floats(name, value, like)
    if value.dim() != 2 or value.shape[1] != dim:
        raise InputError(f"{name} is {tuple(value.shape)}, but this model's is (batch, {dim})")
    return value


def same_length(x: Tensor | None, z: Tensor | None) -> None:
    """Passes where both have as many rows, or one is left out.

    Raises:
        InputError: their numbers of rows differ.
    """
    if x is not None and z is not None and len(x) != len(z):
        raise InputError(f"x has {len(x)} rows and z {len(z)}: pass one code a data point")


def wants_graph(*inputs: Tensor | None) -> bool:
    """Whether an input asks for gradients; weights do not, or every result would keep the graph of the nets."""
    return torch.is_grad_enabled() and any(value is not None and value.requires_grad for value in inputs)


def _floats(name: str, value: object, like: Tensor) -> Tensor:
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "fiub":
            raise InputError(f"{name} is an array of {value.dtype}: pass floats")
        value = torch.from_numpy(np.ascontiguousarray(value, value.dtype.newbyteorder("=")))
    if not isinstance(value, Tensor):
        raise InputError(f"{name} is a {type(value).__name__}: pass a tensor or an array of floats")
    if not value.is_floating_point():
        raise InputError(f"{name} is of {str(value.dtype).removeprefix('torch.')}: pass floats, images in [-1, 1]")
    value = value.to(like.device, like.dtype)
    return value.clone() if value.is_inference() and not torch.is_inference_mode_enabled() else value


def _hint(x: Tensor, data_shape: tuple[int, ...]) -> str:
    if tuple(x.shape) == data_shape:
        return ": pass x[None], a batch of one"
    if tuple(x.shape[1:]) == (*data_shape[1:], data_shape[0]):
        return ": pass x.movedim(-1, 1), channels first"
    return ""


def _check_finite(name: str, value: Tensor) -> None:
    broken = ~value.detach().flatten(1).isfinite().all(1)
    if broken.any():
        raise InputError(f"{name} holds values that are not finite, first in row {int(broken.nonzero()[0])}")


def _check_range(x: Tensor, limits: tuple[float, float], slack: float) -> None:
    low, high = (float(end) for end in x.detach().aminmax())
    beyond = max(limits[0] - low, high - limits[1]) - slack
    said = f"x reaches from {low:.3g} to {high:.3g}, but this model's range is [{limits[0]:g}, {limits[1]:g}]"
    if beyond > FAR_OUT:
        raise InputError(f"{said}: pass x / 127.5 - 1 of 0 to 255")
    if beyond > TOLERANCE:
        warnings.warn(said, stacklevel=USER)
    elif low >= 0 and x.numel() > 1:
        warnings.warn(f"{said}: pass 2 * x - 1 of [0, 1]", stacklevel=USER)

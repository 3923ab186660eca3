"""Inputs: what the public doors of a model accept, and what they say to anything else.

Floats of any precision, as tensors or as NumPy arrays, are cast to the model's type and device. A wrong shape is
refused with the shape that is wanted; whole numbers (0 to 255) and values far outside the model's range are refused
with the way to get there.
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
FAR_OUT = 2.0  # beyond this, values are of another scale; a Gaussian decoder's own samples may pass 1


def whole_number(name: str, value: SupportsIndex) -> int:
    """An integer, of Python or of NumPy.

    Raises:
        InputError: it is none.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise InputError(f"{name} is {value!r}: give a whole number") from None


def data_tensor(x: object, data_shape: tuple[int, ...], like: Tensor, noise_std: float = 0.0) -> Tensor:
    """Data points (B, *data_shape) as the model takes them.

    Raises:
        InputError: they are no floats, of another shape, or of another range.
    """
    x = _float_tensor("x", x, like)
    if x.dim() != 1 + len(data_shape) or tuple(x.shape[1:]) != data_shape:
        raise InputError(f"x is {tuple(x.shape)}, but this model takes (batch, {', '.join(map(str, data_shape))})")
    if modality_of(data_shape).name == "image" and x.numel():
        largest, slack = float(x.detach().abs().max()), 6 * noise_std
        if not largest <= FAR_OUT + slack:
            raise InputError(
                f"values of x reach {largest:g}, but images live in [-1, 1]: pass x / 127.5 - 1 of 0 to 255"
            )
        if largest > 1 + TOLERANCE + slack:
            warnings.warn(f"values of x reach {largest:.3g}, but images live in [-1, 1]", stacklevel=3)
    return x


def code_tensor(z: object, latent_dim: int, like: Tensor) -> Tensor:
    """Codes (B, latent_dim) as the model takes them.

    Raises:
        InputError: they are no floats, or of another shape.
    """
    z = _float_tensor("z", z, like)
    if z.dim() != 2 or z.shape[1] != latent_dim:
        raise InputError(f"z is {tuple(z.shape)}, but this model's codes are (batch, {latent_dim})")
    return z


def same_length(x: Tensor | None, z: Tensor | None) -> None:
    """Passes where both have as many rows, or one is left out.

    Raises:
        InputError: their numbers of rows differ.
    """
    if x is not None and z is not None and len(x) != len(z):
        raise InputError(f"x has {len(x)} rows and z {len(z)}: pass one code a data point")


def _float_tensor(name: str, value: object, like: Tensor) -> Tensor:
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.ascontiguousarray(value, value.dtype.newbyteorder("=")))
    if not isinstance(value, Tensor):
        raise InputError(f"{name} is a {type(value).__name__}: pass a tensor or an array of floats")
    if not value.is_floating_point():
        raise InputError(f"{name} is of {str(value.dtype).removeprefix('torch.')}: pass floats, images in [-1, 1]")
    value = value.to(like.device, like.dtype)
    return value.clone() if value.is_inference() and not torch.is_inference_mode_enabled() else value

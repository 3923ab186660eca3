"""Images live in [-1, 1]: the only place that says so.

    stored value v in {0, ..., levels}  ->  x = 2 v / levels - 1        black is exactly -1, white exactly +1
    model value x                       ->  (x + 1) / 2, clamped        for display, in [0, 1]
    model value x                       ->  round(levels (x + 1) / 2)   for files

The ends are met exactly, so that a likelihood with point masses there finds its saturated pixels by comparison, and
`to_uint8(to_model(v, levels), levels) == v` for every value of every number of levels up to 255.
"""

import torch
from torch import Tensor

from vaebm.errors import InputError


def to_model(values: Tensor, levels: int = 255) -> Tensor:
    """Stored uint8 values, of any shape, as float32 in [-1, 1]; `levels` is the stored value of white."""
    return values.to(torch.float32, copy=True).div_(levels).mul_(2.0).sub_(1.0)  # a new page costs more than a step


def to_display(x: Tensor) -> Tensor:
    """Images of any shape from [-1, 1] to [0, 1]; what lies beyond the ends is clamped."""
    return ((x + 1.0) / 2.0).clamp(0.0, 1.0)


def to_uint8(x: Tensor, levels: int = 255) -> Tensor:
    """Images of any shape from [-1, 1] to the nearest of the stored values 0 to `levels`.

    Raises:
        InputError: a value is not a number, which no pixel can show.
    """
    if torch.isnan(x).any():
        fraction = torch.isnan(x).double().mean().item()
        raise InputError(
            f"{fraction:.2%} of the pixel values are NaN: a diverged model made them, use an earlier checkpoint"
        )
    return (to_display(x) * levels).round().to(torch.uint8)

"""Saturation: how many pixels lie at neither end of the range, as those of strokes and textures do.

    pixels_between_ends = mean over images of the share of values v with 0 < v < levels,   v = round(levels (x + 1) / 2)

Values are rounded to those that the data are stored in, and clamped, since a decoder's noise alone leaves none exactly
black. Neither more nor less is better: compare with held-out images. The standard error is over images.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vaebm.data.transforms import to_uint8
from vaebm.errors import InputError
from vaebm.metrics.measurement import Measurement

IMAGES_AT_ONCE = 1024


def pixels_between_ends(images: Tensor, levels: int = 255) -> Measurement:
    """The share in images (n, C, H, W) in [-1, 1]; `levels` is the stored value of white.

    Raises:
        InputError: fewer than two images, or values that are not a number.
    """
    if images.ndim != 4 or len(images) < 2:
        raise InputError(f"images have shape {tuple(images.shape)}: give (n, C, H, W) with n at least 2")
    shares = []
    for chunk in images.split(IMAGES_AT_ONCE):
        values = to_uint8(chunk, levels).flatten(1)
        shares.append(((values > 0) & (values < levels)).double().mean(1))
    share = torch.cat(shares)
    stderr = share.std().item() / math.sqrt(len(share))
    return Measurement("pixels_between_ends", share.mean().item(), stderr, len(share), {"levels": levels})

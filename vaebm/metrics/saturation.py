"""Saturation: how many pixels lie at neither end of the range, as those of strokes and textures do.

    pixels_between_ends = mean over images: fraction of values v with 0 < v < levels,  v = round(levels (x + 1) / 2)

Values are rounded to those that the data are stored in, and clamped, since a decoder's noise alone leaves none exactly
black. Neither more nor less is better: compare with held-out images. The standard error is over images.
"""

import math

import torch

from vaebm.data.transforms import to_uint8
from vaebm.errors import InputError
from vaebm.metrics.arrays import Array, as_count, as_images
from vaebm.metrics.measurement import Measurement

IMAGES_AT_ONCE = 1024


def pixels_between_ends(images: Array, levels: int = 255) -> Measurement:
    """The fraction in images (n, C, H, W) in [-1, 1]; `levels` is the stored value of white.

    Raises:
        InputError: no images, fewer than two, values that are not a number, or `levels` beyond 1 to 255.
    """
    levels = as_count(levels, "levels")
    if levels > 255:
        raise InputError(f"levels is {levels}: images are stored in 8 bits, give at most 255")
    fractions = []
    for chunk in as_images(images, at_least=2).split(IMAGES_AT_ONCE):
        values = to_uint8(chunk, levels).flatten(1)
        fractions.append(((values > 0) & (values < levels)).double().mean(1))
    fraction = torch.cat(fractions)
    stderr = fraction.std().item() / math.sqrt(len(fraction))
    return Measurement("pixels_between_ends", fraction.mean().item(), stderr, len(fraction), {"levels": levels})

"""Sheets: images side by side, pixel by pixel.

Every pixel of an image becomes a square of whole pixels, and 0 is always black and 1 always white: nothing is
stretched, image by image or otherwise. Images with a side above 96 are first reduced by averaging blocks. A value
that is not finite is drawn in a red that no grey image has, so that nothing hides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from vaebm.data.transforms import to_display

MAX_SIDE = 96
SHEET_PIXELS = 512  # a sheet is about as wide
BUDGET = 250_000  # bytes that the images of one picture may have before they are compressed
PAPER = 255  # between the images
BROKEN = (214, 39, 40)

Pixels = NDArray[np.uint8]  # (height, width, 3)


def grid_side(shape: tuple[int, ...], most: int = 6) -> int:
    """How many images a square sheet holds along a side, for images (C, H, W)."""
    return min(most, max(3, SHEET_PIXELS // (2 * shown_side(shape))))


def shown_side(shape: tuple[int, ...]) -> int:
    """The longer side, in pixels, with which images (C, H, W) are shown."""
    return min(MAX_SIDE, max(shape[1:]))


def is_reduced(shape: tuple[int, ...]) -> bool:
    """Whether images (C, H, W) are shown smaller than they are."""
    return max(shape[1:]) > MAX_SIDE


def tiles(x: Tensor) -> Pixels:
    """Images (n, C, H, W) in [-1, 1] as they are shown, (n, h, w, 3) uint8."""
    images = x.detach().cpu().float()
    factor = MAX_SIDE / max(images.shape[2:])
    if factor < 1:
        height, width = (max(1, round(side * factor)) for side in images.shape[2:])
        images = functional.adaptive_avg_pool2d(images, (height, width))
    broken = ~images.isfinite().all(1)
    values = (to_display(images.nan_to_num()) * 255.0).round().to(torch.uint8)
    values = values.expand(-1, 3, -1, -1) if values.shape[1] == 1 else values[:, :3]
    pixels = values.permute(0, 2, 3, 1).contiguous()
    pixels[broken] = torch.tensor(BROKEN, dtype=torch.uint8)
    return pixels.numpy()


def sheet(rows: Sequence[Pixels], scale: int = 1, gap: int = 1, wide_gaps: Sequence[int] = ()) -> Pixels:
    """Rows of tiles, each (columns, h, w, 3), on paper: enlarged `scale` times, `gap` pixels apart.

    `wide_gaps` are the columns after which the gap is four times as wide.
    """
    big = [row.repeat(scale, axis=1).repeat(scale, axis=2) for row in rows]
    _, height, width, _ = big[0].shape
    columns = max(len(row) for row in big)
    extra = [3 * gap * sum(after < column for after in wide_gaps) for column in range(columns)]
    total = columns * (width + gap) - gap + extra[-1]
    paper = np.full((len(big) * (height + gap) - gap, total, 3), PAPER, dtype=np.uint8)
    for i, row in enumerate(big):
        for j, tile in enumerate(row):
            top, left = i * (height + gap), j * (width + gap) + extra[j]
            paper[top : top + height, left : left + width] = tile
    return paper


def square_sheet(x: Tensor, side: int) -> Pixels:
    """The first side^2 of images (n, C, H, W), enlarged to about `SHEET_PIXELS`."""
    shown = tiles(x[: side * side])
    scale = max(1, SHEET_PIXELS // (side * max(shown.shape[1:3])))
    rows = [shown[start : start + side] for start in range(0, len(shown), side)]
    return sheet(rows, scale, gap=max(2, scale // 2))


def interleaved(first: Pixels, second: Pixels) -> Pixels:
    """Tiles of two rows (n, h, w, 3) in turns, (2 n, h, w, 3)."""
    return np.stack([first, second], axis=1).reshape(-1, *first.shape[1:])


def framed(pixels: Pixels) -> Pixels:
    """With a pixel of paper around it."""
    return np.pad(pixels, ((1, 1), (1, 1), (0, 0)), constant_values=PAPER)


def images_that_fit(shape: tuple[int, ...], budget: int) -> int:
    """How many images (C, H, W) stay within a budget of bytes, before compression."""
    channels, height, width = shape
    shrink = min(1.0, MAX_SIDE / max(height, width))
    return max(1, math.floor(budget / (channels * height * width * shrink**2)))


def png(pixels: Pixels) -> bytes:
    """As a PNG; grey ones take a third of the room."""
    grey = bool((pixels[..., :1] == pixels).all())
    buffer = BytesIO()
    Image.fromarray(pixels[..., 0] if grey else pixels).save(buffer, format="png", optimize=True)
    return buffer.getvalue()

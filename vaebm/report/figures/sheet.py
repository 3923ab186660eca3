"""Sheets: images side by side, pixel by pixel; and sheets side by side under headings, for a README or a slide.

Every pixel of an image becomes a square of whole pixels, and 0 is always black and 1 always white: nothing is
stretched, image by image or otherwise. Images with a side above 96 are first reduced by averaging blocks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from vaebm.data.transforms import to_uint8
from vaebm.report.figures.canvas import INK, MUTED, Figure, blank
from vaebm.report.figures.canvas import png as figure_png

MAX_SIDE = 96
SHEET_PIXELS = 512  # a sheet is about as wide
BUDGET = 250_000  # bytes that the images of one picture may have before they are compressed
PAPER = 255  # between the images
RESOLUTION = 200  # dots per inch, of panels
GUTTER = 40  # pixels between panels

Pixels = NDArray[np.uint8]  # (height, width, 3)


def grid_side(shape: tuple[int, ...], most: int = 6) -> int:
    """How many images a square sheet holds along a side, for images (C, H, W)."""
    return min(most, max(3, SHEET_PIXELS // (2 * min(MAX_SIDE, max(shape[1:])))))


def tiles(x: Tensor) -> Pixels:
    """Images (n, C, H, W) in [-1, 1] as they are shown, (n, h, w, 3) uint8."""
    images = x.detach().cpu().float()
    factor = MAX_SIDE / max(images.shape[2:])
    if factor < 1:
        height, width = (max(1, round(side * factor)) for side in images.shape[2:])
        images = functional.adaptive_avg_pool2d(images, (height, width))
    values = to_uint8(images)
    values = values.expand(-1, 3, -1, -1) if values.shape[1] == 1 else values[:, :3]
    pixels: Pixels = values.permute(0, 2, 3, 1).contiguous().numpy()
    return pixels


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


def wide_sheet(shown: Pixels, columns: int, wide_gaps: Sequence[int] = ()) -> Pixels:
    """Tiles (n, h, w, 3) in rows of `columns`, enlarged to about twice `SHEET_PIXELS`."""
    scale = max(1, 2 * SHEET_PIXELS // (columns * shown.shape[2]))
    rows = [shown[i : i + columns] for i in range(0, len(shown), columns)]
    return sheet(rows, scale, gap=max(2, scale // 2), wide_gaps=wide_gaps)


def interleaved(first: Pixels, second: Pixels) -> Pixels:
    """Tiles of two rows (n, h, w, 3) in turns, (2 n, h, w, 3)."""
    return np.stack([first, second], axis=1).reshape(-1, *first.shape[1:])


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


@dataclass(frozen=True)
class Panel:
    """One column of a picture: a heading, a line below it, and its pixels."""

    heading: str
    line: str
    pixels: Pixels
    colour: str = INK


def side_by_side(panels: Sequence[Panel], gutter: int = GUTTER, size: float = 10.0) -> bytes:
    """A PNG of panels from left to right, tops aligned; headings are `size` points high."""
    dot = RESOLUTION / 72
    line = 1.5 * size * dot
    head = round(line * (1.4 + any(panel.line for panel in panels)))
    width = sum(panel.pixels.shape[1] for panel in panels) + gutter * (len(panels) - 1)
    height = head + max(panel.pixels.shape[0] for panel in panels)
    with blank(width / RESOLUTION, height / RESOLUTION, RESOLUTION) as figure:
        figure.set_layout_engine("none")
        left = 0
        for panel in panels:
            _text(
                figure, left, height - 0.2 * line, panel.heading, panel.colour, size, "bold" if panel.line else "normal"
            )
            _text(figure, left, height - 1.2 * line, panel.line, MUTED, 0.9 * size, "normal")
            figure.figimage(np.ascontiguousarray(panel.pixels), left, height - head - panel.pixels.shape[0])
            left += panel.pixels.shape[1] + gutter
        return figure_png(figure)


def _text(figure: Figure, left: float, top: float, words: str, colour: str, size: float, weight: str) -> None:
    width, height = figure.get_size_inches() * RESOLUTION
    figure.text((left + 1) / width, top / height, words, color=colour, fontsize=size, fontweight=weight, va="top")

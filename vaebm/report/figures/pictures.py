"""Pictures with headings, for a README or a slide: models side by side, and chains from start to end.

Sheets of images stand in them pixel by pixel; only the headings are set by the chart style.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vaebm.report.figures.canvas import INK, MUTED, Figure, blank, png
from vaebm.report.figures.sheet import Pixels

RESOLUTION = 200  # dots per inch
MARGIN, GUTTER = 16, 40  # pixels


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
    head = round(MARGIN + line * (1 + any(panel.line for panel in panels)) + 0.3 * line)
    width = 2 * MARGIN + sum(panel.pixels.shape[1] for panel in panels) + gutter * (len(panels) - 1)
    height = head + max(panel.pixels.shape[0] for panel in panels) + MARGIN
    with blank(width / RESOLUTION, height / RESOLUTION, RESOLUTION) as figure:
        figure.set_layout_engine("none")
        left = MARGIN
        for panel in panels:
            top = height - MARGIN
            _text(figure, left, top, panel.heading, panel.colour, size, "bold")
            _text(figure, left, top - line, panel.line, MUTED, 0.9 * size, "normal")
            figure.figimage(np.ascontiguousarray(panel.pixels), left, height - head - panel.pixels.shape[0])
            left += panel.pixels.shape[1] + gutter
        return png(figure)


def _text(figure: Figure, left: float, top: float, words: str, colour: str, size: float, weight: str) -> None:
    width, height = figure.get_size_inches() * RESOLUTION
    figure.text(left / width, top / height, words, color=colour, fontsize=size, fontweight=weight, va="top")

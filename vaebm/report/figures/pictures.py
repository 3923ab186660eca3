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
GUTTER = 40  # pixels


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
        return png(figure)


def _text(figure: Figure, left: float, top: float, words: str, colour: str, size: float, weight: str) -> None:
    width, height = figure.get_size_inches() * RESOLUTION
    figure.text((left + 1) / width, top / height, words, color=colour, fontsize=size, fontweight=weight, va="top")

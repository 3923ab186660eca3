"""Pictures of the plane with headings, for a README or a slide: data and models in one row."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from vaebm.report.figures.canvas import MUTED, Axes, blank, png
from vaebm.report.figures.plane import draw_density, draw_points

SIDE = 2.9  # inches of one panel


def row_of_maps(maps: Sequence[tuple[str, str, Tensor]], extent: tuple[float, float], highest: float) -> bytes:
    """A PNG of log-densities on one colour scale: heading, a line below it, and the values, of each."""
    with blank(SIDE * len(maps), SIDE + 0.7) as figure:
        for i, (heading, line, log_density) in enumerate(maps):
            axes = figure.add_subplot(1, len(maps), i + 1)
            draw_density(axes, log_density, extent, highest)
            _head(axes, heading, line, i, any(other for _, other, _ in maps))
        return png(figure)


def row_of_clouds(clouds: Sequence[tuple[str, Tensor, str, Tensor | None]], extent: tuple[float, float]) -> bytes:
    """A PNG of samples: heading, points, colour, and which are near a mode, of each."""
    with blank(SIDE * len(clouds), SIDE + 0.4) as figure:
        for i, (heading, points, colour, near) in enumerate(clouds):
            axes = figure.add_subplot(1, len(clouds), i + 1)
            draw_points(axes, points, colour, extent, near)
            _head(axes, heading, "", i, False)
        return png(figure)


def _head(axes: Axes, heading: str, line: str, column: int, room: bool) -> None:
    axes.set_title(heading, pad=22 if room else 8)
    written = axes.annotate(
        line, (0.0, 1.0), xycoords="axes fraction", xytext=(0, 6), textcoords="offset points", fontsize=8.5, color=MUTED
    )
    written.set_in_layout(False)  # the axes are not to make room for it sideways
    axes.tick_params(labelleft=column == 0)
    axes.set_ylabel("x₂" if column == 0 else "")

"""The canvas: one style for all charts, and their way out as SVG or PNG bytes. The only door to matplotlib.

A chart is one small set of axes, so that a page can put charts side by side where it is wide and below each other
where it is narrow, without any text becoming too small to read. Text in an SVG stays text, in the reader's own
typeface.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

__all__ = ["INK", "MUTED", "RULE", "Axes", "Figure", "blank", "chart", "png", "svg"]

INK, MUTED, RULE = "#1f2937", "#6b7280", "#d1d5db"
WIDTH, HEIGHT = 4.6, 3.0  # inches; 10 pt text in a chart this wide reads well at 300 to 600 pixels
DOTS_PER_INCH = 160
TYPEFACE = "'DejaVu Sans'"
READERS_TYPEFACE = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlepad": 8.0,
    "axes.labelsize": 9.5,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": RULE,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#eceef1",
    "grid.linewidth": 0.8,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "text.color": INK,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "legend.handlelength": 1.2,
    "legend.labelcolor": INK,
    "figure.facecolor": "white",
    "svg.fonttype": "none",
    "svg.hashsalt": "vaebm",
}


@contextmanager
def chart(title: str, width: float = WIDTH, height: float = HEIGHT) -> Iterator[Axes]:
    """Axes of the house style under a title; the figure is `axes.figure`, to be saved within the block."""
    with blank(width, height) as figure:
        axes = figure.add_subplot()
        axes.set_title(title)
        yield axes


@contextmanager
def blank(width: float, height: float, dots_per_inch: int = DOTS_PER_INCH) -> Iterator[Figure]:
    """An empty figure of the house style, in inches; to be saved within the block."""
    with matplotlib.rc_context(STYLE):
        yield Figure(figsize=(width, height), layout="constrained", dpi=dots_per_inch)


def svg(figure: Figure | None) -> bytes:
    """The figure as an SVG that refers to nothing outside itself."""
    assert figure is not None
    buffer = BytesIO()
    FigureCanvasSVG(figure)
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    drawing = buffer.getvalue().decode()
    drawing = drawing[drawing.index("<svg") :].replace(TYPEFACE, READERS_TYPEFACE)
    return re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL).encode()


def png(figure: Figure | None) -> bytes:
    """The figure as a PNG, at its own resolution."""
    assert figure is not None
    buffer = BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()

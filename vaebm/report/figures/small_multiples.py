"""Small multiples: a quantity of several things against what was spent on each.

Each has a small chart of its own, with all others in grey behind it, since a dozen curves in one chart cannot be told
apart. Axes are logarithmic where values span decades.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vaebm.report.figures.canvas import MUTED, RULE, blank, svg

MAX_COLUMNS = 5
LOG_FROM = 8.0  # ratio of largest to smallest from which an axis is logarithmic


@dataclass(frozen=True)
class SpentCurve:
    """A quantity against what was spent.

    Args:
        name: over its chart.
        colour: of the curve.
        spent: abscissae.
        values: ordinates.
        errors: their standard errors.
    """

    name: str
    colour: str
    spent: Sequence[float]
    values: Sequence[float]
    errors: Sequence[float]


def small_multiples(curves: Sequence[SpentCurve], across: str, up: str, level: float | None) -> bytes:
    """An SVG of small charts, `MAX_COLUMNS` in a row at most.

    Args:
        curves: in order.
        across: the axis of what is spent.
        up: the axis of values.
        level: a value worth comparing with, drawn as a dashed line.
    """
    rows = math.ceil(len(curves) / MAX_COLUMNS)
    columns = math.ceil(len(curves) / rows)
    seen = [value for curve in curves for value in curve.values] + ([] if level is None else [level])
    low, high = min(seen), max(seen)
    logarithmic = low > 0 and high > LOG_FROM * low
    margin = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    limits = (low / 1.5, high * 1.7) if logarithmic else (low - margin, high + margin)
    with blank(2.3 * columns + 0.5, 2.1 * rows + 0.25) as figure:
        for i, curve in enumerate(curves):
            axes = figure.add_subplot(rows, columns, i + 1)
            for other in curves:
                axes.plot(other.spent, other.values, color=RULE, linewidth=0.9, zorder=1)
            if level is not None:
                axes.axhline(level, color=MUTED, linewidth=1, linestyle=(0, (5, 3)), zorder=2)
            floor = limits[0] if logarithmic else -math.inf
            below = [max(v - e, floor) for v, e in zip(curve.values, curve.errors, strict=True)]
            above = [v + e for v, e in zip(curve.values, curve.errors, strict=True)]
            axes.fill_between(curve.spent, below, above, color=curve.colour, alpha=0.18, linewidth=0, zorder=3)
            axes.plot(curve.spent, curve.values, color=curve.colour, marker="o", markersize=3.5, zorder=4)
            axes.set_title(curve.name, fontsize=9.5, pad=4)
            if logarithmic:
                axes.set_yscale("log")
            axes.set_ylim(*limits)
            axes.set_xlim(left=0)
            axes.tick_params(labelbottom=i + columns >= len(curves), labelleft=i % columns == 0, length=0)
        figure.supxlabel(across, fontsize=9.5, color=MUTED)
        figure.supylabel(up, fontsize=9.5, color=MUTED)
        return svg(figure)

"""Curves: figures of training against iterations, stage after stage; and one quantity of several things, side by side.

Where curves of training fall far in their first iterations and then hardly move, the axis is cut to where they are
worth reading: the lowest 2 % of all values may lie outside it. Small multiples have a chart for each curve, with all
others in grey behind it, since a dozen curves in one chart cannot be told apart; axes are logarithmic where values span
decades.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vaebm.report.figures.canvas import MUTED, RULE, blank, chart, svg

ROOM_FOR_NAMES = 0.08  # of the axis, above the curves, for the names of stages
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
MAX_COLUMNS = 5
LOG_FROM = 8.0  # ratio of largest to smallest from which an axis is logarithmic

Curve = tuple[Sequence[float], Sequence[float]]  # iterations, values


def curves(
    title: str,
    unit: str,
    named: Mapping[str, Curve],
    *,
    boundaries: Mapping[str, float] | None = None,
    level: tuple[float, str] | None = None,
    limits: tuple[float, float] | None = None,
) -> bytes:
    """An SVG of named curves.

    Args:
        title: what is drawn.
        unit: of the values, as the axis says it.
        named: by legend entry; a single one has no legend.
        boundaries: where stages begin, by name.
        level: a value worth comparing with, and what it is.
        limits: of the axis of values; from the values unless given.
    """
    with chart(title) as axes:
        for (name, (iterations, values)), colour in zip(named.items(), COLOURS * len(named), strict=False):
            dots = "o" if len(values) == 1 else ""
            axes.plot(iterations, values, color=colour, label=name, marker=dots)
        if level is not None:
            axes.axhline(level[0], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
            axes.annotate(
                level[1], (0.995, level[0]), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                xytext=(0, 2), textcoords="offset points", color=MUTED, fontsize=8.5,
            )  # fmt: skip
        for name, start in (boundaries or {}).items():
            axes.axvline(start, color=MUTED, linewidth=0.8, alpha=0.5)
            axes.annotate(
                name.replace("_", " "), (start, 1.0), xycoords=("data", "axes fraction"), xytext=(3, -2),
                textcoords="offset points", va="top", fontsize=8, color=MUTED, rotation=0,
            )  # fmt: skip
        low, high = limits or _readable([values for _, values in named.values()], level)
        axes.set_ylim(low, high + (ROOM_FOR_NAMES * (high - low) if boundaries else 0.0))
        axes.set_xlabel("iteration")
        axes.set_ylabel(unit)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}".replace("-", "−"))
        if len(named) > 1:
            axes.legend(loc="best")
        return svg(axes.get_figure(root=True))


def _readable(all_values: Sequence[Sequence[float]], level: tuple[float, str] | None) -> tuple[float, float]:
    values = np.concatenate([np.asarray(values, dtype=float) for values in all_values])
    low, high = float(np.quantile(values, 0.02)), float(values.max())
    spread = float(np.quantile(values, 0.98)) - float(np.quantile(values, 0.1))
    low = max(low, float(np.quantile(values, 0.1)) - 2.0 * spread) if spread > 0 else low
    if level is not None:
        low, high = min(low, level[0]), max(high, level[0])
    margin = 0.06 * (high - low) or max(abs(high), 1.0) * 0.06
    return low - margin, high + margin


@dataclass(frozen=True)
class SpentCurve:
    """A quantity against what was spent."""

    name: str  # over its chart
    colour: str  # of the curve
    spent: Sequence[float]  # abscissae
    values: Sequence[float]  # ordinates
    errors: Sequence[float]  # their standard errors


def small_multiples(curves: Sequence[SpentCurve], across: str, up: str, level: float | None) -> bytes:
    """An SVG of small charts of `up` against `across`, `MAX_COLUMNS` in a row; `level` is drawn as a dashed line."""
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

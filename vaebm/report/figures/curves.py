"""Curves: figures of training against iterations, stage after stage.

Where curves fall far in their first iterations and then hardly move, the axis is cut to where they are worth
reading: the lowest 2 % of all values may lie outside it.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from vaebm.report.figures.canvas import MUTED, chart, svg

Curve = tuple[Sequence[float], Sequence[float]]  # iterations, values

ROOM_FOR_NAMES = 0.08  # of the axis, above the curves, for the names of stages
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")


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

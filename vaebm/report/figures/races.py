"""Races: many contenders by one measure, each against what it has spent, or all on one axis.

In the lanes each contender has a small chart of its own, with all others in grey behind it, since a dozen curves in one
chart cannot be told apart. In the rows each has a line, on a logarithmic axis where values span decades.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vaebm.report.figures.canvas import INK, MUTED, RULE, Axes, blank, chart, svg

MAX_COLUMNS = 5
DECADES = 8.0  # ratio of largest to smallest from which an axis is logarithmic


@dataclass(frozen=True)
class Racer:
    """One contender: what it is called, its colour, and its curve.

    Args:
        name: over its lane.
        colour: of its curve.
        spent: abscissae.
        values: ordinates.
        errors: their standard errors.
    """

    name: str
    colour: str
    spent: Sequence[float]
    values: Sequence[float]
    errors: Sequence[float]


def lanes(racers: Sequence[Racer], across: str, level: float | None) -> bytes:
    """An SVG of small charts, `MAX_COLUMNS` in a row at most.

    Args:
        racers: in order.
        across: the axis of what is spent.
        level: a value worth comparing with, drawn as a dashed line.
    """
    rows = math.ceil(len(racers) / MAX_COLUMNS)
    columns = math.ceil(len(racers) / rows)
    seen = [value for racer in racers for value in racer.values] + ([] if level is None else [level])
    logarithmic = min(seen) > 0 and max(seen) > DECADES * min(seen)
    low, high = min(seen), max(seen)
    margin = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    limits = (low / 1.5, high * 1.7) if logarithmic else (low - margin, high + margin)
    with blank(2.3 * columns + 0.3, 2.1 * rows + 0.25) as figure:
        for i, racer in enumerate(racers):
            axes = figure.add_subplot(rows, columns, i + 1)
            for other in racers:
                axes.plot(other.spent, other.values, color=RULE, linewidth=0.9, zorder=1)
            if level is not None:
                axes.axhline(level, color=MUTED, linewidth=1, linestyle=(0, (5, 3)), zorder=2)
            floor = limits[0] if logarithmic else -math.inf
            below = [max(v - e, floor) for v, e in zip(racer.values, racer.errors, strict=True)]
            above = [v + e for v, e in zip(racer.values, racer.errors, strict=True)]
            axes.fill_between(racer.spent, below, above, color=racer.colour, alpha=0.18, linewidth=0, zorder=3)
            axes.plot(racer.spent, racer.values, color=racer.colour, marker="o", markersize=3.5, zorder=4)
            axes.set_title(racer.name, fontsize=9.5, pad=4)
            if logarithmic:
                axes.set_yscale("log")
            axes.set_ylim(*limits)
            axes.set_xlim(left=0)
            axes.tick_params(labelbottom=i + columns >= len(racers), labelleft=i % columns == 0, length=0)
        figure.supxlabel(across, fontsize=9.5, color=MUTED)
        return svg(figure)


def rows(
    named: Mapping[str, tuple[str, float | None, str]],
    *,
    second: Mapping[str, float | None] | None = None,
    level: float | None = None,
    limits: tuple[float, float] | None = None,
) -> bytes:
    """An SVG of one value a contender, in rows.

    Args:
        named: colour, value (None: there is none) and how it is written, by contender.
        second: a further value of each, drawn as a ring.
        level: a value worth comparing with.
        limits: of a linear axis; from the values unless given.
    """
    values = [value for _, value, _ in named.values() if value is not None]
    values += [value for value in (second or {}).values() if value is not None]
    with chart("", 4.6, 0.45 + 0.27 * len(named)) as axes:
        logarithmic = bool(values) and min(values) > 0 and max(values) > DECADES * min(values)
        for row, (name, (colour, value, words)) in enumerate(named.items()):
            other = (second or {}).get(name)
            if other is not None:
                axes.plot(other, row, "o", color=colour, markersize=8, markerfacecolor="white", zorder=3)
            if value is not None:
                axes.plot(value, row, "o", color=colour, markersize=7, zorder=4)
            axes.annotate(words, (1.02, row), xycoords=("axes fraction", "data"), va="center", fontsize=9, color=INK)
        if limits is not None:
            axes.set_xlim(*limits)
        elif logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
            axes.xaxis.set_minor_formatter(lambda _value, _: "")
        _level(axes, level)
        axes.set_yticks(range(len(named)), list(named), color=INK)
        axes.set_ylim(len(named) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="both", length=0)
        axes.spines["left"].set_visible(False)
        return svg(axes.get_figure(root=True))


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error and, where there is one, a bracket."""

    name: str
    colour: str
    value: float
    stderr: float
    words: str
    bracket: tuple[float, float] | None = None


def estimates(found: Sequence[Estimate], level: float | None) -> bytes:
    """An SVG of estimates of one number: thick over two standard errors, thin over the bracket."""
    with chart("", 6.6, 0.6 + 0.42 * len(found)) as axes:
        for row, estimate in enumerate(found):
            if estimate.bracket is not None:
                axes.plot(estimate.bracket, (row, row), "|-", color=estimate.colour, linewidth=1, markersize=9)
            axes.errorbar(
                estimate.value, row, xerr=2 * estimate.stderr, fmt="o", color=estimate.colour, elinewidth=4, alpha=0.7
            )
            axes.annotate(
                estimate.words, (1.02, row), xycoords=("axes fraction", "data"), va="center", fontsize=9, color=INK
            )
        _level(axes, level)
        axes.set_yticks(range(len(found)), [estimate.name for estimate in found], color=INK)
        axes.set_ylim(len(found) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="both", length=0)
        axes.spines["left"].set_visible(False)
        return svg(axes.get_figure(root=True))


def _level(axes: Axes, level: float | None) -> None:
    if level is not None:
        axes.axvline(level, color=MUTED, linewidth=1, linestyle=(0, (2, 3)), zorder=1)

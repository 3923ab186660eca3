"""Dots: one number of each of several things on one axis, in rows; a logarithmic one where numbers span decades."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vaebm.evaluation.quantity import Quantity, written
from vaebm.metrics.measurement import Measurement
from vaebm.report.figures.canvas import INK, MUTED, Axes, chart, svg
from vaebm.report.subjects import FLOORS, WITH_ENERGY, in_order, subject

LOG_FROM = 8.0  # ratio of largest to smallest from which an axis is logarithmic
POWERS_FROM = 200.0  # and from which it has numbers at powers of ten alone: more would overlap


@dataclass(frozen=True)
class Dot:
    """One row."""

    name: str  # of the row
    colour: str  # of its marks
    value: float | None  # where the dot lies; None for none
    words: str  # the value as it is written
    stderr: float = 0.0  # two of these are drawn to either side
    bracket: tuple[float, float] | None = None  # ends of a thin line
    ring: float | None = None  # a further value, drawn as a ring
    bold: bool = False  # whether the words are to stand out


def dots(
    rows: Sequence[Dot],
    label: str,
    *,
    level: float | None = None,
    level_colour: str = MUTED,
    limits: tuple[float, float] | None = None,
) -> bytes:
    """An SVG of numbers in rows.

    Args:
        rows: from top to bottom.
        label: of the axis, with its unit.
        level: a value to compare with, drawn as a dotted line of `level_colour`.
        limits: of a linear axis; from the values unless given.
    """
    values = [value for row in rows for value in (row.value, row.ring) if value is not None]
    lowest = min((row.value - 2 * row.stderr for row in rows if row.value is not None), default=0.0)
    with chart("", 5.0, 0.6 + 0.3 * len(rows)) as axes:
        for place, row in enumerate(rows):
            if row.bracket is not None:
                axes.plot(row.bracket, (place, place), "|-", color=row.colour, linewidth=1, markersize=9)
            if row.ring is not None:
                axes.plot(row.ring, place, "o", color=row.colour, markersize=8, markerfacecolor="white", zorder=3)
            if row.value is not None:
                axes.errorbar(
                    row.value, place, xerr=2 * row.stderr, fmt="none", ecolor=row.colour, elinewidth=2.2, alpha=0.5
                )
                axes.plot(row.value, place, "o", color=row.colour, markersize=7.5, zorder=4)
            axes.annotate(
                row.words, (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=9.5,
                color=INK, fontweight="bold" if row.bold else "normal",
            )  # fmt: skip
        if level is not None:
            axes.axvline(level, color=level_colour, linewidth=1, linestyle=(0, (2, 3)), zorder=1)
        if limits is not None:
            axes.set_xlim(*limits)
        elif values and lowest > 0 and max(values) > LOG_FROM * min(values):
            _logarithmic(axes, wide=max(values) > POWERS_FROM * min(values))
        axes.set_yticks(range(len(rows)), [row.name for row in rows], color=INK)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(label)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        return svg(axes.get_figure(root=True))


def scores(what: Quantity, measurements: Mapping[str, Measurement]) -> bytes:
    """An SVG of the measurements of one quantity, by subject."""
    rows = []
    for key in in_order(set(measurements)):
        value, stderr = measurements[key].value * what.factor, measurements[key].stderr * what.factor
        words = " ± ".join(part for part in written(value, stderr) if part)
        rows.append(Dot(subject(key).label, subject(key).colour, value, words, stderr, bold=key in WITH_ENERGY))
    floor = next((key for key in FLOORS if key in measurements), None)
    unit = f" in {what.unit}" if what.unit else ""
    better = f" ({what.better} is better)" if what.better in ("lower", "higher") else ""
    label = f"{what.title}{unit}{better}"
    if floor is None:
        return dots(rows, label)
    return dots(rows, label, level=measurements[floor].value * what.factor, level_colour=subject(floor).colour)


def _logarithmic(axes: Axes, wide: bool) -> None:
    axes.set_xscale("log", subs=[2, 5])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.xaxis.set_minor_formatter(lambda value, _: "" if wide else f"{value:g}")
    axes.tick_params(axis="x", which="minor", labelsize=9.0, labelcolor=MUTED, length=3.5)

"""Scores: one measure of all subjects on one axis, with two standard errors to either side."""

from __future__ import annotations

from collections.abc import Mapping

from vaebm.evaluation.metric import quantity
from vaebm.evaluation.quantity import written
from vaebm.metrics.measurement import Measurement
from vaebm.report.figures.canvas import INK, MUTED, chart, svg
from vaebm.report.subjects import FLOORS, in_order, subject

LOG_FROM = 8.0  # ratio of largest to smallest from which the axis is logarithmic
POWERS_FROM = 200.0  # and from which it has numbers at powers of ten alone: more would overlap


def scores(name: str, measurements: Mapping[str, Measurement]) -> bytes:
    """An SVG of the measurements of one name, by subject."""
    what = quantity(name)
    keys = in_order(set(measurements))
    values = {key: measurements[key].value * what.factor for key in keys}
    errors = {key: measurements[key].stderr * what.factor for key in keys}
    unit = f" in {what.unit}" if what.unit else ""
    better = f" ({what.better} is better)" if what.better else ""
    with chart("", 5.0, 0.6 + 0.3 * len(keys)) as axes:
        for row, key in enumerate(keys):
            colour = subject(key).colour
            axes.errorbar(values[key], row, xerr=2 * errors[key], fmt="none", ecolor=colour, elinewidth=2.2, alpha=0.5)
            axes.plot(values[key], row, "o", color=colour, markersize=8, zorder=3)
            number, error = written(values[key], errors[key])
            axes.annotate(
                number + (f" ± {error}" if error else ""),
                (1.02, row),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=9.5,
                color=INK if key == "vaebm" else MUTED,
                fontweight="bold" if key == "vaebm" else "normal",
            )
        floor = next((key for key in FLOORS if key in values), None)
        if floor is not None:
            axes.axvline(values[floor], color=subject(floor).colour, linewidth=1, linestyle=(0, (2, 3)), zorder=1)
        smallest = min(values[key] - 2 * errors[key] for key in keys)
        if smallest > 0 and max(values.values()) > LOG_FROM * min(values.values()):
            axes.set_xscale("log", subs=[2, 5])
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            wide = max(values.values()) > POWERS_FROM * min(values.values())
            axes.xaxis.set_minor_formatter(lambda value, _: "" if wide else f"{value:g}")
            axes.tick_params(axis="x", which="minor", labelsize=9.0, labelcolor=MUTED, length=3.5)
        axes.set_yticks(range(len(keys)), [subject(key).label for key in keys], color=INK)
        axes.set_ylim(len(keys) - 0.5, -0.5)
        axes.set_xlabel(f"{what.title}{unit}{better}")
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        return svg(axes.get_figure(root=True))

"""Columns of tables: their laws, correlations and tails, one table beside another."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaebm.report.figures.canvas import MUTED, blank, chart, svg
from vaebm.report.subjects import FLOORS, in_order, subject

BINS, MOST_BARS = 28, 8
SHOWN = (0.005, 0.995)  # quantiles of the data between which an axis lies
LOG_FROM = 8.0  # ratio of the upper end to the median from which an axis of positive numbers is logarithmic
TAIL = np.concatenate([np.linspace(0.5, 0.98, 25), 1 - np.geomspace(0.02, 0.001, 14)])
Column = NDArray[Any]


def column_of_numbers(name: str, columns: Mapping[str, Column]) -> bytes:
    """An SVG of histograms of one column, by subject; what lies beyond the ends is in the outermost bars."""
    known = {key: values[~np.isnan(values)] for key, values in columns.items()}
    data = next(known[key] for key in FLOORS if key in known)
    low, middle, high = np.quantile(data, [SHOWN[0], 0.5, SHOWN[1]])
    logarithmic = low > 0 and high > LOG_FROM * middle
    few = np.unique(data)
    if len(few) <= BINS:
        edges = np.concatenate([[few[0] - 0.5], (few[1:] + few[:-1]) / 2, [few[-1] + 0.5]])
    elif logarithmic:
        edges = np.geomspace(low, high, BINS + 1)
    else:
        edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
    with chart(name, 3.4, 2.3) as axes:
        for key in in_order(set(known)):
            values, who = known[key].clip(edges[0], edges[-1]), subject(key)
            share = np.histogram(values, edges)[0] / max(len(values), 1)
            axes.stairs(share, edges, color=who.colour, linewidth=1.6, label=who.label)
        if logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter("")
        else:
            axes.locator_params(axis="x", nbins=5)  # more would run into each other
        axes.set_ylim(bottom=0)
        axes.margins(x=0)
        axes.set_ylabel("share of rows")
        axes.set_xlabel(name)
        return svg(axes.get_figure(root=True))


def column_of_names(name: str, columns: Mapping[str, Column]) -> bytes:
    """An SVG of the shares of the most frequent categories, by subject."""
    data = next(columns[key] for key in FLOORS if key in columns)
    counts = {category: int((data == category).sum()) for category in dict.fromkeys(data.tolist())}
    shown = sorted(counts, key=lambda category: -counts[category])[:MOST_BARS]
    keys = in_order(set(columns))
    width = 0.8 / len(keys)
    with chart(name, 3.4, 2.3) as axes:
        for place, key in enumerate(keys):
            shares = [float((columns[key] == category).mean()) for category in shown]
            who = subject(key)
            axes.bar(
                np.arange(len(shown)) + width * (place - (len(keys) - 1) / 2),
                shares,
                width,
                color=who.colour,
                label=who.label,
            )
        labels = ["missing" if category is None else str(category)[:10] for category in shown]
        axes.set_xticks(range(len(shown)), labels, rotation=0 if len(shown) < 6 else 35)
        axes.set_ylabel("share of rows")
        axes.set_xlabel(name)
        return svg(axes.get_figure(root=True))


def legend(keys: Sequence[str]) -> bytes:
    """An SVG of whose colour is which."""
    with blank(5.2, 0.4) as figure:
        axes = figure.add_subplot()
        axes.set_axis_off()
        handles = [
            axes.plot([], [], color=subject(key).colour, linewidth=3, label=subject(key).label)[0] for key in keys
        ]
        axes.legend(handles=handles, ncols=len(keys), loc="center")
        return svg(figure)


def correlations(names: Sequence[str], title: str, matrix: NDArray[np.float64]) -> bytes:
    """An SVG of a matrix of correlations or of their differences, from -1, red, to 1, blue."""
    with chart(title, 3.6, 3.4) as axes:
        drawn = axes.imshow(matrix, cmap="RdBu", vmin=-1, vmax=1)
        short = [name[:9] for name in names]
        axes.set_xticks(range(len(names)), short, rotation=90)
        axes.set_yticks(range(len(names)), short)
        axes.grid(visible=False)
        figure = axes.get_figure(root=True)
        assert figure is not None
        figure.colorbar(drawn, ax=axes, shrink=0.8)
        return svg(figure)


def tail(name: str, columns: Mapping[str, Column]) -> bytes:
    """An SVG of upper quantiles, from the median to 99.9 %, against those of held-out data."""
    known = {key: values[~np.isnan(values)] for key, values in columns.items()}
    floor = next(key for key in FLOORS if key in known)
    highest = 1 - 2 / len(known[floor])
    levels = TAIL[highest >= TAIL]
    theirs = np.quantile(known[floor], levels)
    with chart(f"{name}: quantiles from the median up", 4.6, 3.0) as axes:
        axes.plot(theirs, theirs, color=MUTED, linewidth=1, linestyle=(0, (2, 3)), label="equal")
        for key in in_order(set(known) - {floor}):
            who = subject(key)
            axes.plot(theirs, np.quantile(known[key], levels), "o-", color=who.colour, markersize=3, label=who.label)
        if theirs[0] > 0:
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.xaxis.set_minor_formatter("")
            axes.yaxis.set_minor_formatter("")
        axes.set_xlabel(f"{name}, {subject(floor).label}")
        axes.set_ylabel(f"{name}, samples")
        axes.legend(loc="upper left")
        return svg(axes.get_figure(root=True))

"""The plane: densities as maps on one colour scale, and samples as points among the modes.

Of points with more coordinates the first two are drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vaebm.data.splits import ModesTruth, Truth
from vaebm.report.figures.canvas import DOTS_PER_INCH, INK, MUTED, RULE, Axes, blank, png, svg

NATS_SHOWN = 12.0  # below the highest density; less is drawn as nothing
DENSITY_COLOURS = "Blues"
ENERGY_COLOURS = "RdBu"
STRAY, STRAY_NAME = "#c0408a", "pink"
SIDE, PANEL_SIDE = 2.6, 2.9  # inches of one map, alone and in a row


def density_map(log_density: Tensor, extent: tuple[float, float], highest: float) -> bytes:
    """A PNG of a log-density (x, y) on a square grid; the colours span `NATS_SHOWN` nats up to `highest`."""
    with blank(SIDE, SIDE) as figure:
        draw_density(figure.add_subplot(), log_density, extent, highest)
        return png(figure)


def density_scale(highest: float) -> bytes:
    """An SVG of the colours of all maps of densities up to `highest`."""
    with blank(4.6, 0.75) as figure:
        axes = figure.add_subplot()
        steps = torch.linspace(highest - NATS_SHOWN, highest, 256)[None].numpy()
        axes.imshow(steps, extent=(highest - NATS_SHOWN, highest, 0, 1), cmap=DENSITY_COLOURS, aspect="auto")
        axes.set_yticks([])
        axes.set_xlabel("log-density, nats")
        axes.grid(visible=False)
        return svg(figure)


def draw_density(axes: Axes, log_density: Tensor, extent: tuple[float, float], highest: float) -> None:
    """The same into given axes."""
    values = log_density.clamp(min=highest - NATS_SHOWN).T.numpy()
    axes.imshow(
        values, origin="lower", extent=(*extent, *extent), cmap=DENSITY_COLOURS, interpolation="bilinear",
        vmin=highest - NATS_SHOWN, vmax=highest,
    )  # fmt: skip
    _frame(axes, extent)


def energy_map(energy: Tensor, extent: tuple[float, float], reach: float) -> bytes:
    """A PNG of an energy (x, y) on a square grid, blue where low; the colours span `reach` nats to either side."""
    with blank(SIDE + 0.75, SIDE) as figure:
        axes = figure.add_subplot()
        image = axes.imshow(
            energy.T.numpy(), origin="lower", extent=(*extent, *extent), cmap=f"{ENERGY_COLOURS}_r",
            interpolation="bilinear", vmin=-reach, vmax=reach,
        )  # fmt: skip
        _frame(axes, extent)
        bar = figure.colorbar(image, ax=axes, shrink=0.85, pad=0.02, aspect=28, extend="both")
        _quiet(bar.ax, "E(x) + log Z, nats")
        return png(figure)


def scatter(
    points: Tensor, colour: str, extent: tuple[float, float], near: Tensor | None, dots_per_inch: int = DOTS_PER_INCH
) -> bytes:
    """A PNG of points (n, dim); those that are not `near` (n,) bool a mode are drawn in a colour of their own."""
    with blank(SIDE, SIDE, dots_per_inch) as figure:
        axes = figure.add_subplot()
        draw_points(axes, points, colour, extent, near)
        return png(figure)


def draw_points(
    axes: Axes, points: Tensor, colour: str, extent: tuple[float, float], near: Tensor | None, size: float = 3.0
) -> None:
    """The same into given axes."""
    near = torch.ones(len(points), dtype=torch.bool) if near is None else near
    for chosen, paint in ((~near, STRAY), (near, colour)):
        x, y = points[chosen, 0].numpy(), points[chosen, 1].numpy()
        axes.scatter(x, y, s=size, color=paint, alpha=0.55, linewidths=0, rasterized=True)
    _frame(axes, extent)


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points (n, dim) under a heading; those that are not `near` (n,) bool a mode have a colour of their own."""

    heading: str
    points: Tensor
    colour: str
    near: Tensor | None


def snapshots(clouds: Sequence[Cloud], extent: tuple[float, float], columns: int) -> bytes:
    """A PNG of the same points at several times, row by row."""
    rows = -(-len(clouds) // columns)
    with blank(2.1 * columns, 2.35 * rows) as figure:
        for i, cloud in enumerate(clouds):
            axes = figure.add_subplot(rows, columns, i + 1)
            draw_points(axes, cloud.points, cloud.colour, extent, cloud.near, size=1.6)
            axes.set_title(cloud.heading, fontsize=9.5, fontweight="normal")
            lowest, leftmost = i // columns == rows - 1, i % columns == 0
            axes.tick_params(labelleft=leftmost, labelbottom=lowest)
            axes.set_xlabel("x₁" if lowest else "")
            axes.set_ylabel("x₂" if leftmost else "")
        return png(figure)


def row_of_maps(maps: Sequence[tuple[str, str, Tensor]], extent: tuple[float, float], highest: float) -> bytes:
    """A PNG of log-densities on one colour scale: heading, a line below it, and the values, of each."""
    with blank(PANEL_SIDE * len(maps), PANEL_SIDE + 0.7) as figure:
        for i, (heading, line, log_density) in enumerate(maps):
            axes = figure.add_subplot(1, len(maps), i + 1)
            draw_density(axes, log_density, extent, highest)
            _head(axes, heading, line, i, any(other for _, other, _ in maps))
        return png(figure)


def row_of_clouds(clouds: Sequence[Cloud], extent: tuple[float, float]) -> bytes:
    """A PNG of samples side by side."""
    with blank(PANEL_SIDE * len(clouds), PANEL_SIDE + 0.4) as figure:
        for i, cloud in enumerate(clouds):
            axes = figure.add_subplot(1, len(clouds), i + 1)
            draw_points(axes, cloud.points, cloud.colour, extent, cloud.near)
            _head(axes, cloud.heading, "", i, False)
        return png(figure)


def near_a_mode(points: Tensor, truth: Truth | None) -> Tensor | None:
    """(n,) bool: which of the points (n, dim) lie within 3 standard deviations of a mode; None without modes."""
    if not isinstance(truth, ModesTruth):
        return None
    return torch.cdist(points, truth.modes.to(points)).amin(1) <= 3.0 * truth.scale


def _frame(axes: Axes, extent: tuple[float, float]) -> None:
    axes.set_xlim(*extent)
    axes.set_ylim(*extent)
    axes.set_aspect("equal")
    axes.set_xlabel("x₁")
    axes.set_ylabel("x₂")
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(True)


def _quiet(axes: Axes, label: str) -> None:
    axes.set_ylabel(label)
    axes.grid(visible=False)
    axes.tick_params(length=2, color=RULE)
    for spine in axes.spines.values():
        spine.set_edgecolor(INK)
        spine.set_linewidth(0.3)


def _head(axes: Axes, heading: str, line: str, column: int, room: bool) -> None:
    axes.set_title(heading, pad=22 if room else 8)
    written = axes.annotate(
        line, (0.0, 1.0), xycoords="axes fraction", xytext=(0, 6), textcoords="offset points", fontsize=8.5, color=MUTED
    )
    written.set_in_layout(False)  # the axes are not to make room for it sideways
    axes.tick_params(labelleft=column == 0)
    axes.set_ylabel("x₂" if column == 0 else "")

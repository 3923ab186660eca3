"""The plane: densities as maps on one colour scale, and samples as points among the modes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vaebm.report.figures.canvas import DOTS_PER_INCH, INK, RULE, Axes, blank, png, svg

NATS_SHOWN = 12.0  # below the highest density; less is drawn as nothing
DENSITY_COLOURS = "Blues"
ENERGY_COLOURS = "RdBu"
STRAY, STRAY_NAME = "#c0408a", "pink"
SIDE = 2.6  # inches of one map


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
    points: Tensor,
    colour: str,
    extent: tuple[float, float],
    near: Tensor | None,
    dots_per_inch: int = DOTS_PER_INCH,
) -> bytes:
    """A PNG of points (n, 2); those that are not `near` (n,) bool a mode are drawn in a colour of their own."""
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


def snapshots(
    positions: Sequence[tuple[str, Tensor]],
    colour: str,
    extent: tuple[float, float],
    near: Sequence[Tensor | None],
    columns: int,
) -> bytes:
    """A PNG of the same points at several times, (label, points (n, 2)) each, row by row."""
    rows = -(-len(positions) // columns)
    with blank(2.1 * columns, 2.35 * rows) as figure:
        for i, ((label, points), close) in enumerate(zip(positions, near, strict=True)):
            axes = figure.add_subplot(rows, columns, i + 1)
            draw_points(axes, points, colour, extent, close, size=1.6)
            axes.set_title(label, fontsize=9.5, fontweight="normal")
            lowest, leftmost = i // columns == rows - 1, i % columns == 0
            axes.tick_params(labelleft=leftmost, labelbottom=lowest)
            axes.set_xlabel("x₁" if lowest else "")
            axes.set_ylabel("x₂" if leftmost else "")
        return png(figure)


def extent_of(points: Tensor) -> tuple[float, float]:
    """One range for both axes that holds all but a few thousandths of the points (n, 2), in round numbers."""
    values = points[:100_000].flatten()
    low, high = (float(q) for q in torch.quantile(values, torch.tensor([0.001, 0.999])))
    margin = 0.12 * max(high - low, 1e-6)
    step = 10.0 ** np.floor(np.log10(high - low + 2 * margin)) / 10.0
    return float(np.floor((low - margin) / step) * step), float(np.ceil((high + margin) / step) * step)


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


def near_a_mode(points: Tensor, modes: Tensor, scale: float) -> Tensor:
    """(n,) bool: which of the points (n, dim) lie within 3 standard deviations of a mode (K, dim)."""
    return torch.cdist(points, modes.to(points)).amin(1) <= 3.0 * scale

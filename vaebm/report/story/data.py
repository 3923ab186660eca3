"""The data: what was found, and what it looks like."""

from __future__ import annotations

import torch

from vaebm.data import DataSet
from vaebm.report.chapter import Chapter, Plate, Plates
from vaebm.report.exhibits import SEED, Exhibits
from vaebm.report.figures import plane, sheet
from vaebm.report.story.words import counted
from vaebm.report.subjects import subject

ROWS = 3  # of training images


def data_chapter(data: DataSet, exhibits: Exhibits) -> Chapter:
    """What there is to learn from."""
    plates = {"image": _images, "points": _points}[data.modality.name](data, exhibits)
    return Chapter("data", "What there is to learn from", [data.description], [plates])


def _images(data: DataSet, _: Exhibits) -> Plates:
    columns = 2 * sheet.grid_side(data.shape) + 4
    rows = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(SEED))[: ROWS * columns]
    ordered = ""
    if data.train.labels is not None:
        rows = rows[data.train.labels[rows].argsort(stable=True)]
        ordered = ", ordered by class"
    shown = sheet.tiles(data.train.batch(rows).x)
    scale = max(1, 2 * sheet.SHEET_PIXELS // (columns * shown.shape[2]))
    grid = sheet.sheet([shown[i : i + columns] for i in range(0, len(shown), columns)], scale, gap=max(2, scale // 2))
    reduced = f" They are reduced to {sheet.MAX_SIDE} pixels here." if sheet.is_reduced(data.shape) else ""
    caption = (
        f"{counted(len(rows), 'training image')}, drawn at random{ordered}. See how much they vary within a kind and"
        " how sharp their edges are: samples have to match both. Black is the lowest value a pixel can have and white"
        f" the highest, here and in all pictures below.{reduced}"
    )
    return Plates([Plate(sheet.png(grid), caption)], 300, 1080)


def _points(data: DataSet, exhibits: Exhibits) -> Plates:
    points = exhibits.held_out
    extent = plane.extent_of(data.train.all())
    near = None
    caption = f"{counted(len(points), 'held-out point')}"
    if data.truth is not None:
        near = plane.near_a_mode(points, data.truth.modes, data.truth.scale)
        caption += (
            f", drawn from {len(data.truth.modes)} modes of standard deviation {data.truth.scale:g}; the few in"
            f" {plane.STRAY_NAME} lie beyond 3 standard deviations of any mode, as they should"
        )
    caption += ". See how empty the space between the modes is: a model has to leave it empty too."
    return Plates([Plate(plane.scatter(points[:, :2], subject("held_out").colour, extent, near), caption)], 280, 420)

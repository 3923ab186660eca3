"""The data: what was found, and what it looks like."""

import torch

from vaebm.data import DataSet, ModesTruth
from vaebm.evaluation.density_maps import extent_of
from vaebm.report.figures import plane, sheet
from vaebm.report.report_data import SEED, ReportData
from vaebm.report.section import Figure, Row, Section
from vaebm.report.subjects import subject
from vaebm.wording import counted

ROWS = 3  # of training images
POINTS_SHOWN = 2_000


def data_section(report: ReportData) -> Section:
    """What the model learned from."""
    pictures = {"image": _images, "points": _points}.get(report.data.modality.name)
    rows = [] if pictures is None else [pictures(report.data)]
    return Section("data", "What the model learned from", [report.data.description], rows)


def _images(data: DataSet) -> Row:
    columns = 2 * sheet.grid_side(data.shape) + 4
    rows = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(SEED))[: ROWS * columns]
    ordered = ""
    if data.train.labels is not None:
        rows = rows[data.train.labels[rows].argsort(stable=True)]
        ordered = ", ordered by class"
    grid = sheet.wide_sheet(sheet.tiles(data.train.batch(rows).x), columns)
    reduced = f" Images are reduced to {sheet.MAX_SIDE} pixels here." if max(data.shape[1:]) > sheet.MAX_SIDE else ""
    caption = (
        f"These are {counted(len(rows), 'training image')}, drawn at random{ordered}. Samples should vary as much"
        " within a kind and have edges as sharp. In all pictures of this page, black is the lowest value that a pixel"
        f" can have and white the highest.{reduced}"
    )
    return Row([Figure(sheet.png(grid), caption)], 300, 1080)


def _points(data: DataSet) -> Row:
    points = data.test.batch(torch.arange(min(POINTS_SHOWN, len(data.test)))).x
    caption = f"These are {counted(len(points), 'held-out point')}"
    if isinstance(data.truth, ModesTruth):
        caption += (
            f", drawn from {len(data.truth.modes)} modes of standard deviation {data.truth.scale:g}. The few in"
            f" {plane.STRAY_NAME} lie beyond 3 standard deviations of any mode, as they should"
        )
    caption += ". Between them there are places without points, and a model has to leave those empty too."
    picture = plane.scatter(
        points, subject("held_out").colour, extent_of(data.train.all()), plane.near_a_mode(points, data.truth)
    )
    return Row([Figure(picture, caption)], 280, 420)

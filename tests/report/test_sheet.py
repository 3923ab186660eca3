"""Sheets show pixels as they are: whole squares, one fixed range."""

from __future__ import annotations

import numpy as np
import torch

from vaebm.report.figures import sheet


def test_black_and_white_are_fixed_whatever_the_image() -> None:
    x = torch.zeros(2, 1, 2, 2)
    x[0] = 0.1  # a faint image is not stretched
    x[1, 0, 0, 0], x[1, 0, 1, 1] = -1.0, 1.0
    shown = sheet.tiles(x)
    assert shown.shape == (2, 2, 2, 3)
    assert set(shown[0].flatten().tolist()) == {140}
    assert shown[1, 0, 0].tolist() == [0, 0, 0]
    assert shown[1, 1, 1].tolist() == [255, 255, 255]


def test_pixels_become_whole_squares_with_paper_between() -> None:
    x = torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1).expand(2, 1, 3, 3)
    page = sheet.sheet([sheet.tiles(x)], scale=4, gap=2)
    assert page.shape == (12, 26, 3)
    assert (page[:, :12] == 0).all()
    assert (page[:, 12:14] == 255).all()
    assert (page[:, 14:] == 255).all()


def test_wide_gaps_shift_what_follows() -> None:
    black = np.zeros((4, 1, 1, 3), dtype=np.uint8)
    page = sheet.sheet([black], gap=1, wide_gaps=[1])
    assert (page[0, :, 0] == 0).nonzero()[0].tolist() == [0, 2, 7, 9]


def test_large_images_are_reduced_and_small_ones_are_not() -> None:
    assert sheet.tiles(torch.zeros(1, 3, 192, 96)).shape == (1, 96, 48, 3)
    assert sheet.tiles(torch.zeros(1, 3, 8, 9)).shape == (1, 8, 9, 3)
    assert sheet.grid_side((1, 8, 8)) == 6
    assert sheet.grid_side((3, 64, 64)) == 4
    assert sheet.grid_side((3, 256, 256)) == 3


def test_pairs_alternate() -> None:
    first, second = np.zeros((2, 1, 1, 3), dtype=np.uint8), np.ones((2, 1, 1, 3), dtype=np.uint8)
    assert sheet.interleaved(first, second)[:, 0, 0, 0].tolist() == [0, 1, 0, 1]


def test_grey_sheets_are_stored_grey() -> None:
    grey = np.full((4, 4, 3), 7, dtype=np.uint8)
    assert len(sheet.png(grey)) < len(sheet.png(np.random.default_rng(0).integers(0, 255, (4, 4, 3), dtype=np.uint8)))

"""Draws come back as they were measured, and only those of the same model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from vaebm.data.transforms import to_uint8
from vaebm.evaluation.stored_draws import MAX_VALUES, StoredDraws, save_record, stored_rows

IMAGES = torch.linspace(-1.1, 1.1, 5 * 3 * 4 * 4).reshape(5, 3, 4, 4)
POINTS = torch.linspace(-3, 3, 14).reshape(7, 2)


@pytest.fixture
def stored(tmp_path: Path) -> StoredDraws:
    return StoredDraws(tmp_path / "draws", (2,), "abc")


@pytest.fixture
def images(tmp_path: Path) -> StoredDraws:
    return StoredDraws(tmp_path / "draws of images", (3, 4, 4), "abc")


def test_images_come_back(images: StoredDraws) -> None:
    images.save("vaebm", {"sample": IMAGES, "mean": IMAGES / 2}, seed=0)
    shown = images.load("vaebm", "sample")
    assert shown is not None
    assert torch.equal(to_uint8(shown), to_uint8(IMAGES))
    assert (shown - IMAGES.clamp(-1, 1)).abs().max() <= 1 / 255 + 1e-6
    mean = images.load("vaebm", "mean", 2)
    assert mean is not None
    assert mean.shape == (2, 3, 4, 4)


def test_points_come_back(stored: StoredDraws) -> None:
    assert stored.load("vaebm", "sample") is None
    assert stored.subjects() == []
    stored.save("vaebm", {"sample": POINTS, "mean": POINTS / 2}, seed=0)
    stored.save("vae", {"sample": POINTS}, seed=1)
    points = stored.load("vae", "sample", 99)
    assert points is not None
    assert torch.equal(points, POINTS)
    assert stored.load("vaebm", "denoised") is None
    assert stored.about("vae") == {"model_sha256": "abc", "seed": 1}
    assert stored.subjects() == ["vae", "vaebm"]


def test_held_out_data_look_the_same_in_every_show(images: StoredDraws) -> None:
    images.save("held_out", {None: IMAGES})
    for show in (None, "sample", "mean"):
        found = images.load("held_out", show)
        assert found is not None
        assert len(found) == 5


def test_another_show_of_the_same_draw_is_added_and_another_draw_replaces(stored: StoredDraws) -> None:
    stored.save("vaebm", {"sample": POINTS}, seed=0)
    stored.save("vaebm", {"mean": POINTS}, seed=0)
    assert stored.load("vaebm", "sample") is not None
    stored.save("vaebm", {"mean": POINTS}, seed=1)
    assert stored.load("vaebm", "sample") is None


def test_draws_of_another_model_or_damaged_ones_are_not_there(stored: StoredDraws, tmp_path: Path) -> None:
    stored.save("vaebm", {"sample": POINTS}, seed=0)
    assert StoredDraws(tmp_path / "draws", (2,), "def").load("vaebm", "sample") is None
    path = tmp_path / "draws" / "vaebm.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    assert stored.load("vaebm", "sample") is None
    assert stored.about("vaebm") == {}


@pytest.mark.parametrize(
    "tensors",
    [
        {"sample": POINTS[:0]},
        {"sample": POINTS.double()},
        {"sample": torch.zeros(7, 3)},
        {"sample": POINTS, "mean": torch.zeros(6, 2)},
        {"sample": POINTS, "energies": torch.zeros(6)},
        {"sample": POINTS, "energies": torch.zeros(7, 1)},
        {"energies": torch.zeros(7)},
        {},
    ],
)
def test_what_save_does_not_write_is_not_there(tensors: dict[str, Tensor], stored: StoredDraws) -> None:
    save_record(stored.folder / "vaebm.safetensors", "abc", tensors, {"seed": 0})
    assert stored.load("vaebm", "sample") is None
    assert stored.energies("vaebm") is None
    assert stored.subjects() == []


def test_what_is_kept_is_bounded_and_in_a_random_order() -> None:
    assert len(stored_rows(100_000, (2,))) == 10_000
    assert len(stored_rows(100_000, (1, 8, 8))) == 2_000
    assert len(stored_rows(100_000, (3, 64, 64))) * 3 * 64 * 64 <= MAX_VALUES
    assert len(stored_rows(100_000, (3, 1024, 1024))) == 64
    rows = stored_rows(50, (2,))
    assert torch.equal(rows, stored_rows(50, (2,)))
    assert not torch.equal(rows, torch.arange(50))
    assert torch.equal(rows.sort().values, torch.arange(50))

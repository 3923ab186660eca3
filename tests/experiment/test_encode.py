"""Codes in a file: posterior means in the order of the input, with what is known of it."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from vaebm.data.transforms import to_model
from vaebm.errors import InputError
from vaebm.experiment.encode import write_codes
from vaebm.experiment.run_directory import Run


def written(run: Run, given: str | Path, out: Path) -> dict[str, NDArray[np.generic]]:
    assert write_codes(run, str(given), out) == out
    with np.load(out, allow_pickle=False) as file:
        return dict(file)


def codes(run: Run, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Of (n, H, W, C), by the model itself."""
    x = to_model(torch.from_numpy(images).permute(0, 3, 1, 2))
    return run.model().encode(x).detach().numpy()


def test_a_split(digits_run: Run, tmp_path: Path) -> None:
    found, test = written(digits_run, "test", tmp_path / "new" / "x.npz"), digits_run.data().test
    assert set(found) == {"codes", "labels"}
    assert found["codes"].dtype == np.float32
    np.testing.assert_allclose(found["codes"], digits_run.model().encode(test.all()).detach(), atol=1e-6)
    assert test.labels is not None
    assert (found["labels"] == test.labels.numpy()).all()


def test_arrays(digits_run: Run, points_run: Run, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    images, labels = generator.integers(0, 256, (3, 8, 8, 1), dtype=np.uint8), np.array([5, 1, 2])
    np.savez(tmp_path / "images.npz", images=images, labels=labels)
    found = written(digits_run, tmp_path / "images.npz", tmp_path / "x.npz")
    np.testing.assert_allclose(found["codes"], codes(digits_run, images), atol=1e-6)
    assert (found["labels"] == labels).all()
    points = generator.normal(size=(4, 2)).astype(np.float32)
    np.savez(tmp_path / "points.npz", points=points)
    found = written(points_run, tmp_path / "points.npz", tmp_path / "y.npz")
    assert set(found) == {"codes"}
    np.testing.assert_allclose(found["codes"], points_run.model().encode(torch.from_numpy(points)).detach(), atol=1e-6)


def test_folders(digits_run: Run, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8), dtype=np.uint8)
    for image, name in zip(images, ["b/0.png", "a/1.png", "b/2.png", "a/0.png"], strict=True):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "in" / name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = written(digits_run, tmp_path / "in", tmp_path / "x.npz")
    np.testing.assert_allclose(found["codes"], codes(digits_run, images[[3, 1, 0, 2], ..., None]), atol=1e-6)
    assert found["labels"].tolist() == [0, 0, 1, 1]
    Image.fromarray(images[0].repeat(2, 0).repeat(2, 1)).save(tmp_path / "in" / "a" / "2.png")
    with pytest.warns(UserWarning, match="in: images of 16 x 16 were cropped and resized to 8 x 8"):
        assert len(written(digits_run, tmp_path / "in", tmp_path / "x.npz")["codes"]) == 5
    (tmp_path / "in" / "b" / "9.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"b/9\.png \(.*\)$"):
        write_codes(digits_run, str(tmp_path / "in"), tmp_path / "x.npz")


def test_a_data_set_by_name(digits_run: Run, tmp_path: Path) -> None:
    assert len(written(digits_run, "digits:validation", tmp_path / "x.npz")["codes"]) == 200


def test_what_does_not_suit_the_model(digits_run: Run, points_run: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "odd.npz", pictures=np.zeros((2, 8, 8, 1), np.uint8), more=np.zeros(2))
    np.savez(tmp_path / "labels.npz", images=np.zeros((2, 8, 8, 1), np.uint8), labels=np.zeros(3, np.int64))
    (tmp_path / "empty").mkdir()
    for run, given, said in [
        (digits_run, tmp_path / "odd.npz", r"odd\.npz holds pictures"),
        (digits_run, tmp_path / "labels.npz", r"labels\.npz: labels \(3,\) for 2 samples"),
        (digits_run, tmp_path / "empty", "empty"),
        (digits_run, "tset", "did you mean 'test'"),
        (points_run, tmp_path / "empty", "cannot hold points"),
    ]:
        with pytest.raises(InputError, match=said):
            write_codes(run, str(given), tmp_path / "x.npz")
    with pytest.raises(InputError, match=r"--out .*x\.npz"):
        write_codes(digits_run, "test", tmp_path / "x.csv")
    assert not (tmp_path / "x.npz").exists()


def test_samples_have_as_few_bits_as_the_run_s_data(photos_run: Run, tmp_path: Path) -> None:
    coarse = photos_run.recipe.data.model_copy(update={"bits": 5})
    photos_run.recipe = photos_run.recipe.model_copy(update={"data": coarse})
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 10, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=images)
    x = to_model(torch.from_numpy(images >> 3).permute(0, 3, 1, 2), 31)
    expected = photos_run.model().encode(x).detach().numpy()
    np.testing.assert_allclose(
        written(photos_run, tmp_path / "a.npz", tmp_path / "x.npz")["codes"], expected, atol=1e-6
    )

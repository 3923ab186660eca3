"""Samples of a user's: read in the order of the input, brought to the model's shape, bad ones named."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vaebm.data import DigitsSettings, to_uint8
from vaebm.data.samples import of_split, read_samples
from vaebm.errors import InputError

SHAPE = (1, 8, 8)


def photos(folder: Path, count: int = 3, size: tuple[int, int] = (8, 8), mode: str = "L") -> Path:
    folder.mkdir()
    for k in range(count):
        Image.new(mode, size, 10 * k if mode == "L" else (10 * k,) * 3).save(folder / f"{k}.png")
    return folder


def test_a_folder_a_zip_and_one_file_give_images_by_name(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    for path in (folder, tmp_path / "photos.zip"):
        samples = read_samples(path, SHAPE)
        assert samples.names == ["0.png", "1.png", "2.png"]
        assert samples.said == ""
        assert torch.equal(to_uint8(samples.x).amax((1, 2, 3)), torch.tensor([0, 10, 20], dtype=torch.uint8))
    assert torch.equal(read_samples(folder / "1.png", SHAPE).x, samples.x[1:2])


def test_other_sizes_and_channels_become_the_model_s_and_are_said(tmp_path: Path) -> None:
    samples = read_samples(photos(tmp_path / "photos", size=(20, 16), mode="RGB"), SHAPE)
    assert samples.x.shape == (3, *SHAPE)
    assert int(to_uint8(samples.x[2]).max()) == int(to_uint8(samples.x[2]).min()) == 20
    assert "20 x 16" in samples.said
    assert "8 x 8" in samples.said
    assert read_samples(tmp_path / "photos", (3, 8, 8)).x.shape == (3, 3, 8, 8)


def test_an_array_of_another_size_is_resized_as_the_same_pictures_are(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 12, 16), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    (tmp_path / "photos").mkdir()
    for k, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "photos" / f"{k}.png")
    from_array, from_files = read_samples(tmp_path / "images.npy", SHAPE), read_samples(tmp_path / "photos", SHAPE)
    assert torch.equal(from_array.x, from_files.x)
    assert from_array.said == from_files.said


@pytest.mark.parametrize("low", [0.0, -1.0])
def test_floats_are_read_in_either_range(low: float, tmp_path: Path) -> None:
    images = np.linspace(low, 1.0, 2 * 64, dtype=np.float64).reshape(2, 8, 8, 1)
    np.savez(tmp_path / "x.npz", images=images, more=images)
    x = read_samples(tmp_path / "x.npz", SHAPE).x
    assert x.dtype == torch.float32
    assert (float(x.min()), float(x.max())) == (-1.0, 1.0)


def test_data_sets_by_name_and_by_split() -> None:
    data = DigitsSettings().load()
    assert torch.equal(read_samples("digits", SHAPE).x, data.test.all())
    assert torch.equal(read_samples("digits:validation", SHAPE).x, data.splits["validation"].all())
    enlarged = of_split(data.test, (3, 16, 16))
    assert enlarged.x.shape == (360, 3, 16, 16)
    assert "resized" in enlarged.said
    with pytest.raises(InputError, match="split"):
        read_samples("digits:tset", SHAPE)


def test_bad_samples_are_named_or_skipped(tmp_path: Path) -> None:
    points = np.ones((4, 2), np.float32)
    points[1, 0], points[3, 1] = math.nan, math.inf
    np.savez(tmp_path / "p.npz", points=points)
    with pytest.raises(InputError, match=r"2 samples.*1 .not finite., 3 .not finite.*--skip-bad"):
        read_samples(tmp_path / "p.npz", (2,))
    samples = read_samples(tmp_path / "p.npz", (2,), skip_bad=True)
    assert samples.places == [0, 2]
    assert samples.names == ["0", "2"]
    assert "left out 2 samples" in samples.said
    folder = photos(tmp_path / "photos")
    (folder / "1.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"1\.png"):
        read_samples(folder, SHAPE)
    assert read_samples(folder, SHAPE, skip_bad=True).places == [0, 2]


@pytest.mark.parametrize(
    ("array", "shape", "words"),
    [
        (np.zeros((3, 5), np.float32), (2,), "shape"),
        (np.zeros((0, 2), np.float32), (2,), "empty"),
        (np.zeros(2, np.float32), (2,), "shape"),
        (np.zeros((8, 8), np.uint8), SHAPE, "batch"),
        (np.zeros((2, 8, 8, 4), np.uint8), SHAPE, "channels"),
        (np.full((2, 8, 8), 200.0), SHAPE, "uint8"),
        (np.zeros((2, 8, 8), np.int64), SHAPE, "uint8"),
        (np.array(["a", "b"]), (2,), "no numbers"),
        (np.full((2, 2), math.nan), (2,), "cannot be read"),
    ],
)
def test_arrays_that_do_not_suit_the_model_are_refused(
    array: np.ndarray, shape: tuple[int, ...], words: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(InputError, match=words):
        read_samples(tmp_path / "x.npy", shape)


def test_paths_that_hold_no_samples_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.npz").write_bytes(b"")
    (tmp_path / "broken.npy").write_bytes(b"")
    np.savez(tmp_path / "two.npz", a=np.zeros(2), b=np.zeros(2))
    for name, shape in {
        "empty": SHAPE,
        "broken.npz": SHAPE,
        "broken.npy": (2,),
        "two.npz": (2,),
        "lost": SHAPE,
    }.items():
        with pytest.raises(InputError):
            read_samples(tmp_path / name, shape)
    with pytest.raises(InputError, match="points"):
        read_samples(tmp_path / "empty", (2,))

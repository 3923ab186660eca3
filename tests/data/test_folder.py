import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vaebm.data import IMAGES, FolderSettings
from vaebm.errors import InputError

# The four of "000.png" ... "039.png" whose names have the smallest SHA-256, on every machine.
HELD_OUT = (4, 22, 25, 38)


def picture(seed: int, width: int = 16, height: int = 16, channels: int = 3) -> Image.Image:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def fill(root: Path, count: int = 20, suffix: str = "png", **size: int) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        picture(i, **size).save(root / f"{i:03d}.{suffix}")
    return root


def message(root: Path, size: int | None = None) -> str:
    with pytest.raises(InputError) as caught:
        FolderSettings(root=str(root), size=size).load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_uniform_colour_images_are_read_as_they_are(tmp_path: Path) -> None:
    data = FolderSettings(root=str(fill(tmp_path / "cats", 30))).load()
    assert (data.name, data.modality, data.shape, data.class_names) == ("cats", IMAGES, (3, 16, 16), None)
    assert (len(data.train), len(data.test)) == (27, 3)
    originals = {np.asarray(picture(i)).transpose(2, 0, 1).tobytes() for i in range(30)}
    read = {row.numpy().tobytes() for row in torch.cat([data.train.values, data.test.values])}
    assert read == originals
    for word in ("30 images", "30 PNG", "16 x 16", "RGB", "27 for training, 3 held out", "nothing was skipped"):
        assert word in data.description


def test_the_held_out_images_are_those_of_the_smallest_hashes(tmp_path: Path) -> None:
    fill(tmp_path / "a", 40)
    test = FolderSettings(root=str(tmp_path / "a")).load().test.values
    (tmp_path / "b").mkdir()
    for path in sorted((tmp_path / "a").iterdir(), reverse=True):  # written in another order, under another folder
        (tmp_path / "b" / path.name).write_bytes(path.read_bytes())
    assert torch.equal(FolderSettings(root=str(tmp_path / "b")).load().test.values, test)
    expected = torch.stack([torch.from_numpy(np.array(picture(i))).permute(2, 0, 1) for i in HELD_OUT])
    assert torch.equal(test, expected)


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "tiff", "jpg", "pgm"])
def test_grey_in_any_format(tmp_path: Path, suffix: str) -> None:
    data = FolderSettings(root=str(fill(tmp_path, suffix=suffix, channels=1))).load()
    assert data.shape == (1, 16, 16)
    assert "grey" in data.description


def test_rgb_with_equal_channels_is_grey_and_one_coloured_image_makes_all_rgb(tmp_path: Path) -> None:
    for i in range(20):
        picture(i, channels=1).convert("RGB").save(tmp_path / f"{i}.png")
    assert FolderSettings(root=str(tmp_path)).load().shape == (1, 16, 16)
    picture(20).save(tmp_path / "coloured.png")
    assert FolderSettings(root=str(tmp_path)).load().shape == (3, 16, 16)


def test_16_bit_grey_keeps_its_range(tmp_path: Path) -> None:
    for i in range(20):
        Image.fromarray(np.asarray(picture(i, channels=1)).astype(np.uint16) * 257).save(tmp_path / f"{i:03d}.png")
    data = FolderSettings(root=str(tmp_path)).load()
    read = {row.numpy().tobytes() for row in torch.cat([data.train.values, data.test.values])}
    assert read == {np.asarray(picture(i, channels=1)).tobytes() for i in range(20)}


def test_transparency_is_put_on_white(tmp_path: Path) -> None:
    fill(tmp_path, 20)
    Image.new("RGBA", (16, 16), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("RGBA", (16, 16), (0, 0, 0, 255)).save(tmp_path / "opaque.png")
    data = FolderSettings(root=str(tmp_path)).load()
    everything = torch.cat([data.train.values, data.test.values]).flatten(1)
    assert (everything == 255).all(1).sum().item() == 1
    assert (everything == 0).all(1).sum().item() == 1
    assert "transparency of 1 image put on white" in data.description


def test_saturated_pixels_are_counted(tmp_path: Path) -> None:
    for i in range(20):
        Image.fromarray(np.where(np.asarray(picture(i, channels=1)) < 128, 0, 100).astype(np.uint8)).save(
            tmp_path / f"{i}.png"
        )
    data = FolderSettings(root=str(tmp_path)).load()
    assert abs(data.saturated_fraction - 0.5) < 0.05
    assert f"{data.saturated_fraction:.0%} of them exactly black or white" in data.description


def test_subfolders_are_classes(tmp_path: Path) -> None:
    for name, seeds in (("dog", range(12)), ("cat", range(12, 24))):
        (tmp_path / name / "deeper").mkdir(parents=True)
        for i in seeds:
            picture(i).save(tmp_path / name / ("deeper" if i % 2 else "") / f"{i}.png")
    data = FolderSettings(root=str(tmp_path)).load()
    assert data.class_names == ("cat", "dog")
    assert data.train.labels is not None
    assert data.test.labels is not None
    assert torch.cat([data.train.labels, data.test.labels]).bincount().tolist() == [12, 12]
    assert "2 classes: cat, dog" in data.description
    originals = {np.asarray(picture(i)).transpose(2, 0, 1).tobytes(): int(i < 12) for i in range(24)}
    for row, label in zip(data.train.values, data.train.labels, strict=True):
        assert originals[row.numpy().tobytes()] == label
    picture(24).save(tmp_path / "loose.png")
    assert FolderSettings(root=str(tmp_path)).load().class_names is None


def test_colour_webp_is_read(tmp_path: Path) -> None:
    assert "20 WEBP" in FolderSettings(root=str(fill(tmp_path, suffix="webp"))).load().description


def test_one_subfolder_is_no_class(tmp_path: Path) -> None:
    fill(tmp_path / "images")
    assert FolderSettings(root=str(tmp_path)).load().class_names is None


def test_broken_files_are_counted_and_three_named(tmp_path: Path) -> None:
    fill(tmp_path, 25, suffix="jpg")
    whole = (tmp_path / "000.jpg").read_bytes()
    (tmp_path / "a_cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b_empty.png").touch()
    (tmp_path / "c_notes.txt").write_text("no image")
    (tmp_path / "d_more.csv").write_text("1,2")
    (tmp_path / ".hidden").write_text("not even counted")
    (tmp_path / "e_broken_link.png").symlink_to(tmp_path / "nowhere.png")
    data = FolderSettings(root=str(tmp_path)).load()
    assert len(data.train) + len(data.test) == 25
    assert (
        "5 files skipped (3 not an image, 1 truncated or damaged, 1 not a regular file): a_cut.jpg"
        " (truncated or damaged), b_empty.png (not an image), c_notes.txt (not an image) and 2 more"
    ) in data.description


def test_a_broken_file_of_another_size_does_not_decide(tmp_path: Path) -> None:
    fill(tmp_path, 20)
    picture(0, 40, 40).save(tmp_path / "large.png")
    data = (tmp_path / "large.png").read_bytes()
    (tmp_path / "large.png").write_bytes(data[: len(data) // 2])
    assert FolderSettings(root=str(tmp_path)).load().shape == (3, 16, 16)


def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    fill(tmp_path, 20)
    os.mkfifo(tmp_path / "pipe.png")
    assert "pipe.png (not a regular file)" in FolderSettings(root=str(tmp_path)).load().description


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", 10)
    fill(tmp_path / "root" / "here", 10)
    (tmp_path / "root" / "there").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "here" / "loop").symlink_to(tmp_path / "root")
    data = FolderSettings(root=str(tmp_path / "root")).load()
    assert len(data.train) + len(data.test) == 20
    assert data.class_names == ("here", "there")


def test_huge_files_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, 20)
    picture(0, 32, 32).save(tmp_path / "warned.png")
    picture(0, 64, 64).save(tmp_path / "refused.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600)
    found = FolderSettings(root=str(tmp_path)).load().description
    assert "refused.png (too large to decode safely), warned.png (too large to decode safely)" in found


def test_photographs_are_turned_upright(tmp_path: Path) -> None:
    for i in range(20):
        exif = Image.Exif()
        exif[0x0112] = 6
        picture(i, 20, 10).save(tmp_path / f"{i:03d}.png", exif=exif)
    data = FolderSettings(root=str(tmp_path)).load()
    assert data.shape == (3, 20, 10)
    turned = {np.rot90(np.asarray(picture(i, 20, 10)), -1).transpose(2, 0, 1).tobytes() for i in range(20)}
    assert {row.numpy().tobytes() for row in torch.cat([data.train.values, data.test.values])} == turned


@pytest.mark.parametrize(("width", "height"), [(80, 48), (64, 64), (9, 31)])
def test_small_uniform_images_keep_their_shape(tmp_path: Path, width: int, height: int) -> None:
    data = FolderSettings(root=str(fill(tmp_path, width=width, height=height))).load()
    assert data.shape == (3, height, width)
    assert f"{width} x {height} pixels" in data.description
    assert "resized" not in data.description


@pytest.mark.parametrize(("width", "height", "side"), [(100, 100, 64), (300, 40, 40)])
def test_large_uniform_images_are_cropped_and_resized(tmp_path: Path, width: int, height: int, side: int) -> None:
    data = FolderSettings(root=str(fill(tmp_path, width=width, height=height))).load()
    assert data.shape == (3, side, side)
    assert f"{side} x {side} pixels" in data.description
    assert f"centre-cropped and resized from {width} x {height}" in data.description


def test_mixed_sizes_ask_for_a_size(tmp_path: Path) -> None:
    fill(tmp_path / "a", 20)
    fill(tmp_path / "b", 3, width=40, height=20)
    said = message(tmp_path)
    assert "images of 2 sizes (width x height), 16 x 16 (20), 40 x 20 (3)" in said
    assert "set data.size=32 to centre-crop and resize" in said
    data = FolderSettings(root=str(tmp_path), size=32).load()
    assert data.shape == (3, 32, 32)
    assert "centre-cropped and resized from 2 sizes from 16 x 16 to 40 x 20" in data.description


def test_the_crop_is_central(tmp_path: Path) -> None:
    fill(tmp_path, 20)
    pixels = np.zeros((16, 32, 3), dtype=np.uint8)
    pixels[:, 8:24] = 255
    Image.fromarray(pixels).save(tmp_path / "bar.png")
    data = FolderSettings(root=str(tmp_path), size=16).load()
    everything = torch.cat([data.train.values, data.test.values]).flatten(1)
    assert (everything == 255).all(1).sum().item() == 1


def test_wrong_folders_say_what_to_do(tmp_path: Path) -> None:
    assert "does not exist: give an existing folder" in message(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "is empty: give a folder with at least 20 images" in message(tmp_path / "empty")
    (tmp_path / "file.png").touch()
    assert "is a file: give the folder" in message(tmp_path / "file.png")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("x")
    assert "holds 0 readable images (1 file skipped: a.txt (not an image))" in message(tmp_path / "texts")
    assert "holds 19 readable images: give" in message(fill(tmp_path / "few", 19))
    assert "data.size=4 is too small" in message(fill(tmp_path / "some", 20), size=4)
    assert "16 x 7 pixels, below 8 x 8: set data.size=32" in message(fill(tmp_path / "tiny", width=16, height=7))


def test_images_that_break_only_when_decoded_count_as_missing(tmp_path: Path) -> None:
    fill(tmp_path, 20)
    whole = (tmp_path / "000.png").read_bytes()
    (tmp_path / "000.png").write_bytes(whole[: len(whole) // 2])
    assert "holds 19 readable images (1 file skipped: 000.png (truncated or damaged))" in message(tmp_path)

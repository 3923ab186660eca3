"""Sets as people have them: outputs among the data, links, copies, folders of splits, few bits, odd names, arrays."""

from __future__ import annotations

import os
import struct
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from vaebm.data import DataSet, FolderSettings
from vaebm.data.manifest import process_context
from vaebm.data.prepare import prepare
from vaebm.data.sets.folder import folder_manifest
from vaebm.errors import InputError
from vaebm.progress import silent

SIDE = 8


def pictures(n: int = 40, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, SIDE, SIDE), dtype=np.uint8)


def fill(folder: Path, images: NDArray[Any] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(pictures() if images is None else images):
        Image.fromarray(image).save(folder / f"{i:02d}.png")
    return folder


def load(root: Path, **settings: Any) -> DataSet:
    return FolderSettings(root=str(root), **settings).load()


def counts(data: DataSet) -> dict[str, int]:
    return {name: len(split) for name, split in data.splits.items()}


def rows(values: Any) -> set[bytes]:
    return {row.numpy().tobytes() for row in values[torch.arange(values.shape[0])]}


# What this package makes is no data.


def test_runs_and_prepared_folders_below_the_data_are_passed_over(tmp_path: Path) -> None:
    root = fill(tmp_path / "photos")
    expected = load(root)
    fill(root / "runs" / "photos" / "samples")
    for name in ("recipe.yaml", "metrics.jsonl"):
        (root / "runs" / "photos" / name).touch()
    prepare(folder_manifest(root, None, silent()), root / "photos-prepared")
    data = load(root)
    assert rows(data.train.values) == rows(expected.train.values)
    for folder in ("runs/photos", "photos-prepared"):
        assert f"{folder} (made by vaebm)" in data.description


# Each file once, and copies on one side.


@pytest.mark.parametrize("link", ["folder", "files", "hard links", "circle"])
def test_each_file_counts_once(link: str, tmp_path: Path) -> None:
    root = tmp_path / "d"
    fill(root / "a")
    if link == "folder":
        (root / "b").symlink_to("a")
    elif link == "circle":
        (root / "a" / "b").symlink_to(root)
    else:
        (root / "b").mkdir()
        for file in (root / "a").iterdir():
            (os.link if link == "hard links" else os.symlink)(file, root / "b" / file.name)
    data = load(root)
    assert counts(data) == {"train": 36, "test": 4}
    assert "counted already" in data.description


@pytest.mark.parametrize("kind", ["folder", "zip", "npz"])
def test_copies_are_on_one_side(kind: str, tmp_path: Path) -> None:
    images = np.concatenate([pictures(), pictures()])
    root = tmp_path / ("set" if kind == "folder" else f"set.{kind}")
    if kind == "npz":
        np.savez(root, images=images)
    else:
        fill(tmp_path / "set", images)
    if kind == "zip":
        with zipfile.ZipFile(root, "w") as archive:
            for file in (tmp_path / "set").iterdir():
                archive.write(file, file.name)
    data = load(root)
    assert sum(counts(data).values()) == 80
    assert len(data.test) == 8
    assert not rows(data.train.values) & rows(data.test.values)
    if kind != "npz":
        assert "40 duplicates" in data.description


# Folders that are splits.


@pytest.mark.parametrize("top", ["", "splits/", "a/b/"])
@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("train", "test"), {"train": 24, "test": 24}),
        (("Train", "VAL"), {"train": 24, "test": 24}),
        (("train", "test", "validation"), {"train": 24, "test": 24, "validation": 24}),
    ],
)
def test_folders_that_are_called_so_are_splits(
    top: str, names: tuple[str, ...], expected: dict[str, int], tmp_path: Path
) -> None:
    for i, name in enumerate(names):
        for j, kind in enumerate(("cats", "dogs")):
            fill(tmp_path / "set" / f"{top}{name}" / kind, pictures(12, 10 * i + j))
    data = load(tmp_path / "set")
    assert counts(data) == expected
    assert data.class_names == ("cats", "dogs")
    assert rows(data.test.values) == rows(
        torch.from_numpy(np.concatenate([pictures(12, 10), pictures(12, 11)]))[:, None]
    )
    assert data.test.labels is not None
    assert data.test.labels.bincount().tolist() == [12, 12]


def test_an_image_of_both_splits_is_held_out_and_said(tmp_path: Path) -> None:
    fill(tmp_path / "train")
    fill(tmp_path / "test", pictures()[:6])
    fill(tmp_path / "unlabelled", pictures(5, seed=3))
    data = load(tmp_path)
    assert counts(data) == {"train": 34, "test": 6}
    assert "6 held out, too" in data.description
    assert "5 in no folder of a split" in data.description


def test_one_folder_at_the_top_is_no_class(tmp_path: Path) -> None:
    for j, kind in enumerate(("cats", "dogs")):
        fill(tmp_path / "set" / "pets" / kind, pictures(12, j))
    assert load(tmp_path / "set").class_names == ("cats", "dogs")
    fill(tmp_path / "one" / "cats")
    assert load(tmp_path / "one").class_names is None


# Few of 16 bits.


@pytest.mark.parametrize(("bits", "kind"), [(8, "folder"), (12, "folder"), (16, "folder"), (10, "prepared")])
def test_16_bit_grey_has_the_range_of_its_set(bits: int, kind: str, tmp_path: Path) -> None:
    top = 2**bits - 1
    images = np.random.default_rng(0).integers(0, top + 1, (30, SIDE, SIDE)).astype(np.uint16)
    images[0, 0, 0] = top
    root = fill(tmp_path / "set", images)
    if kind == "prepared":
        prepare(folder_manifest(root, None, silent()), tmp_path / "out")
        root = tmp_path / "out"
    data = load(root)
    expected = (images.astype(np.int64) * 255 // top).astype(np.uint8)
    assert rows(data.train.values) | rows(data.test.values) == rows(torch.from_numpy(expected)[:, None])
    assert (f"0 to {top:,}" in data.description) == (bits < 16)


# Names that are no text.


@pytest.mark.skipif(os.name != "posix", reason="names are bytes")
def test_a_name_that_is_no_utf8_is_shown_escaped(tmp_path: Path) -> None:
    fill(tmp_path / "set")
    odd = os.fsencode(tmp_path / "set")
    Path(os.fsdecode(odd + b"/caf\xe9.txt")).write_text("no image")
    (tmp_path / "set" / "00.png").rename(os.fsdecode(odd + b"/\xe9\xff.png"))
    data = load(tmp_path / "set")
    assert sum(counts(data).values()) == 40
    assert "caf\\xe9.txt (not an image)" in data.description
    assert prepare(folder_manifest(tmp_path / "set", None, silent()), tmp_path / "out").description == data.description


# Arrays as they are saved.


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def refusal(path: Path, **settings: Any) -> str:
    with pytest.raises(InputError) as caught:
        load(path, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (20240101 + np.arange(40) % 3, ("20240101", "20240102", "20240103")),
        (np.arange(40) % 3 - 1, ("-1", "0", "1")),
        (np.array(["dog", "cat"] * 20), ("cat", "dog")),
        (np.array(["2024-01-02", "2023-05-06"] * 20, "datetime64[D]"), ("2023-05-06", "2024-01-02")),
    ],
    ids=["ids", "negative", "names", "dates"],
)
def test_labels_are_numbered_by_their_distinct_values(
    labels: NDArray[Any], names: tuple[str, ...], tmp_path: Path
) -> None:
    data = load(save(tmp_path / "a.npz", images=pictures(), labels=labels))
    assert data.class_names == names
    by_image = {image.tobytes(): str(label) for image, label in zip(pictures(), labels, strict=True)}
    for split in data.splits.values():
        assert split.labels is not None
        for row, label in zip(split.values[torch.arange(len(split))], split.labels, strict=True):
            assert by_image[row.numpy().tobytes()] == names[int(label)]


def test_arrays_column_by_column_are_read(tmp_path: Path) -> None:
    images = np.repeat(pictures()[..., None], 3, axis=3)
    plain, turned = save(tmp_path / "a.npz", images=images), save(tmp_path / "b.npz", images=np.asfortranarray(images))
    assert torch.equal(load(plain).train.all(), load(turned).train.all())
    content = turned.read_bytes()
    turned.write_bytes(content[: len(content) // 2])
    assert "truncated" in refusal(turned)


def test_arrays_of_objects_are_said(tmp_path: Path) -> None:
    objects = np.empty(40, object)
    objects[:] = list(pictures())
    assert "object" in refusal(save(tmp_path / "a.npz", images=objects))
    assert "object" in refusal(save(tmp_path / "b.npz", images=pictures(), labels=objects))
    assert counts(load(save(tmp_path / "c.npz", pixels=pictures(), meta=objects))) == {"train": 36, "test": 4}


@pytest.mark.parametrize("verb", ["load", "prepare"])
def test_a_size_that_arrays_do_not_have_is_refused(verb: str, tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", images=pictures())
    assert load(path, size=SIDE).shape == (1, SIDE, SIDE)
    assert "8 x 8" in refusal(path, size=16)


def tampered(path: Path, place: int, value: int) -> Path:
    """The first member's entry, in the file and in the directory at its end, with another number at a place."""
    content = bytearray(path.read_bytes())
    for start, shift in ((content.index(b"PK\3\4"), 0), (content.index(b"PK\1\2"), 2)):
        struct.pack_into("<H", content, start + place + shift, value)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", ["npz", "zip"])
@pytest.mark.parametrize(("place", "value", "said"), [(6, 1, "encrypted"), (8, 9, "Python cannot read")])
def test_archives_that_python_cannot_unpack(suffix: str, place: int, value: int, said: str, tmp_path: Path) -> None:
    path = tmp_path / f"set.{suffix}"
    if suffix == "npz":
        save(path, images=pictures())
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for file in fill(tmp_path / "set").iterdir():
                archive.write(file, file.name)
    text = refusal(tampered(path, place, value))
    assert said in text
    assert "zip it anew" in text


def test_the_server_of_processes_is_left_out_where_its_socket_had_too_long_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, method in (("t" * 100, "spawn"), ("t", "forkserver")):
        monkeypatch.setattr(tempfile, "tempdir", f"/{folder}")
        assert process_context().get_start_method() == method


@pytest.mark.parametrize("kind", ["folder", "npz"])
def test_one_image_again_and_again_is_refused(kind: str, tmp_path: Path) -> None:
    same = np.repeat(pictures(1), 30, axis=0)
    root = fill(tmp_path / "set", same) if kind == "folder" else save(tmp_path / "set.npz", images=same)
    assert "again and again" in refusal(root)

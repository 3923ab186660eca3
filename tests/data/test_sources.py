"""Folders, zips and tars hold the same images."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vaebm.data import FolderSettings
from vaebm.data.files.archives import open_source
from vaebm.errors import InputError


def contents() -> dict[str, bytes]:
    generator = np.random.default_rng(0)
    files = {"a/notes.txt": b"no image", "__MACOSX/a/._0.png": b"litter", ".hidden/0.png": b"hidden"}
    for i in range(24):
        file = io.BytesIO()
        Image.fromarray(generator.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(file, "PNG")
        files[f"{'ab'[i % 2]}/{i:02d}.png"] = file.getvalue()
    return files


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    files = contents()
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    for name, content in files.items():
        if "MACOSX" not in name:
            (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "set" / name).write_bytes(content)
    return {kind: tmp_path / f"set{kind}" for kind in ("", ".zip", ".tar")}


def test_all_hold_the_same(places: dict[str, Path]) -> None:
    sets = {kind: FolderSettings(root=str(path)).load() for kind, path in places.items()}
    for data in sets.values():
        assert (data.name, data.class_names, len(data.train)) == ("set", ("a", "b"), 22)
        assert torch.equal(data.train.all(), sets[""].train.all())
        assert torch.equal(data.test.labels, sets[""].test.labels)
        assert "1 file skipped: a/notes.txt (not an image)" in data.description


@pytest.mark.parametrize("kind", ["", ".zip", ".tar"])
def test_a_part_can_be_sent_to_another_process(places: dict[str, Path], kind: str) -> None:
    source = open_source(places[kind])
    again = pickle.loads(pickle.dumps(source.part(["a/00.png"])))  # noqa: S301 - as process pools do
    with again.open("a/00.png") as file:
        assert file.read() == contents()["a/00.png"]


def test_damaged_archives_say_what_to_do(places: dict[str, Path], tmp_path: Path) -> None:
    for kind in (".zip", ".tar"):
        path = places[kind]
        path.write_bytes(path.read_bytes()[:9000])
        with pytest.raises(InputError, match=rf"set\{kind} is truncated.*: get it whole, then try again"):
            FolderSettings(root=str(path)).load()
    (tmp_path / "set.rar").touch()
    with pytest.raises(InputError, match=r"is a file: give the folder that holds the images, or a zip, tar or npz"):
        FolderSettings(root=str(tmp_path / "set.rar")).load()


def test_a_damaged_member_is_skipped(places: dict[str, Path]) -> None:
    path = places[".zip"]
    content, member = bytearray(path.read_bytes()), contents()["b/01.png"]
    content[content.index(member) + 60] ^= 255
    path.write_bytes(content)
    data = FolderSettings(root=str(path)).load()
    assert len(data.train) + len(data.test) == 23
    assert "b/01.png (truncated or damaged)" in data.description

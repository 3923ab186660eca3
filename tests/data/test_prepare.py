"""Preparing: arrays hold what the files hold, come out complete or not at all, and serve as memory does."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vaebm.data import FolderSettings, arrays
from vaebm.data import manifest as manifest_module
from vaebm.data import prepare as prepare_module
from vaebm.data.arrays import open_arrays
from vaebm.data.collection import Block
from vaebm.data.manifest import Manifest
from vaebm.data.prepare import open_log, prepare
from vaebm.data.prepared import INDEX, PROGRESS, broken_files, is_prepared, read_index
from vaebm.data.sets.folder import folder_manifest
from vaebm.errors import InputError
from vaebm.progress import silent

BYTES = 3 * 16 * 16
Folder = Callable[..., Path]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """60 images in two classes, two of them broken, and blocks of ten images."""
    monkeypatch.setattr(manifest_module, "BLOCK_BYTES", 10 * BYTES)
    monkeypatch.setattr(manifest_module, "MIN_FOR_PROCESSES", 0)
    generator = np.random.default_rng(0)
    for i in range(60):
        path = tmp_path / "photos" / ("cat" if i % 3 else "dog") / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    for name in ("cat/10.png", "dog/33.png"):
        path = tmp_path / "photos" / name
        path.write_bytes(path.read_bytes()[:200])
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    return tmp_path / "photos"


def manifest(folder: Path, size: int | None = None) -> Manifest:
    return folder_manifest(folder, size, silent())


def load(folder: Path, **settings: object) -> object:
    return FolderSettings(root=str(folder), **settings).load()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_prepared_folder_is_the_folder(photos: Path, tmp_path: Path, workers: int) -> None:
    out = tmp_path / "out"
    index = prepare(manifest(photos), out, workers)
    files = [f"{part}{ending}" for part in ("test", "train") for ending in ("-labels.npy", ".bin")]
    assert sorted(path.name for path in out.iterdir()) == [INDEX, *files]
    assert (out / "train.bin").stat().st_size == index.parts["train"].images * BYTES
    memory, disk = load(photos), load(out)
    for part in ("train", "test"):
        here, there = getattr(memory, part), getattr(disk, part)
        assert torch.equal(there.all(), here.all())
        assert torch.equal(there.labels, here.labels)
        assert torch.equal(there.counts(), here.counts())
        rows = torch.tensor([len(here) - 1, 0, 0])
        assert all(torch.equal(*both) for both in zip(there.batch(rows), here.batch(rows), strict=True))
        assert torch.equal(torch.cat(list(there.chunks(7))), here.all())
    assert (disk.shape, disk.class_names, disk.saturated_fraction) == (
        memory.shape,
        memory.class_names,
        memory.saturated_fraction,
    )
    assert disk.description == memory.description
    assert "3 files skipped" in disk.description
    coarse = load(out, bits=5)
    assert torch.equal(coarse.train.all(), load(photos, bits=5).train.all())
    assert torch.equal(coarse.train.counts(), load(photos, bits=5).train.counts())


def test_all_grey_is_grey_and_mixed_is_colour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_module, "BLOCK_BYTES", 10 * BYTES)
    generator = np.random.default_rng(0)
    (tmp_path / "grey").mkdir()
    for i in range(40):
        Image.fromarray(generator.integers(0, 256, (16, 16), dtype=np.uint8)).save(tmp_path / "grey" / f"{i:02d}.png")
    prepare(manifest(tmp_path / "grey"), tmp_path / "out")
    assert load(tmp_path / "out").shape == (1, 16, 16)
    assert torch.equal(load(tmp_path / "out").train.all(), load(tmp_path / "grey").train.all())
    Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(tmp_path / "grey" / "99.png")
    prepare(manifest(tmp_path / "grey"), tmp_path / "mixed")
    memory, disk = load(tmp_path / "grey"), load(tmp_path / "mixed")
    assert disk.shape == (3, 16, 16)
    assert torch.equal(disk.train.all(), memory.train.all())
    assert torch.equal(disk.train.counts(), memory.train.counts())
    assert "40 grey images repeated in three colours" in memory.description


def test_an_interrupted_preparation_goes_on(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo_manifest, out, decode = manifest(photos), tmp_path / "out", manifest_module.decode
    memory, asked = load(photos), []

    def interrupted(manifest: Manifest, part: str, names: list[str], shape: tuple[int, int, int]) -> Block:
        asked.append(names[0])
        if len(asked) == 4:
            raise KeyboardInterrupt
        return decode(manifest, part, names, shape)

    monkeypatch.setattr(manifest_module, "decode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(photo_manifest, out)
    assert not is_prepared(out)
    with pytest.raises(InputError, match=r"half prepared|progress"):
        load(out)
    with (out / PROGRESS).open("a") as log:
        log.write('{"part": "train", "st')  # cut short
    prepare(photo_manifest, out)
    assert len(asked) == 8  # three of seven were done
    assert torch.equal(load(out).train.all(), memory.train.all())
    prepare(photo_manifest, out)
    assert len(asked) == 8
    assert not (out / PROGRESS).exists()


def test_another_manifest_begins_anew_and_never_touches_what_is_complete(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(prepare_module, "_index", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare(manifest(photos), out)
    prepare(manifest(photos, 8), out)
    assert load(out).shape == (3, 8, 8)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(InputError, match="holds photos, prepared from other files: choose another --out"):
        prepare(manifest(photos), out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    with pytest.raises(InputError, match="exists and is no prepared set: choose another --out"):
        prepare(manifest(photos), photos)
    with pytest.raises(InputError, match=r"was prepared with 8 x 8 pixels, not data\.size=16"):
        load(out, size=16)


@pytest.mark.parametrize("lost", [True, False])
def test_arrays_go_on_and_what_is_lost_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    monkeypatch.setattr(arrays, "BLOCK_BYTES", 10 * BYTES)
    images = np.random.default_rng(0).integers(0, 256, (57, 16, 16, 3), dtype=np.uint8)
    np.savez_compressed(tmp_path / "a.npz", images=images)
    out, add = tmp_path / "out", prepare_module.Log.add
    added: list[int] = []

    def interrupted(log: prepare_module.Log, block: Block) -> None:
        if len(added) == 5:
            raise KeyboardInterrupt
        added.append(1)
        add(log, block)

    with monkeypatch.context() as patch:
        patch.setattr(prepare_module.Log, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare(open_arrays(tmp_path / "a.npz"), out)
    with (out / "train.bin").open("ab") as file:
        file.write(b"half a block")
    if lost:
        (out / "train.bin").unlink()
    index = prepare(open_arrays(tmp_path / "a.npz"), out)
    assert index.parts["train"].images == 51
    assert torch.equal(load(out).train.all(), load(tmp_path / "a.npz").train.all())
    assert torch.equal(load(out).test.all(), load(tmp_path / "a.npz").test.all())


def test_two_processes_do_not_prepare_the_same_folder(photos: Path, tmp_path: Path) -> None:
    with (
        open_log(tmp_path / "out", "other files", BYTES),
        pytest.raises(InputError, match="out is being prepared by another process: wait until"),
    ):
        prepare(manifest(photos), tmp_path / "out")
    prepare(manifest(photos), tmp_path / "out")
    assert torch.equal(load(tmp_path / "out").train.all(), load(photos).train.all())


def test_a_disk_that_fills_leaves_what_serves_the_next_call(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, sync = tmp_path / "out", os.fsync
    synced: list[int] = []

    def full(file: int) -> None:
        synced.append(1)
        if len(synced) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(file)

    with monkeypatch.context() as patch:
        patch.setattr(prepare_module.os, "fsync", full)
        with pytest.raises(OSError, match="No space left") as caught:
            prepare(manifest(photos), out)
    assert caught.value.filename == str(out / "train.bin")
    assert not is_prepared(out)
    prepare(manifest(photos), out)
    assert torch.equal(load(out).train.all(), load(photos).train.all())


def test_damage_is_named(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(manifest(photos), out)
    array = out / "train.bin"
    whole = array.read_bytes()
    array.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert broken_files(out, read_index(out)) == ["train.bin"]
    array.write_bytes(whole[:-5])
    with pytest.raises(InputError, match=r"train\.bin is truncated or damaged: delete it, then prepare it again"):
        load(out)
    array.unlink()
    with pytest.raises(InputError, match=r"train\.bin is missing: prepare it again"):
        load(out)
    array.write_bytes(whole)
    labels = out / "test-labels.npy"
    content = labels.read_bytes()
    labels.write_bytes(content[:-1] + b"x")
    with pytest.raises(InputError, match=r"test-labels\.npy is damaged"):
        load(out)
    labels.write_bytes(content)
    tree = json.loads((out / INDEX).read_text())
    (out / INDEX).write_text(json.dumps({**tree, "format": 99}))
    with pytest.raises(InputError, match="another version"):
        load(out)
    (out / INDEX).write_text(json.dumps(tree)[:-30])
    with pytest.raises(InputError, match=r"index\.json is damaged: delete it"):
        load(out)


def test_arrays_are_prepared_as_they_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "BLOCK_BYTES", 10 * BYTES)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (57, 16, 16, 3), dtype=np.uint8)
    np.savez_compressed(tmp_path / "a.npz", images=images, labels=np.arange(57) % 4)
    prepare(open_arrays(tmp_path / "a.npz"), tmp_path / "out")
    memory, disk = load(tmp_path / "a.npz"), load(tmp_path / "out")
    assert (memory.shape, len(memory.train), len(memory.test)) == ((3, 16, 16), 51, 6)
    for part in ("train", "test"):
        assert torch.equal(getattr(disk, part).all(), getattr(memory, part).all())
        assert torch.equal(getattr(disk, part).labels, getattr(memory, part).labels)
    assert disk.description == memory.description
    prepare(open_arrays(tmp_path / "a.npz"), tmp_path / "out")


@pytest.mark.parametrize("shape", [(30, 16, 12), (30, 16, 12, 1), (30, 1, 16, 12), (30, 3, 16, 12), (30, 16, 12, 3)])
def test_arrays_of_any_layout(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images)
    data = load(tmp_path / "a.npz")
    assert data.shape == (3 if 3 in shape else 1, 16, 12)
    first = images[0].transpose(2, 0, 1) if len(shape) == 4 and shape[-1] in (1, 3) else images[0]
    assert data.train.values[0].flatten().tolist() == first.flatten().tolist()


def test_wrong_arrays_say_what_to_do(tmp_path: Path) -> None:
    images = np.zeros((30, 8, 8, 3), np.uint8)

    def message(**held: np.ndarray) -> str:
        np.savez_compressed(tmp_path / "a.npz", **held)
        with pytest.raises(InputError) as caught:
            load(tmp_path / "a.npz")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "give `images` of shape (N, height, width, channels) in uint8" in message(images=images.astype(float))
    assert "images (30, 8, 8, 4) uint8: give" in message(images=np.zeros((30, 8, 8, 4), np.uint8))
    assert "holds no arrays: give" in message()
    assert "labels (29,) int64 do not match 30 images" in message(images=images, labels=np.zeros(29, np.int64))
    assert "holds 5 images: give at least 20" in message(images=images[:5])
    assert "images (30,) object: give" in message(images=np.array([{}] * 30))
    np.savez_compressed(tmp_path / "a.npz", images=images)
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:-40])
    with pytest.raises(InputError, match=r"a\.npz is truncated or no \.npz file"):
        load(tmp_path / "a.npz")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_preparation_goes_on(photos: Path, tmp_path: Path, number: signal.Signals) -> None:
    """In processes of its own, with blocks of a few images so that it takes a while."""
    many = tmp_path / "many"
    many.mkdir()
    for copy in range(20):
        for path in photos.rglob("*.png"):
            shutil.copy(path, many / f"{copy}-{path.name}")
    program = (
        "from pathlib import Path; import sys; from vaebm.cli import main; from vaebm.data import manifest\n"
        "manifest.BLOCK_BYTES, manifest.MIN_FOR_PROCESSES = 20 * 768, 0\n"
        "if __name__ == '__main__':\n    sys.exit(main(sys.argv[1:]))\n"
    )
    (tmp_path / "program.py").write_text(program)
    words = [sys.executable, str(tmp_path / "program.py"), "data", "prepare", str(many), "--out", str(tmp_path / "out")]
    running = subprocess.Popen([*words, "--workers", "2"], stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    log = tmp_path / "out" / PROGRESS
    while running.poll() is None and not (log.exists() and len(log.read_text().splitlines()) > 6):
        time.sleep(0.002)
    running.send_signal(number)
    _, said = running.communicate()
    if number == signal.SIGTERM and running.returncode:
        assert running.returncode == 75
        assert said.splitlines()[-1].startswith("vaebm: SIGTERM arrived")
    assert is_prepared(tmp_path / "out") == (not running.returncode)
    subprocess.run([*words, "--workers", "1"], check=True, capture_output=True)
    assert torch.equal(load(tmp_path / "out").train.all(), load(many).train.all())

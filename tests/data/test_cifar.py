"""CIFAR from every form that it is met in."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vaebm.data import CIFAR10Settings, CIFAR100Settings
from vaebm.data.python_batch import read_python_batch
from vaebm.errors import InputError

Real = Callable[[str], Path]
NAMES = [*CIFAR10Settings.train_files, CIFAR10Settings.test_file]
N = 100


def pixels(seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (N, 3072), dtype=np.uint8)


def labels(seed: int) -> list[int]:
    return [(seed + i) % 10 for i in range(N)]


def binary(seed: int) -> bytes:
    return np.concatenate([np.array(labels(seed), np.uint8)[:, None], pixels(seed)], axis=1).tobytes()


def fill(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for seed, name in enumerate(NAMES):
        (folder / f"{name}.bin").write_bytes(binary(seed))
    return folder


@pytest.fixture(autouse=True)
def unchecked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small made-up sets are not the published files."""
    if "real" not in request.fixturenames:
        archives = [
            None if form.archive is None else replace(form.archive, digest=None) for form in CIFAR10Settings.forms
        ]
        forms = [
            replace(form, digests={}, archive=archive)
            for form, archive in zip(CIFAR10Settings.forms, archives, strict=True)
        ]
        monkeypatch.setattr(CIFAR10Settings, "forms", forms)
        monkeypatch.setattr(CIFAR10Settings, "published", replace(CIFAR10Settings.published, addresses=()))


def load(root: Path) -> CIFAR10Settings:
    return CIFAR10Settings(root=str(root), validation=20)


def message(root: Path) -> str:
    with pytest.raises(InputError) as caught:
        load(root).load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_all_forms_of_the_real_set_are_the_same(real: Real, tmp_path: Path) -> None:
    source = real("cifar10")
    data = CIFAR10Settings().load()
    assert (data.shape, len(data.train), len(data.test)) == ((3, 32, 32), 45_000, 10_000)
    assert data.test.labels is not None
    assert data.test.labels.bincount().tolist() == [1000] * 10
    for form in ([], ["--binary"]):
        root = tmp_path / ("binary" if form else "python")
        (root / "cifar10").mkdir(parents=True)
        subprocess.run([sys.executable, source / "unpack_cifar10.py", root / "cifar10", *form], check=True)
        again = CIFAR10Settings(root=str(root)).load()
        assert torch.equal(again.train.values, data.train.values)
        assert torch.equal(again.test.labels, data.test.labels)
        (file,) = (root / "cifar10").glob("*/data_batch_3*")
        damaged = bytearray(file.read_bytes())
        damaged[-1] ^= 1
        file.write_bytes(damaged)
        with pytest.raises(InputError, match=r"data_batch_3.* is damaged or another file"):
            CIFAR10Settings(root=str(root)).load()


def test_binary_unpacked_and_as_an_archive(tmp_path: Path) -> None:
    fill(tmp_path / "cifar10" / "cifar-10-batches-bin")
    data = load(tmp_path).load()
    assert (len(data.train), len(data.test)) == (480, 100)
    assert data.train.values[torch.tensor([101])].flatten().tolist() == pixels(1)[1].tolist()
    assert data.train.labels is not None
    assert data.train.labels[:N].tolist() == labels(0)
    (tmp_path / "packed").mkdir()
    with tarfile.open(tmp_path / "packed" / "cifar-10-binary.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "cifar10" / "cifar-10-batches-bin", "cifar-10-batches-bin")
    assert torch.equal(load(tmp_path / "packed").load().train.all(), data.train.all())


def test_a_repacked_batch(tmp_path: Path) -> None:
    for seed, name in enumerate(NAMES):
        many = np.resize(pixels(seed), (10_000, 3072)).reshape(100, 10, 10, 3, 32, 32)
        mosaics = many.transpose(0, 1, 4, 2, 5, 3).reshape(100, 320, 320, 3)
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.writestr("index.json", json.dumps({"labels": labels(seed) * 100}))
            for k, mosaic in enumerate(mosaics):
                file = io.BytesIO()
                Image.fromarray(np.ascontiguousarray(mosaic)).save(file, "PNG")
                archive.writestr(f"{k:02d}.webp", file.getvalue())
    data = load(tmp_path).load()
    assert data.train.values[torch.tensor([1])].flatten().tolist() == pixels(0)[1].tolist()


def test_python_batches_are_read_and_nothing_is_run(tmp_path: Path) -> None:
    batch = read_python_batch(pickle.dumps({"labels": [1, 2, 300], "name": "x"}, protocol=2))
    assert batch == {"labels": [1, 2, 300], "name": "x"}

    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (str(tmp_path / "run"),)

    with pytest.raises(ValueError, match="GLOBAL"):
        read_python_batch(pickle.dumps({"data": Attack()}, protocol=2))
    assert not (tmp_path / "run").exists()
    for wrong in (b"", b"no pickle", pickle.dumps([1], protocol=2), pickle.dumps({"a": 1}, protocol=2)[:-3]):
        with pytest.raises(ValueError, match=r"no|pickle|opcode|stream"):
            read_python_batch(wrong)


def test_the_hundred_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CIFAR100Settings, "forms", [replace(form, digests={}) for form in CIFAR100Settings.forms])
    for name, seed in (("train", 0), ("test", 1)):
        both = np.stack([np.full(N, 3, np.uint8), np.arange(N, dtype=np.uint8)], axis=1)
        (tmp_path / f"{name}.bin").write_bytes(np.concatenate([both, pixels(seed)], axis=1).tobytes())
    data = CIFAR100Settings(root=str(tmp_path), validation=10).load()
    assert data.train.labels is not None
    assert data.train.labels.tolist() == list(range(90))
    assert data.class_names is not None
    assert (len(data.class_names), data.class_names[99]) == (100, "worm")


def test_wrong_files_say_what_to_do(tmp_path: Path) -> None:
    assert "is missing and" in message(tmp_path)
    assert "cifar-10-binary.tar.gz from https://" in message(tmp_path)
    folder = fill(tmp_path / "cifar-10-batches-bin")
    (folder / "data_batch_2.bin").unlink()
    assert f"{folder / 'data_batch_2.bin'} is missing, though others" in message(tmp_path)
    (folder / "data_batch_2.bin").write_bytes(binary(1)[:-5])
    assert "data_batch_2.bin is no CIFAR batch: replace it" in message(tmp_path)
    (folder / "data_batch_2.bin").write_bytes(bytes([200]) + binary(1)[1:])
    assert "data_batch_2 has labels beyond the 10 classes" in message(tmp_path)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "cifar-10-binary.tar.gz").write_bytes(b"\x1f\x8b not really")
    assert "cifar-10-binary.tar.gz is truncated or damaged: delete it" in message(tmp_path / "cut")

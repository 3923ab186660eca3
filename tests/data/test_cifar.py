"""CIFAR from its binary version, unpacked and as an archive."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vaebm.data.sets.cifar import CIFAR10Settings, CIFAR100Settings
from vaebm.errors import InputError

Real = Callable[[str], Path]
N = 100


def pixels(seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (N, 3072), dtype=np.uint8)


def labels(seed: int) -> list[int]:
    return [(seed + i) % 10 for i in range(N)]


def binary(seed: int) -> bytes:
    return np.concatenate([np.array(labels(seed), np.uint8)[:, None], pixels(seed)], axis=1).tobytes()


def fill(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for seed, name in enumerate(CIFAR10Settings.files):
        (folder / name).write_bytes(binary(seed))
    return folder


@pytest.fixture(autouse=True)
def unchecked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small made-up sets are not the published files."""
    if "real" not in request.fixturenames:
        for settings in (CIFAR10Settings, CIFAR100Settings):
            unchecked = {name: replace(file, digest=None) for name, file in settings.files.items()}
            monkeypatch.setattr(settings, "files", unchecked)
        monkeypatch.setattr(CIFAR10Settings, "archive", replace(CIFAR10Settings.archive, digest=None, addresses=()))


def load(root: Path) -> CIFAR10Settings:
    return CIFAR10Settings(root=str(root), validation=20)


def message(root: Path) -> str:
    with pytest.raises(InputError) as caught:
        load(root).load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_published_files_and_their_checksums(real: Real, tmp_path: Path) -> None:
    root = real("cifar10")
    data = CIFAR10Settings(root=str(root)).load()
    assert (data.shape, len(data.train), len(data.test)) == ((3, 32, 32), 45_000, 10_000)
    assert data.test.labels is not None
    assert data.test.labels.bincount().tolist() == [1000] * 10
    assert data.train.labels is not None
    assert data.train.labels[:5].tolist() == [6, 9, 9, 4, 1]
    copy = shutil.copytree(root / "cifar-10-batches-bin", tmp_path / "cifar-10-batches-bin") / "data_batch_3.bin"
    damaged = bytearray(copy.read_bytes())
    damaged[-1] ^= 1
    copy.write_bytes(damaged)
    with pytest.raises(InputError, match=r"data_batch_3\.bin is damaged or another file"):
        CIFAR10Settings(root=str(tmp_path)).load()


def test_unpacked_and_as_an_archive(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("other", ["data_batch_1.zip", "cifar-10-batches-py/data_batch_1", "cifar-10-python.tar.gz"])
def test_another_form_is_named_and_what_to_do(tmp_path: Path, other: str) -> None:
    (tmp_path / "cifar10" / other).parent.mkdir(parents=True)
    (tmp_path / "cifar10" / other).touch()
    said = message(tmp_path)
    assert str(tmp_path / "cifar10" / other.split("/", maxsplit=1)[0]) in said
    assert "cifar-10-binary.tar.gz" in said
    fill(tmp_path / "cifar10" / "cifar-10-batches-bin")
    assert len(load(tmp_path).load().train) == 480


def test_the_hundred_classes(tmp_path: Path) -> None:
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
    assert "data_batch_2.bin has labels beyond the 10 classes" in message(tmp_path)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "cifar-10-binary.tar.gz").write_bytes(b"\x1f\x8b not really")
    assert "cifar-10-binary.tar.gz is truncated or damaged: delete it" in message(tmp_path / "cut")

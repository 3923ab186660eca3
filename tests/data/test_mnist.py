"""MNIST, Fashion-MNIST and the stacks made of digits."""

from __future__ import annotations

import gzip
import hashlib
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vaebm.data.sets.mnist import FashionMNISTSettings, MNISTSettings, StackedMNISTSettings
from vaebm.errors import InputError

Real = Callable[[str], Path]
COUNTS = {"train": 40, "t10k": 12}


def idx(values: NDArray[np.uint8]) -> bytes:
    header = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
    return gzip.compress(header + values.tobytes(), mtime=0)


def write(root: Path, monkeypatch: pytest.MonkeyPatch, **contents: bytes) -> Path:
    """A small set in MNIST's files, published as such; `contents` replace files by their names."""
    generator = np.random.default_rng(0)
    (root / "mnist").mkdir(parents=True)
    published = {}
    for name, file in MNISTSettings.files.items():
        part, what = name.split("-")[:2]
        images = generator.integers(0, 256, (COUNTS[part], 28, 28), dtype=np.uint8)
        labels = (np.arange(COUNTS[part]) % 10).astype(np.uint8)
        given = contents.get(name.removesuffix("-ubyte.gz").replace("-", "_"))
        content = given or idx(images if what == "images" else labels)
        (root / "mnist" / file.name).write_bytes(content)
        published[name] = replace(file, digest="sha256:" + hashlib.sha256(content).hexdigest(), addresses=())
    monkeypatch.setattr(MNISTSettings, "files", published)
    return root


def message(root: Path) -> str:
    with pytest.raises(InputError) as caught:
        MNISTSettings(root=str(root), validation=5).load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("settings", "first"),
    [(MNISTSettings, [5434, 6212, 5465]), (FashionMNISTSettings, None)],
)
def test_the_published_files(settings: type[MNISTSettings], first: list[int] | None, real: Real) -> None:
    real(settings().kind)
    data = settings().load()
    assert (data.shape, len(data.train), len(data.test)) == ((1, 28, 28), 55_000, 10_000)
    assert data.validation is not None
    assert len(data.validation) == 5_000
    assert data.train.labels is not None
    assert data.test.labels is not None
    assert data.test.labels.bincount().tolist() == [1000] * 10 or settings is MNISTSettings
    if first:
        assert data.train.labels.bincount()[:3].tolist() == first
    for word in ("70,000 images", "55,000 for training, 5,000 for validation, 10,000 held out", "10 classes"):
        assert word in data.description


def test_padding_adds_black_pixels(real: Real) -> None:
    real("mnist")
    plain, padded = MNISTSettings(validation=0).load(), MNISTSettings(validation=0, size=32).load()
    assert (padded.shape, len(padded.train), padded.validation) == ((1, 32, 32), 60_000, None)
    assert torch.equal(padded.train.values[:50, :, 2:-2, 2:-2], plain.train.values[:50])
    assert int(padded.train.counts().sum() - plain.train.counts().sum()) == 60_000 * (32**2 - 28**2)


def test_stacks_are_three_digits_and_their_label(real: Real) -> None:
    real("mnist")
    data, digits = StackedMNISTSettings(train_size=500).load(), MNISTSettings(size=32).load()
    assert (data.shape, len(data.train)) == ((3, 32, 32), 500)
    assert data.class_names is not None
    assert data.class_names[37] == "037"
    assert data.train.labels is not None
    assert digits.train.labels is not None
    known = {
        image.numpy().tobytes(): int(label)
        for image, label in zip(digits.train.values, digits.train.labels, strict=True)
    }
    for row in range(20):
        red, green, blue = (known[channel.numpy().tobytes()] for channel in data.train.values[torch.tensor(row)])
        assert int(data.train.labels[row]) == 100 * red + 10 * green + blue
    again = StackedMNISTSettings(train_size=500).load()
    assert torch.equal(data.train.all(), again.train.all())
    assert len(StackedMNISTSettings().load().train.labels.unique()) == 1000


def test_splits_and_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(write(tmp_path, monkeypatch))
    data = MNISTSettings(root=root, validation=5).load()
    assert data.validation is not None
    assert [len(part) for part in (data.train, data.validation, data.test)] == [35, 5, 12]
    coarse = MNISTSettings(root=root, validation=5, bits=5).load()
    assert coarse.train.levels == 31
    assert torch.equal(coarse.train.values, data.train.values >> 3)
    assert (coarse.train.all().min().item(), coarse.train.all().max().item()) == (-1.0, 1.0)


def test_wrong_files_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.zeros((40, 28, 28), np.uint8)
    wrong = {
        "truncated or damaged: delete it": {"train_images_idx3": idx(images)[:-20]},
        "is no IDX file of bytes with 3 axes": {"train_images_idx3": idx(images[0])},
        "has 39 labels for 40 images": {"train_labels_idx1": idx(np.zeros(39, np.uint8))},
        "has labels beyond the 10 classes": {"train_labels_idx1": idx(np.full(40, 10, np.uint8))},
    }
    for number, (said, contents) in enumerate(wrong.items()):
        with monkeypatch.context() as patch:
            root = write(tmp_path / str(number), patch, **contents)
            assert said in message(root)
    root = write(tmp_path / "changed", monkeypatch)
    path = root / "mnist" / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes() + b"x")
    assert f"{path} is damaged or another file" in message(root)
    path.unlink()
    assert f"{path} is missing" in message(root)
    assert f"put it at {path}" in message(root)

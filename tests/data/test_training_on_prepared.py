"""Training on prepared data is training on the same data in memory; a stopped run goes on to the same end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import SupportsFloat

import numpy as np
import pytest
from PIL import Image

from vaebm.data import manifest
from vaebm.data.prepare import prepare
from vaebm.data.sets.folder import folder_manifest
from vaebm.errors import Preempted
from vaebm.experiment.evaluate import evaluate
from vaebm.experiment.train import train
from vaebm.progress import Task, silent

SHORT = [
    "vae_stage.iterations=6",
    "vae.widths=[4, 4]",
    "vae.latent_dim=2",
    "code_mixture.components=2",
    "energy_stage.phases.ratio.iterations=4",
    "energy_stage.phases.rounds=null",
    "energy.image.widths=[4, 4]",
    "energy.image.stem=4",
    "sampler.steps=2",
    "evaluation.draws=2",
    "checkpoint.every_seconds=1000",
]


class StopAfter:
    """Progress that asks the process to stop in the n-th iteration of a stage."""

    def __init__(self, n: int) -> None:
        self.left = n

    @contextmanager
    def task(self, name: str, total: int, unit: str, done: int = 0) -> Iterator[Task]:
        self.unit = unit
        yield self

    def say(self, line: str) -> None:
        pass

    def advance(self, n: int = 1, words: str = "", **figures: SupportsFloat) -> None:
        self.left -= bool(figures)
        if figures and self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(manifest, "BLOCK_BYTES", 10 * 3 * 16 * 16)
    generator = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(64):
        path = tmp_path / "photos" / f"{i}.png"
        Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    prepare(folder_manifest(tmp_path / "photos", None, silent()), tmp_path / "prepared")
    return tmp_path / "photos"


def weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("more", [[], ["data.dequantise=true", "vae.likelihood={kind: gaussian}", "data.bits=5"]])
def test_prepared_data_train_as_memory_does_and_resume(photos: Path, tmp_path: Path, more: list[str]) -> None:
    memory = train(photos, tmp_path / "memory", overrides=[*SHORT, *more], device="cpu")
    disk = train(tmp_path / "prepared", tmp_path / "disk", overrides=[*SHORT, *more], device="cpu")
    assert weights(disk.path) == weights(memory.path)
    with pytest.raises(Preempted):
        train(
            tmp_path / "prepared", tmp_path / "stopped", overrides=[*SHORT, *more], device="cpu", progress=StopAfter(3)
        )
    stopped = train(tmp_path / "stopped", device="cpu")
    assert weights(stopped.path) == weights(memory.path)
    here, there = evaluate(memory, device="cpu"), evaluate(disk, device="cpu")
    assert [m.value for m in here if m.name == "frechet_distance"] == [
        m.value for m in there if m.name == "frechet_distance"
    ]


def test_an_archive_trains(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    images = np.stack([np.asarray(Image.open(path)) for path in sorted(photos.iterdir())])
    np.savez_compressed(tmp_path / "pictures.npz", images=images)
    run = train(tmp_path / "pictures.npz", overrides=SHORT, device="cpu")
    assert run.path == Path("runs/pictures")

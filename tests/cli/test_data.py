"""`vaebm data inspect` and `vaebm data prepare`, from the command line to the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vaebm.data.prepared import INDEX


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """30 images, three of them equal, and one broken."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(30):
        pixels = generator.integers(0, 256, (16, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i:02d}.png")
    first = (tmp_path / "photos" / "00.png").read_bytes()
    (tmp_path / "photos" / "01.png").write_bytes(first)
    (tmp_path / "photos" / "02.png").write_bytes(first)
    (tmp_path / "photos" / "broken.png").write_bytes(first[:100])
    Image.new("L", (40, 40)).save(tmp_path / "photos" / "other.jpg")
    return tmp_path / "photos"


def test_inspect_a_folder(command: Any, photos: Path) -> None:
    done = command("data", "inspect", "photos", "--out", "made/grid.png", "--json", "--quiet")
    assert (done.status, done.err) == (0, "")
    found = json.loads(done.out)
    assert (found["count"], found["duplicates"]) == (31, 2)
    assert found["sizes"] == {"12 x 16": 30, "40 x 40": 1}
    assert found["formats"] == {"PNG": 30, "JPEG": 1}
    assert found["kinds"] == {"RGB": 30, "grey": 1}
    assert found["broken"] == {"broken.png": "truncated or damaged"}
    assert (found["lowest"], found["highest"], found["likelihood"]) == (0, 255, "censored")
    with Image.open("made/grid.png") as grid:
        assert grid.size == (1004, 404)
    assert [path.name for path in Path("made").iterdir()] == ["grid.png"]


def test_inspect_for_people(command: Any, photos: Path) -> None:
    lines = command("data", "inspect", "photos", "--quiet").out.splitlines()
    assert lines[0] == "photos"
    for word in ("31", "12 x 16 (30), 40 x 40 (1)", "PNG (30), JPEG (1)", "2", "1: broken.png (truncated or damaged)"):
        assert any(word in line for line in lines)


def test_inspect_by_name(command: Any) -> None:
    found = json.loads(command("data", "inspect", "digits", "--json", "--quiet").out)
    assert found["splits"] == {"train": 1237, "test": 360, "validation": 200}
    assert (found["highest"], found["likelihood"], found["held_out_in_training"]) == (16, "censored", 0)
    assert sum(found["classes"].values()) == 1237
    points = json.loads(command("data", "inspect", "gaussians", "--json", "--quiet").out)
    assert points["count"] == 120_000


def test_prepare_then_inspect_and_damage(command: Any, photos: Path) -> None:
    done = command("data", "prepare", "photos", "--size", "8", "--workers", "1", "--quiet")
    assert done.status == 0
    assert done.out.splitlines()[-1] == f"prepared: {photos.parent / 'photos-prepared'}"
    assert "31 images" in done.out
    found = json.loads(command("data", "inspect", "photos-prepared", "--json", "--quiet").out)
    assert (found["splits"], found["broken"]) == ({"train": 28, "test": 3}, {})
    again = json.loads(command("data", "prepare", "photos", "--size", "8", "--json", "--quiet").out)
    assert again["splits"] == {"train": 28, "test": 3}
    pixels = photos.parent / "photos-prepared" / "train.bin"
    content = pixels.read_bytes()
    pixels.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    broken = json.loads(command("data", "inspect", "photos-prepared", "--json", "--quiet").out)["broken"]
    assert broken == {"train.bin": "checksum differs: prepare it again"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["inspect", "cfar10"], "there is no data set or path 'cfar10': did you mean 'cifar10'?"),
        (["inspect", "no/where"], "no/where does not exist"),
        (["inspect", "digits", "--out", "x.jpg"], "--out x.jpg is no .png"),
        (["inspect", "gaussians", "--out", "x.png"], "has no images to show"),
        (["inspect", "celeba64"], "celeba64 is not prepared"),
        (["prepare", "digits"], "digits fits into memory and needs no preparing: use it with data.kind=digits"),
        (["prepare", "photos", "--from", "photos"], "photos is a path, and so needs no --from"),
        (["prepare", "photos"], "holds images of 2 sizes"),
        (["prepare", "chairs", "--from", "photos"], "photos holds no CHAIR/renders/*.png"),
        (["prepare", "celebahq256", "--from", "none"], "none does not exist"),
        (["prepare", "celebahq256", "--size", "64", "--from", "photos"], "has a size of its own"),
        (["prepare", "photos", "--size", "4"], "'4' is not a whole number of at least 8"),
        (["prepare", "photos", "--size", "8", "--out", "photos"], "photos exists and is no prepared set"),
    ],
)
def test_wrong_input_is_one_line(
    words: list[str], said: str, command: Any, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAEBM_DATA", str(photos.parent / "root"))
    before = sorted(photos.parent.rglob("*"))
    done = command("data", *words, "--quiet")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("vaebm: ")
    assert done.err.count("\n") == 1
    assert said in done.err
    assert sorted(photos.parent.rglob("*")) == before


def test_a_full_disk_is_one_line_and_nothing_counts(
    command: Any, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vaebm.data import prepare

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(prepare.os, "fsync", full)
        done = command("data", "prepare", "photos", "--size", "8", "--workers", "1", "--quiet")
    assert done.status == 2
    assert "train.bin is full: free some space, then run the same command again" in done.err
    assert done.err.count("\n") == 1
    half = command("train", "photos-prepared", "--quiet")
    assert half.status == 2
    assert "is only half prepared: run the same `vaebm data prepare` again" in half.err
    assert command("data", "prepare", "photos", "--size", "8", "--workers", "1", "--quiet").status == 0
    assert (photos.parent / "photos-prepared" / INDEX).is_file()

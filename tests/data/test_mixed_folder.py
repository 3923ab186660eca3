"""A folder of everything trains, after one line that says what was done with each kind of file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vaebm.cli import main
from vaebm.data import FolderSettings

SHORT = [
    "vae_stage.iterations=3",
    "vae.widths=[4, 4]",
    "code_mixture.components=2",
    "energy_stage.phases.ratio.iterations=2",
    "energy_stage.phases.rounds=null",
    "energy.image.widths=[4, 4]",
    "energy.image.stem=4",
]
EACH = 12


@pytest.fixture
def mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "mixed"
    root.mkdir()
    generator = np.random.default_rng(0)
    for i in range(EACH):
        height, width = (int(side) for side in generator.integers(20, 60, 2))
        colour = Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))
        colour.save(root / f"{i}-colour.png")
        colour.save(root / f"{i}-photo.jpg")
        colour.convert("L").save(root / f"{i}-grey.png")
        colour.convert("CMYK").save(root / f"{i}-print.jpg")
        colour.convert("P").save(root / f"{i}-palette.gif")
        Image.fromarray(np.asarray(colour.convert("L")).astype(np.uint16) * 257).save(root / f"{i}-deep.png")
        clear = colour.convert("RGBA")
        clear.putalpha(colour.convert("L"))
        clear.save(root / f"{i}-clear.png")
        (root / f"{i}-notes.txt").write_text("no image")
        (root / f"{i}-cut.jpg").write_bytes((root / f"{i}-photo.jpg").read_bytes()[:400])
    Image.new("L", (1000, 900)).save(root / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400_000)
    return root


def test_the_line_names_each_kind(mixed: Path) -> None:
    found = FolderSettings(root=str(mixed), size=16).load().description
    assert "\n" not in found
    for word in (
        "84 images",
        "48 PNG, 24 JPEG, 12 GIF",
        "16 x 16 pixels, RGB",
        "12 grey images repeated in three colours",
        "12 images of 16-bit grey brought to 8 bits",
        "12 images with a palette looked up",
        "12 images in CMYK turned into RGB",
        "transparency of 12 images put on white",
        "25 files skipped (12 truncated or damaged, 12 not an image, 1 too large to decode safely)",
    ):
        assert word in found


def test_it_trains(mixed: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["train", str(mixed), "data.size=16", *SHORT, "--out", str(tmp_path / "run"), "--only-train"]
    assert main([*words, "--device", "cpu"]) == 0
    lines = capfd.readouterr().err.splitlines()
    assert sum("84 images of 16 x 16" in line for line in lines) == 1
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()

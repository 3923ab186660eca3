"""Every command and example of the README and the docs starts, with training cut to a few iterations."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vaebm

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OWN_TEST = ROOT / "docs" / "your-own-vae.md"  # its blocks build on each other
SHORT = [
    "vae_stage.iterations=20",
    "code_mixture.components=2",
    "evaluation.draws=2",
    "sampler.steps=2",
    "energy_stage.phases.ratio.iterations=5",
]
SHORT_FOLDER = [
    "energy_stage.phases.rounds=null",
    "vae.widths=[4, 4]",
    "energy.image.widths=[4, 4]",
    "energy.image.stem=4",
]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def lines(start: str) -> list[str]:
    """Command lines that begin with `start`, in fenced or indented blocks, without their comments."""
    text = "\n".join(page.read_text() for page in PAGES)
    found = re.findall(rf"^(?:    )?({re.escape(start)} .*)$", text, flags=re.MULTILINE)
    return list(dict.fromkeys(line.split("  #")[0].strip() for line in found))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    images = folder / "path" / "to" / "images"
    images.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for i in range(30):
        Image.fromarray(generator.integers(0, 256, (12, 12), dtype=np.uint8)).save(images / f"{i}.png")
    for name, seed in (("rows.csv", 1), ("new.csv", 2)):
        table = np.random.default_rng(seed)
        rows = [f"{table.normal():.3f},{table.poisson(2.0)},{'ab'[i % 2]},{i % 3}" for i in range(1200)]
        (folder / name).write_text("\n".join(["size,count,kind,label", *rows]) + "\n")
    return folder


def run(words: list[str], place: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words], cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(600)
def test_readme_commands(place: Path) -> None:
    for line in lines("vaebm"):
        words = shlex.split(line)
        if words[1] == "train":
            folder = words[2] == "path/to/images"
            words += [word for word in [*SHORT, *(SHORT_FOLDER if folder else [])] if word.split("=")[0] not in line]
            words += ["--only-train"] if words[2] == "gaussians25" else []  # quadrature has a test of its own
        if words[1] in ("compare-samplers", "diagnose", "disentangle"):  # minutes of work, with tests of their own
            words = [*words[:2], "--help"]
        run(["-m", *words], place)


@pytest.mark.parametrize("line", lines("python"))
def test_benchmarks_start(line: str, place: Path) -> None:
    script = shlex.split(line)[1]
    run([str(ROOT / script), "--help"], place)


@pytest.mark.parametrize(
    "code",
    [code for page in PAGES if page != OWN_TEST for code in blocks(page, "python") if "vaebm.train" in code],
)
def test_python_examples(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train: Callable[..., object] = vaebm.train
    short = dict(word.split("=", 1) for word in SHORT)
    monkeypatch.setattr(vaebm, "train", lambda *args, **options: train(*args, quiet=True, **options, **short))
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    names: dict[str, object] = {}
    exec(code, names)
    torch.set_num_threads(threads)
    for name, shape in (("images", (64, 1, 8, 8)), ("z", (64, 16)), ("score", (64,)), ("log_h", (64,))):
        value = names[name]
        assert isinstance(value, torch.Tensor)
        assert value.shape == shape

"""Wrong input gets one line that says what is wrong and what to do, exit status 2, no traceback, and loses nothing.

Each row sets a stage, runs one command on it, and names the words that its one line must hold. Afterwards every
file must be as it was, and none be added.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vaebm.experiment.train import train

RECIPE = """\
summary: four Gaussians, learned in a second
data: {kind: gaussians, side: 2, train_size: 400, test_size: 200}
vae: {kind: mlp, latent_dim: 2, hidden: [8], likelihood: {kind: gaussian}}
code_mixture: {components: 2, codes: 200}
energy: {image: {kind: mlp, hidden: [8]}}
sampler: {kind: langevin, step_size: 0.01, steps: 2}
vae_stage: {iterations: 3, batch_size: 16}
energy_stage: {phases: {ratio: {kind: density_ratio, iterations: 3, batch_size: 16}}}
checkpoint: {every_seconds: 0}
"""


@dataclass(frozen=True)
class Stage:
    """Where a command runs: a folder with `tiny.yaml`, a complete run `run` and an interrupted one `half`."""

    folder: Path

    def images(self, name: str, shapes: list[tuple[int, int]]) -> Path:
        target = self.folder / name
        target.mkdir(parents=True)
        for index, (width, height) in enumerate(shapes):
            Image.fromarray(np.full((height, width), index, dtype=np.uint8)).save(target / f"{index}.png")
        return target

    def write(self, name: str, text: str) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text)

    def cut(self, pattern: str) -> None:
        """Cut every file that matches to its first half."""
        for path in self.folder.glob(pattern):
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    def cut_checkpoints(self, count: int) -> None:
        """Cut the newest `count` checkpoints of the interrupted run."""
        for path in sorted((self.folder / "half" / "checkpoints").iterdir())[-count:]:
            self.cut(f"half/checkpoints/{path.name}/*.safetensors")

    def files(self) -> dict[Path, str]:
        return {
            path: hashlib.sha256(path.read_bytes()).hexdigest() for path in self.folder.rglob("*") if path.is_file()
        }


@dataclass(frozen=True)
class Row:
    """One wrong input."""

    name: str
    words: str
    said: list[str]
    stage: Callable[[Stage], object] = field(default=lambda stage: None)


ROWS = [
    # What to train.
    Row("unknown recipe", "train digit", ["'digit'", "did you mean 'digits'?"]),
    Row("nothing like it", "train qqqqq", ["'qqqqq'", "digits", "gaussians25"]),
    Row("no recipe file", "train lost.yaml", ["lost.yaml", "check the path"]),
    Row(
        "no YAML",
        "train bad.yaml",
        ["bad.yaml", "no valid YAML", "line"],
        lambda s: s.write("bad.yaml", "a: 1\nb: ["),
    ),
    Row("no mapping", "train list.yaml", ["list.yaml", "no mapping"], lambda s: s.write("list.yaml", "- a\n- b\n")),
    Row(
        "not text", "train bytes.yaml", ["bytes.yaml"], lambda s: (s.folder / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    ),
    Row(
        "extends nothing",
        "train child.yaml",
        ["'digit'", "did you mean"],
        lambda s: s.write("child.yaml", "extends: digit"),
    ),
    Row("extends itself", "train me.yaml", ["me.yaml", "extends itself"], lambda s: s.write("me.yaml", "extends: me")),
    Row("empty recipe", "train empty.yaml", ["empty.yaml"], lambda s: s.write("empty.yaml", "summary: nothing")),
    # Overrides, by their path in the recipe.
    Row("unknown key", "train tiny.yaml sead=1", ["no key sead", "did you mean seed?"]),
    Row(
        "unknown nested key",
        "train tiny.yaml vae_stage.learning_rat=1",
        ["no key vae_stage.learning_rat", "did you mean vae_stage.learning_rate?"],
    ),
    Row("unknown key of a part", "train tiny.yaml vae.latent_dims=3", ["vae.latent_dims", "vae.latent_dim?"]),
    Row("no equals sign", "train tiny.yaml seed", ["'seed'", "key=value"]),
    Row("no key", "train tiny.yaml =3", ["'=3'", "key=value"]),
    Row("wrong type", "train tiny.yaml seed=one", ["seed is 'one'"]),
    Row("wrong type inside", "train tiny.yaml vae.hidden=wide", ["vae.hidden is 'wide'"]),
    Row("out of range", "train tiny.yaml seed=-1", ["seed is -1", "0"]),
    Row(
        "out of range inside", "train tiny.yaml vae_stage.learning_rate=0", ["vae_stage.learning_rate is 0", "greater"]
    ),
    Row("unknown kind", "train tiny.yaml sampler.kind=nuts", ["sampler.kind is 'nuts'", "langevin", "mala"]),
    Row(
        "unknown likelihood",
        "train tiny.yaml vae.likelihood.kind=poisson",
        ["likelihood.kind is 'poisson'", "bernoulli"],
    ),
    Row("no value", "train tiny.yaml vae.hidden=[8", ["vae.hidden=[8", "cannot be read"]),
    Row("part instead of value", "train tiny.yaml vae_stage=3", ["vae_stage is 3"]),
    # Data.
    Row("no data", "train photos.yaml", ["nowhere", "does not exist"], lambda s: photos(s, "nowhere")),
    Row("empty folder", "train empty", ["empty"], lambda s: (s.folder / "empty").mkdir()),
    Row(
        "empty data root",
        "train photos.yaml",
        ["shots", "is empty"],
        lambda s: (photos(s, "shots"), s.images("shots", [])),
    ),
    Row("too few", "train few", ["few", "3 readable images", "20"], lambda s: s.images("few", [(16, 16)] * 3)),
    Row(
        "mixed shapes",
        "train mixed",
        ["16 x 16 (15)", "20 x 16 (10)", "data.size=32"],
        lambda s: s.images("mixed", [(16, 16)] * 15 + [(20, 16)] * 10),
    ),
    Row("too small", "train small", ["4 x 4", "8 x 8"], lambda s: s.images("small", [(4, 4)] * 25)),
    Row("no images", "train texts", ["texts"], lambda s: [s.write(f"texts/{i}.txt", "words") for i in range(30)]),
    Row("unreadable images", "train cut", ["cut"], lambda s: (s.images("cut", [(16, 16)] * 25), s.cut("cut/*.png"))),
    # Where the run goes.
    Row("out is a file", "train tiny.yaml --out file", ["file"], lambda s: s.write("file", "x")),
    Row("out lies below a file", "train tiny.yaml --out file/run", ["file"], lambda s: s.write("file", "x")),
    Row("out is no run", "train tiny.yaml --out diary", ["diary", "--out"], lambda s: s.write("diary/1.txt", "Dear")),
    Row("out is another run", "train tiny.yaml --out run seed=7", ["run", "another recipe", "seed is 0 there, 7 here"]),
    Row("resume with changes", "train half seed=7", ["half", "keeps its recipe"]),
    Row("nothing may be written", "train tiny.yaml --out /proc/run", ["/proc/run"]),
    # Checkpoints.
    Row(
        "cut checkpoints",
        "train half",
        ["is damaged", "no older checkpoint is whole", "delete"],
        lambda s: s.cut_checkpoints(9),
    ),
    Row("cut manifest", "train half", ["is damaged"], lambda s: s.cut("half/checkpoints/*/*.json")),
    # Runs that are read.
    Row("no run", "sample lost --n 2 --out x.npz", ["lost", "vaebm train"]),
    Row(
        "folder is no run", "sample diary --n 2 --out x.npz", ["diary", "no run"], lambda s: s.write("diary/1", "Dear")
    ),
    Row("not trained", "sample half --n 2 --out x.npz", ["half", "no model yet", "vaebm train half"]),
    Row(
        "cut weights",
        "sample run --n 2 --out x.npz",
        ["model.safetensors", "damaged"],
        lambda s: s.cut("run/model/*.safetensors"),
    ),
    Row(
        "cut config",
        "sample run --n 2 --out x.npz",
        ["config.json", "damaged"],
        lambda s: s.cut("run/model/config.json"),
    ),
    Row(
        "no config",
        "sample run --n 2 --out x.npz",
        ["config.json"],
        lambda s: (s.folder / "run/model/config.json").unlink(),
    ),
    Row("empty run recipe", "evaluate run", ["recipe.yaml"], lambda s: s.write("run/recipe.yaml", "")),
    Row("broken run recipe", "report run", ["recipe.yaml", "YAML"], lambda s: s.write("run/recipe.yaml", "a: [")),
    Row(
        "wrong run recipe",
        "inspect run",
        ["recipe.yaml", "sead"],
        lambda s: s.write("run/recipe.yaml", f"{RECIPE}sead: 1"),
    ),
    Row(
        "cut measurements",
        "evaluate run",
        ["measurements.json", "delete it"],
        lambda s: s.write("run/measurements.json", "[{"),
    ),
    Row(
        "odd measurements",
        "evaluate run",
        ["measurements.json"],
        lambda s: s.write("run/measurements.json", '[{"name": 3}]'),
    ),
    Row(
        "wrong measurements",
        "report run",
        ["measurements.json"],
        lambda s: s.write("run/measurements.json", '{"a": 1}'),
    ),
    # What is asked of them.
    Row("unknown subject", "sample run --n 2 --out x.npz --subject gan", ["'gan'", "vae_mixture"]),
    Row("unknown show", "sample run --n 2 --out x.npz --show all", ["'all'", "'denoised'"]),
    Row("no samples", "sample run --n 0 --out x.npz", ["--n", "'0'", "at least 1"]),
    Row("negative samples", "sample run --n -3 --out x.npz", ["--n", "'-3'", "at least 1"]),
    Row("samples in words", "sample run --n some --out x.npz", ["--n", "'some'", "at least 1"]),
    Row("negative seed", "sample run --n 2 --out x.npz --seed -1", ["--seed", "'-1'", "at least 0"]),
    Row("unknown ending", "sample run --n 2 --out x.jpg", ["x.jpg", ".npz"]),
    Row("samples below a file", "sample run --n 2 --out tiny.yaml/x.npz", ["tiny.yaml"]),
    Row("samples into /proc", "sample run --n 2 --out /proc/x.npz", ["/proc"]),
    Row("fixed since training", "sample run --n 2 --out x.npz vae.latent_dim=3", ["vae.latent_dim=3", "sampler"]),
    Row("wrong sampler", "sample run --n 2 --out x.npz sampler.kind=nuts", ["sampler.kind is 'nuts'", "mala"]),
    Row("wrong step", "sample run --n 2 --out x.npz sampler.step_size=-1", ["sampler.step_size is -1"]),
    Row(
        "too few gradients",
        "sample run --n 2 --out x.npz --gradients 2 sampler.kind=tempering",
        ["sampler.kind=tempering", "gradients is 2"],
    ),
    Row("unknown measurement", "evaluate run --only frechet_distnce", ["frechet_distnce", "log_likelihood"]),
    Row("one sample", "evaluate run --n 1", ["--n", "'1'", "at least 2"]),
    Row("inspect nothing", "inspect qqqqq", ["'qqqqq'"]),
    # Devices.
    *[
        Row(f"no device, {words.split()[0]}", f"{words} --device {device}", [device, "no device"])
        for words, device in [
            ("train tiny.yaml", "cuda:7"),
            ("train tiny.yaml", "abacus"),
            ("sample run --n 2 --out x.npz", "cuda:7"),
            ("evaluate run", "cuda:7"),
            ("report run", "cuda:7"),
            ("inspect tiny.yaml", "cuda:7"),
        ]
    ],
]


def photos(stage: Stage, root: str) -> None:
    stage.write("photos.yaml", f"extends: {stage.folder / 'tiny'}\ndata: {{kind: folder, root: {root}}}")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(RECIPE)
    train(folder / "tiny.yaml", folder / "run", device="cpu")
    copytree(folder / "run", folder / "half")
    rmtree(folder / "half" / "model")
    return folder


@pytest.fixture
def stage(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Stage(tmp_path)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_wrong_input(row: Row, stage: Stage, command: Any) -> None:
    row.stage(stage)
    before = stage.files()
    quiet = [] if row.words.startswith("inspect") else ["--quiet"]
    done = command(*row.words.split(), *quiet)
    assert done.err.startswith("vaebm: "), done
    assert len(done.err.splitlines()) == 1, done.err
    assert done.status == 2, done.err
    assert done.out == ""
    for words in row.said:
        assert words in done.err
    assert stage.files() == before, "something was lost, changed or left behind"


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own with 4 kB left, where the machine lets the test mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", disk], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("only root may mount a small disk")
    try:
        (disk / "filling").write_bytes(bytes(12 * 1024))
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("words", ["train tiny.yaml --out disk/run", "sample run --n 2000 --out disk/x.npz"])
def test_a_full_disk(words: str, stage: Stage, full_disk: Path, command: Any) -> None:
    done = command(*words.split(), "--quiet")
    assert (done.status, done.out) == (2, "")
    assert re.fullmatch(r"vaebm: the disk of \S*disk/\S+ is full: free some space, then run .* again\n", done.err), (
        done.err
    )


def test_a_read_only_disk(stage: Stage, full_disk: Path, command: Any) -> None:
    subprocess.run(["mount", "-o", "remount,ro", full_disk], check=True)
    for words in ("train tiny.yaml --out disk/run", "sample run --n 2 --out disk/x.npz"):
        done = command(*words.split(), "--quiet")
        assert (done.status, done.out) == (2, "")
        assert re.fullmatch(r"vaebm: \S*disk/\S+ lies on a read-only disk: choose another place\n", done.err), done.err

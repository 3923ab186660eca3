"""What would run code, write elsewhere or take all memory is refused by the command line in one line."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import vaebm
from vaebm.cli import main
from vaebm.experiment.run_directory import Run
from vaebm.experiment.train import train
from vaebm.models.settings import VAEBMSettings

RECIPE = """\
data: {kind: gaussians, side: 2, train_size: 200, test_size: 100}
vae: {kind: mlp, latent_dim: 2, hidden: [4], likelihood: {kind: gaussian}}
code_mixture: {components: 2, codes: 100}
sampler: {kind: langevin, step_size: 0.01, steps: 2}
vae_stage: {iterations: 2, batch_size: 8}
threads: 1
"""
Refused = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return train(tmp_path / "recipe.yaml", tmp_path / "run", device="cpu").path


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs a command; gives its one line."""

    def command(*words: str | Path) -> str:
        capsys.readouterr()
        assert main([*map(str, words)]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        (line,) = told.err.splitlines()
        return line

    return command


class Malice:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.write_text, (self.path, "run")


@pytest.mark.parametrize("name", ["model.safetensors", "x.npz", "x.npy", "x.zip", "x.tar", "x.yaml"])
def test_a_malicious_pickle(name: str, run: Path, refused: Refused, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    content = pickle.dumps(Malice(victim))
    path = run / "model" / name if name.startswith("model") else tmp_path / name
    if name == "x.npz":
        array = np.array([Malice(victim)] * 20, dtype=object)
        np.savez(path, images=array)
    elif name == "model.safetensors":
        torch.save({"weight": Malice(victim)}, path)
    else:
        path.write_bytes(content)
    if name.startswith("model"):
        assert "is damaged" in refused("sample", run, "--n", "2", "--out", tmp_path / "s.npz")
    elif name == "x.npy":
        refused("encode", run, "--input", path, "--out", tmp_path / "s.npz")
    else:
        refused("train", path, "--out", tmp_path / "other")
    assert not victim.exists()


@pytest.mark.parametrize("name", ["../../evil.png", "/evil.png", "a/../../evil.png", "..\\evil.png"])
@pytest.mark.parametrize("ending", ["zip", "tar"])
def test_an_archive_whose_names_lead_out_of_it(name: str, ending: str, refused: Refused, tmp_path: Path) -> None:
    path = tmp_path / f"set.{ending}"
    if ending == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, b"evil")
    else:
        with tarfile.open(path, "w") as tar:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    assert "a name that leads out of it" in refused("train", path, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_archive_of_a_file_without_a_name(refused: Refused, tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", b"")
    path.write_bytes(path.read_bytes().replace(b"x", b"\0"))  # names end at their first zero
    refused("train", path, "--out", tmp_path / "run")


@pytest.mark.parametrize("width", [10**12, 2**18])
def test_a_config_wider_than_any_memory(width: int, run: Path, refused: Refused, tmp_path: Path) -> None:
    """Two layers of 2^18 are a matrix of 256 GB that the system would promise, and kill the process for."""
    path = run / "model" / "config.json"
    config = json.loads(path.read_text())
    config["vae"]["hidden"] = [width, width]
    path.write_text(json.dumps(config))
    line = refused("sample", run, "--n", "2", "--out", tmp_path / "s.npz")
    assert "config.json" in line


@pytest.mark.parametrize(
    "setting",
    [
        {"vae": {"kind": "nvae", "cells": 10**9}},
        {"vae": {"kind": "nvae", "groups": [10**9]}},
        {"energy": {"image": {"kind": "ensemble", "members": 10**9, "member": {"kind": "mlp"}}}},
        {"energy": {"latent": {"kind": "flow", "blocks": 10**9}}},
        {"energy": {"latent": {"kind": "spline_flow", "couplings": 10**9}}},
        {"energy": {"image": {"kind": "ensemble", "member": {"kind": "ensemble", "member": {"kind": "mlp"}}}}},
    ],
)
def test_a_model_of_endless_depth(setting: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"less than or equal|at most|one ensemble"):
        VAEBMSettings.model_validate({"vae": {"kind": "mlp"}, **setting})


@pytest.mark.parametrize(
    "lie",
    [
        lambda header: {**header, "vae.extra": next(iter(header.values()))},
        lambda header: {name: {**about, "shape": [10**12, *about["shape"]]} for name, about in header.items()},
        lambda header: {name: {**about, "data_offsets": [0, 10**12]} for name, about in header.items()},
        lambda header: {name: {**about, "dtype": "F8_E4M3"} for name, about in header.items()},
        lambda header: {},
    ],
)
@pytest.mark.parametrize("size", [None, 2**62])
def test_a_lying_safetensors_header(
    lie: Callable[[dict[str, dict[str, list[int]]]], dict[str, object]],
    size: int | None,
    run: Path,
    refused: Refused,
    tmp_path: Path,
) -> None:
    path = run / "model" / "model.safetensors"
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    told = json.dumps(lie(header)).encode()
    path.write_bytes(struct.pack("<Q", size or len(told)) + told + content[8 + length :])
    assert "model.safetensors" in refused("sample", run, "--n", "2", "--out", tmp_path / "s.npz")


def bomb(levels: int = 40) -> str:
    lines = ["a0: &a0 [1, 1]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, levels))]
    return "\n".join([*lines, f"vae: {{kind: mlp, hidden: *a{levels - 1}}}\n"])


@pytest.mark.parametrize(
    "text",
    [
        bomb(),
        "a: " + "[" * 10_000 + "]" * 10_000,
        "a: !!python/object/apply:os.system ['true']\n",
        "a: '" + "x" * 2**19 + "'\n",
        "1e308\n",
        *(f"{RECIPE}vae_stage: {{iterations: {n}}}\n" for n in (-1, ".inf", "[]")),
    ],
    ids=["aliases", "depth", "tag", "size", "number", "negative", "infinite", "list"],
)
def test_a_recipe_that_is_no_recipe(text: str, refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)
    line = refused("train", tmp_path / "x.yaml", "--out", tmp_path / "run")
    assert len(line) < 1000
    (tmp_path / "run").mkdir()
    (tmp_path / "x.yaml").rename(tmp_path / "run" / "recipe.yaml")
    refused("inspect", tmp_path / "run")


def test_nothing_is_looked_up_for_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody's environment holds would stand in the recipe of a run, and be shared with it."""
    monkeypatch.setenv("SECRET", "told")
    (tmp_path / "x.yaml").write_text(f"summary: ${{oc.env:SECRET}}\n{RECIPE}")
    run = train(tmp_path / "x.yaml", tmp_path / "run", device="cpu")
    assert run.recipe.summary == "${oc.env:SECRET}"
    assert "told" not in (tmp_path / "run" / "recipe.yaml").read_text()


@pytest.mark.parametrize("link", ["metrics.jsonl", ".report.html.draft", "samples", "checkpoints/00000009"])
def test_a_link_that_leads_out_of_a_run(link: str, run: Path, refused: Refused, tmp_path: Path) -> None:
    victim = tmp_path / ("folder" if link in ("samples", "checkpoints/00000009") else "file")
    victim.mkdir() if victim.name == "folder" else victim.write_text("precious")
    (run / link).unlink(missing_ok=True)
    (run / link).symlink_to(victim)
    for verb in ("train", "report", "evaluate", "inspect"):
        assert "is a link that leads out of the run" in refused(verb, run)
    assert victim.is_dir() or victim.read_text() == "precious"


def test_a_run_may_lie_behind_a_link(run: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(run)
    (run / "also").symlink_to(run / "model")
    assert Run.open(tmp_path / "link").is_complete
    assert vaebm.load(tmp_path / "link").sample(2).shape == (2, 2)

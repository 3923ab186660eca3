"""The page on VAEs trained elsewhere runs as it stands, with training cut to a few iterations."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import torch

import vaebm

PAGE = (Path(__file__).parents[2] / "docs" / "your-own-vae.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
SHORT: dict[str, object] = {
    "vae_stage": {"iterations": 3},
    "code_mixture": {"components": 2, "codes": 200},
    "energy_stage": {"phases": {"ratio": {"iterations": 3}, "rounds": None}},
    "energy": {"image": {"stem": 4, "widths": [4], "halve": [0]}},
    "sampler": {"steps": 2},
    "quiet": True,
}


def names_of(blocks: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    train_energy = vaebm.train_energy
    monkeypatch.setattr(vaebm, "train_energy", lambda *args, **more: train_energy(*args, **more, **SHORT))  # type: ignore[arg-type]
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    for block in blocks:
        exec(block.replace("range(2000)", "range(20)"), names)
    return names


def test_plain_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = [block for block in BLOCKS if "pythae" not in block and "diffusers" not in block]
    assert len(plain) == 4
    names = names_of(plain, tmp_path, monkeypatch)
    samples = names["samples"]
    assert isinstance(samples, torch.Tensor)
    assert samples.shape == (16, 1, 8, 8)
    assert isinstance(names["model"], vaebm.VAEBM)


@pytest.mark.parametrize("package", ["pythae", "diffusers"])
def test_other_libraries(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install 'vaebm[integrations]'")
    block = next(block for block in BLOCKS if f"from {package}" in block)
    assert len([line for line in block.splitlines() if line.strip()]) <= 10
    run = names_of([BLOCKS[0], "import vaebm", block], tmp_path, monkeypatch)["run"]
    assert isinstance(run, vaebm.Run)
    assert run.model().sample(2).shape == (2, 1, 8, 8)

"""What a run was trained by is on disk, is shown, and is said where it has changed."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from vaebm.experiment.environment import ENVIRONMENT, environments, note_environment

ENGINE: Any = SimpleNamespace(device=torch.device("cpu"), world_size=1)


def test_it_is_written_once(tmp_path: Path) -> None:
    assert note_environment(tmp_path, ENGINE) is None
    (one,) = environments(tmp_path)
    assert one.keys() == {"python", "torch", "numpy", "vaebm", "processor", "device", "threads", "processes"}
    assert one["torch"] == torch.__version__
    assert note_environment(tmp_path, ENGINE) is None
    assert environments(tmp_path) == [one]


def test_another_one_is_said_in_a_line(tmp_path: Path) -> None:
    note_environment(tmp_path, ENGINE)
    path = tmp_path / ENVIRONMENT
    known = json.loads(path.read_text())
    path.write_text(json.dumps([{**known[0], "torch": "2.0.0", "processes": 2}]))
    said = note_environment(tmp_path, ENGINE)
    assert said is not None
    assert f"torch {torch.__version__} instead of 2.0.0 and processes 1 instead of 2" in said
    assert len(said.splitlines()) == 1
    assert [one["torch"] for one in environments(tmp_path)] == ["2.0.0", torch.__version__]


def test_a_damaged_file_is_begun_anew(tmp_path: Path) -> None:
    for content in ("", "{", "3", '["a"]', "null"):
        (tmp_path / ENVIRONMENT).write_text(content)
        assert note_environment(tmp_path, ENGINE) is None
        assert len(environments(tmp_path)) == 1

"""docs/map.md names places that exist."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TARGETS = re.findall(r"`(vaebm/[\w/]+)\.py:([\w.]+)`", (ROOT / "docs" / "map.md").read_text())


@pytest.mark.parametrize(("file", "name"), TARGETS)
def test_target_exists(file: str, name: str) -> None:
    found: object = importlib.import_module(file.replace("/", "."))
    for part in name.split("."):
        found = getattr(found, part)


def test_table_is_read() -> None:
    assert len(TARGETS) >= 20

"""What holds for every test: no network, no window, and real data only where VAEBM_DATA names a folder of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def real() -> Callable[[str], Path]:
    """The folder of a set below VAEBM_DATA: a set that is absent fails on CI, and is skipped elsewhere."""

    def folder(name: str) -> Path:
        root = os.environ.get("VAEBM_DATA")
        if root and (Path(root) / name).is_dir():
            return Path(root) / name
        reason = f"needs {name} in the folder that VAEBM_DATA names"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)

    return folder

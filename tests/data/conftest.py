"""Real data sets, where VAEBM_DATA names a folder of them: absent ones fail on CI and are skipped elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def real() -> Callable[[str], Path]:
    """The folder of a set below VAEBM_DATA."""

    def folder(name: str) -> Path:
        root = os.environ.get("VAEBM_DATA")
        if root and (Path(root) / name).is_dir():
            return Path(root) / name
        reason = f"needs {name} in the folder that VAEBM_DATA names"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)

    return folder

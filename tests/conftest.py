"""What holds for every test: no network, no window, and real data only where VAEBM_DATA names a folder of them."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# As in a shell's background or under nohup, where neither could be tested.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)


@pytest.fixture(scope="session")
def real() -> Callable[[str], Path]:
    """The folder of a set, below VAEBM_DATA: a set that is absent fails on CI, and is skipped elsewhere."""

    def folder(name: str) -> Path:
        root = os.environ.get("VAEBM_DATA")
        if root and (Path(root) / name).is_dir():
            script = Path(root) / name / f"unpack_{name}.py"
            return unpacked(script, name) if script.is_file() else Path(root) / name
        reason = f"needs {name} in the folder that VAEBM_DATA names"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)

    return folder


def unpacked(script: Path, name: str) -> Path:
    """The canonical files that a script beside a packed set writes, kept for later sessions."""
    folder = Path(tempfile.gettempdir()) / f"vaebm-tests-{os.getuid()}" / name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / ".complete").exists():
            subprocess.run([sys.executable, script, folder, "--binary"], check=True, capture_output=True)
            (folder / ".complete").touch()
    return folder

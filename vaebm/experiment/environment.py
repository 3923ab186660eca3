"""Environment: what a run is computed by, in `RUN/environment.json`, a list in the order in which it was trained.

    [{"python": "3.11.9", "torch": "2.13.0", "numpy": ..., "vaebm": ..., "processor": ..., "device": ..., "threads": 1,
      "processes": 1}, ...]

A resumed run equals the uninterrupted one bit for bit in the same environment only; in another, that is said.
"""

import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vaebm.files import write_atomically
from vaebm.training.engine import Engine
from vaebm.version import __version__

ENVIRONMENT = "environment.json"


def environment(engine: Engine) -> dict[str, Any]:
    """The present one."""
    on_gpu = engine.device.type == "cuda"
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "vaebm": __version__,
        "processor": processor(),
        "device": torch.cuda.get_device_name(engine.device) if on_gpu else str(engine.device),
        "threads": torch.get_num_threads(),
        "processes": engine.world_size,
    }


def processor() -> str:
    """Its name, as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def environments(run: Path) -> list[dict[str, Any]]:
    """Those that a run was trained in so far; none where the file is missing or damaged."""
    try:
        found = json.loads((run / ENVIRONMENT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def note_environment(run: Path, engine: Engine) -> str | None:
    """Writes the present environment down where it is new, and says in a sentence how it differs from the last."""
    known, now = environments(run), environment(engine)
    if known and known[-1] == now:
        return None
    write_atomically(run / ENVIRONMENT, json.dumps([*known, now], indent=1).encode())
    if not known:
        return None
    return (
        f"Training goes on with {difference(known[-1], now)}: it need not be bit for bit what it would have been"
        " without the interruption."
    )


def difference(then: dict[str, Any], now: dict[str, Any]) -> str:
    """'torch 2.14.0 instead of 2.13.0 and threads 2 instead of 1'."""
    return " and ".join(
        f"{name} {value} instead of {then.get(name, 'an unknown one')}"
        for name, value in now.items()
        if then.get(name) != value
    )


def described(one: dict[str, Any]) -> str:
    """'python 3.11.9, torch 2.13.0, ...'."""
    return ", ".join(f"{name} {value}" for name, value in one.items())

"""The cache folder: $XDG_CACHE_HOME/vaebm, or ~/.cache/vaebm. What is in it can be downloaded or made again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where it is; it need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vaebm"

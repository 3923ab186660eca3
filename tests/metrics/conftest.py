"""Real data: the folder that VAEBM_DATA names. Where there is none, its tests are skipped, on CI they fail."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = os.environ.get("VAEBM_DATA")
    if folder and Path(folder).is_dir():
        return Path(folder)
    if os.environ.get("CI"):
        pytest.fail("VAEBM_DATA does not name a folder of real data, which CI has to have")
    pytest.skip("needs real data: set VAEBM_DATA to a folder with mnist/ and inception/")


@pytest.fixture(scope="session")
def mnist(real_data: Path) -> Callable[[str, int], Tensor]:
    """Of a split, `train` or `t10k`: n random images (n, 1, 28, 28) in [-1, 1], always the same."""

    def images(split: str, n: int) -> Tensor:
        content = gzip.decompress((real_data / "mnist" / f"{split}-images-idx3-ubyte.gz").read_bytes())
        values = torch.from_numpy(np.frombuffer(content, np.uint8, offset=16).reshape(-1, 1, 28, 28).copy())
        chosen = torch.randperm(len(values), generator=torch.Generator().manual_seed(0))[:n]
        return values[chosen].float() / 255 * 2 - 1

    return images

"""Real digits, and the folder of Inception weights."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor


@pytest.fixture(scope="session")
def real_data(real: Callable[[str], Path]) -> Path:
    """The folder that holds mnist/ and inception/."""
    real("mnist")
    return real("inception").parent


@pytest.fixture(scope="session")
def mnist(real_data: Path) -> Callable[[str, int], Tensor]:
    """Of a split, `train` or `t10k`: n random images (n, 1, 28, 28) in [-1, 1], always the same."""

    def images(split: str, n: int) -> Tensor:
        content = gzip.decompress((real_data / "mnist" / f"{split}-images-idx3-ubyte.gz").read_bytes())
        values = torch.from_numpy(np.frombuffer(content, np.uint8, offset=16).reshape(-1, 1, 28, 28).copy())
        chosen = torch.randperm(len(values), generator=torch.Generator().manual_seed(0))[:n]
        return values[chosen].float() / 255 * 2 - 1

    return images

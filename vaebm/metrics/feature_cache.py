"""Feature cache: feature rows of real images on disk, so that no evaluation computes them twice.

    ~/.cache/vaebm/features/KEY.safetensors,      KEY = SHA-256 of the features' settings and of the images

Real images are the same for every run, seed and subject, and a slow network takes minutes for them. The key depends on
all that the rows depend on, so nothing in there can be out of date, and everything may be deleted. A file that is
damaged is made again; a folder that cannot be written costs the time, not the result.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from vaebm.data.splits import Split
from vaebm.files import cache_folder, write_atomically
from vaebm.metrics.features import Features

IMAGES_AT_ONCE = 1024


def real_features(
    features: Features, split: Split, indices: Tensor, advance: Callable[[int], None] | None = None
) -> Tensor:
    """Rows (n, dim) float32 of the images of `split` at `indices` (n,); from disk where they are known.

    Args:
        advance: gets the number of images in each chunk when it is done.
    """

    def batches() -> Iterator[Tensor]:
        return (split.batch(some).x for some in indices.split(IMAGES_AT_ONCE))

    if not features.slow:
        return features.of_batches(batches(), advance)
    digest = hashlib.sha256(json.dumps(features.settings, sort_keys=True).encode())
    for batch in batches():
        digest.update(f"{tuple(batch.shape)}".encode())
        digest.update(batch.numpy().tobytes())
    path = cache_folder() / "features" / f"{digest.hexdigest()}.safetensors"
    known = _read(path, len(indices))
    if known is None:
        known = features.of_batches(batches(), advance)
        _write(path, known)
    elif advance is not None:
        advance(len(indices))
    return known


def _read(path: Path, count: int) -> Tensor | None:
    try:
        rows = safetensors.torch.load(path.read_bytes())["rows"]
    except (OSError, KeyError, safetensors.SafetensorError):
        return None
    return rows if rows.shape[0] == count and bool(rows.isfinite().all()) else None


def _write(path: Path, rows: Tensor) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, safetensors.torch.save({"rows": rows.contiguous()}))
    except OSError as reason:
        warnings.warn(f"features are not kept, {path.parent} cannot be written ({reason.strerror})", stacklevel=2)

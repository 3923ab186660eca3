"""Records: tensors in a file with what is known of them, valid for the weights that they were made with.

FILE.safetensors    tensors by name; in the metadata, as JSON: `model_sha256` and whatever else is known
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from vaebm.data.transforms import to_model, to_uint8
from vaebm.files import write_atomically


def save_record(path: Path, model_sha256: str, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Writes a file, and its folder where that is not there."""
    known = json.dumps({"model_sha256": model_sha256, **about}, sort_keys=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomically(path, safetensors.torch.save(content, {"about": known}))


def load_record(path: Path, model_sha256: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors, and what is known of them; None where there is no such file, or it is damaged or of other weights."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about: dict[str, Any] = json.loads(file.metadata()["about"])
            names = file.keys()
            return ({name: file.get_tensor(name) for name in names}, about) if _fits(about, model_sha256) else None
    except (OSError, safetensors.SafetensorError, TypeError, KeyError, ValueError):
        return None


def packed(x: Tensor) -> Tensor:
    """Data (..., *data_shape) in the model's range as files hold them: images uint8, points float32.

    Raises:
        InputError: a pixel is not a number.
    """
    return to_uint8(x) if x.ndim >= 4 else x.float()


def unpacked(x: Tensor) -> Tensor:
    """The same in the model's range again."""
    return to_model(x) if not x.is_floating_point() else x


def _fits(about: Mapping[str, Any], model_sha256: str) -> bool:
    return bool(about["model_sha256"] == model_sha256)

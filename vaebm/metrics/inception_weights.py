"""Inception weights: where they are looked for, and how they are read.

    1. the path that was given, a file or a folder
    2. $VAEBM_DATA/inception
    3. inception/ in the cache folder (`vaebm/files.py`)

In a folder the complete weights come first, then those that end at Mixed_6e. Safetensors, or PyTorch's own format read
as plain tensors only: a file that asks for anything else is refused. Where a name ends in eight hexadecimal digits,
as that of the published file does, they have to be the first of its SHA-256.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from vaebm.errors import InputError
from vaebm.files import cache_folder, sha256

PUBLISHED = "pt_inception-2015-12-05-6726825d.pth"
ADDRESS = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{PUBLISHED}"
FILES = (
    PUBLISHED,
    "pt_inception-2015-12-05-6726825d.safetensors",
    "pt_inception-2015-12-05-to-Mixed_6e.safetensors",
)


def find_weights(path: str | Path | None = None) -> Path:
    """The file of weights.

    Raises:
        InputError: there is none in any of the places.
    """
    if path is not None:
        given = Path(path)
        found = given if given.is_file() else _in_folder(given)
        if found is None:
            raise InputError(f"there are no Inception weights at {given}: give one of {', '.join(FILES)}")
        return found
    data = os.environ.get("VAEBM_DATA")
    folders = [Path(data) / "inception"] if data else []
    folders.append(cache_folder() / "inception")
    for folder in folders:
        found = _in_folder(folder)
        if found is not None:
            return found
    raise InputError(
        f"there are no Inception weights in {' or '.join(map(str, folders))}: download {ADDRESS} into the latter"
    )


def read_weights(path: Path) -> tuple[Mapping[str, Tensor], str]:
    """Tensors by their published names, and the SHA-256 of the file.

    Raises:
        InputError: the file is damaged, or no file of weights.
    """
    try:
        digest = sha256(path)
    except OSError as reason:
        raise InputError(f"{path} cannot be read ({reason.strerror}): give a readable file of weights") from None
    promised = re.search(r"-([0-9a-f]{8})\.pth$", path.name)
    if promised and not digest.startswith(promised[1]):
        raise InputError(f"{path} is damaged, its SHA-256 begins with {digest[:8]}: delete it and download {ADDRESS}")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path), digest
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # noqa: BLE001  # whatever a reader says of a file that it cannot read
        raise InputError(f"{path} is damaged or holds no plain weights: delete it and download {ADDRESS}") from None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path} holds more than weights: give one of {', '.join(FILES)}")
    return state, digest


def _in_folder(folder: Path) -> Path | None:
    return next((folder / name for name in FILES if (folder / name).is_file()), None)

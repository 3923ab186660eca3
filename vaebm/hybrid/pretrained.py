"""Saved models: a folder with config.json and model.safetensors, or a name on the Hugging Face hub.

config.json holds `data_shape`, the model's settings as a recipe writes them, and the version that wrote it. Nothing is
unpickled. `save_pretrained(folder)`, `from_pretrained(folder or name)` and `push_to_hub(name)` come from huggingface_hub.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import ModelHubMixin, hf_hub_download
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from vaebm.errors import InputError
from vaebm.hybrid.settings import ModelSettings

if TYPE_CHECKING:
    from vaebm.hybrid.vaebm import VAEBM

CONFIG, WEIGHTS = "config.json", "model.safetensors"


class Pretrained(ModelHubMixin):
    """Saving and loading of a VAEBM."""

    settings: ModelSettings
    data_shape: tuple[int, ...]

    def _save_pretrained(self, save_directory: Path) -> None:
        assert isinstance(self, nn.Module)
        config = {"data_shape": self.data_shape, **self.settings.model_dump(mode="json")}
        (save_directory / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
        save_file({name: value.contiguous() for name, value in self.state_dict().items()}, save_directory / WEIGHTS)

    @classmethod
    def _from_pretrained(
        cls, *, model_id: str, token: str | bool | None = None, device: str = "cpu", **download: Any
    ) -> VAEBM:
        folder = Path(model_id)
        if not folder.is_dir():
            options = {
                key: download[key]
                for key in ("revision", "cache_dir", "force_download", "local_files_only")
                if download.get(key) is not None
            }
            files = [hf_hub_download(model_id, name, token=token, **options) for name in (CONFIG, WEIGHTS)]
            folder = Path(files[0]).parent
        return load_model(folder, device)


def load_model(folder: Path, device: str = "cpu") -> VAEBM:
    """The model saved in `folder`.

    Raises:
        InputError: a file is missing or damaged.
    """
    from vaebm.hybrid.vaebm import VAEBM

    try:
        config = json.loads((folder / CONFIG).read_text())
        data_shape = tuple(config.pop("data_shape"))
        settings = ModelSettings.model_validate(config)
        weights = load_file(folder / WEIGHTS, device=device)
    except FileNotFoundError as missing:
        raise InputError(f"{folder} is no saved model: {missing.filename} is missing") from None
    except (json.JSONDecodeError, KeyError, ValidationError) as damage:
        raise InputError(f"{folder / CONFIG} is damaged ({type(damage).__name__}): save the model again") from None
    except SafetensorError as damage:
        raise InputError(f"{folder / WEIGHTS} is damaged or cut short ({damage}): save the model again") from None
    model = VAEBM(settings, data_shape, torch.Generator().manual_seed(0)).to(device)
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        raise InputError(f"{folder / WEIGHTS} does not fit {folder / CONFIG}: the two are of different models") from None
    return model.eval()

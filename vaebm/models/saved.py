"""Saved models: a folder with config.json and model.safetensors, or a name on the Hugging Face hub.

config.json holds `data_shape` and the model's settings as a recipe writes them. Nothing is unpickled.
`save_pretrained(folder)` and `push_to_hub(name)` come from huggingface_hub.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import ModelHubMixin, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from vaebm.errors import InputError
from vaebm.models.settings import ModelSettings

if TYPE_CHECKING:
    from vaebm.models.vaebm import VAEBM

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
    def from_pretrained(cls, name: str | Path, *, device: str = "cpu", **download: Any) -> VAEBM:  # type: ignore[override]
        """The model saved in a folder, or under a name on the hub; `download` is what `hf_hub_download` takes.

        Raises:
            InputError: there is no such folder, and the hub has no such name or cannot be reached; a file is damaged.
        """
        folder = Path(name)
        if not folder.is_dir():
            try:
                files = [hf_hub_download(str(name), file, **download) for file in (CONFIG, WEIGHTS)]
            except (OSError, EntryNotFoundError, HFValidationError) as failure:
                raise InputError(
                    f"{name} is no folder, and could not be had from the Hugging Face hub ({type(failure).__name__}):"
                    " check the name and the connection"
                ) from None
            folder = Path(files[0]).parent
        return load_model(folder, device)


def load_model(folder: Path, device: str = "cpu") -> VAEBM:
    """The model saved in `folder`.

    Raises:
        InputError: a file is missing or damaged.
    """
    from vaebm.models.vaebm import VAEBM

    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise InputError(f"{folder} is no saved model: {folder / name} is missing")
    try:
        config = json.loads((folder / CONFIG).read_text())
        data_shape = tuple(config.pop("data_shape"))
        settings = ModelSettings.model_validate(config)
        weights = load_file(folder / WEIGHTS, device=device)
    except (ValueError, KeyError, TypeError, AttributeError) as damage:  # no JSON, or another shape than `config` has
        raise InputError(f"{folder / CONFIG} is damaged ({type(damage).__name__}): save the model again") from None
    except SafetensorError as damage:
        raise InputError(f"{folder / WEIGHTS} is damaged or cut short ({damage}): save the model again") from None
    model = VAEBM(settings, data_shape, torch.Generator().manual_seed(0)).to(device)
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        raise InputError(
            f"{folder / WEIGHTS} does not fit {folder / CONFIG}: the two are of different models"
        ) from None
    return model.eval()

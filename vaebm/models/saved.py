"""Saved models: a folder with config.json and model.safetensors, or a name on the Hugging Face hub.

config.json holds `format`, `data_shape`, and the model's settings as a recipe writes them, `kind` among them. A model
that has been calibrated has its density of scores beside them, in detector.safetensors. Nothing is unpickled.
Either file may be a stranger's: names and shapes in the header of the weights have to be those of the model that
config.json describes before any memory is taken for either.
`save_pretrained(folder)` and `push_to_hub(name)` come from huggingface_hub.
"""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import ModelHubMixin, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError
from pydantic import BaseModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from vaebm.data.modality import modality_of
from vaebm.errors import InputError
from vaebm.files import drafted, user_path, write_atomically
from vaebm.models.score_density import FILE as DETECTOR
from vaebm.models.score_density import ScoreDensity
from vaebm.registry import Registry
from vaebm.wording import did_you_mean

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MAX_CONFIG_BYTES = 2**18
MAX_VALUES = 2**26  # of one data point
DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "U8", "BOOL")  # that tensors of a model have
FORMAT = 2  # of config.json; 1 is that of version 0.1, whose settings had other names


MODELS: Registry[type[BaseModel]] = Registry("model family")
"""Settings of families by their `kind`: what recipes and config.json are read by."""


class Saved(ModelHubMixin):
    """Saving and loading of a model."""

    settings: Any
    data_shape: tuple[int, ...]
    score_density: ScoreDensity | None = None

    def save_pretrained(self, save_directory: str | Path, **more: Any) -> str | None:
        """Writes config.json and model.safetensors into a folder; `~` is the home directory.

        Raises:
            InputError: the model was put together by hand.
        """
        return super().save_pretrained(user_path(save_directory), **more)

    def _save_pretrained(self, save_directory: Path) -> None:
        assert isinstance(self, nn.Module)
        if not hasattr(self.settings, "build"):
            raise InputError(
                "this model was put together by hand and has no settings to be built from again: save its state_dict(),"
                " or build it from VAEBMSettings"
            )
        config = {"format": FORMAT, "data_shape": self.data_shape, **self.settings.model_dump(mode="json")}
        write_atomically(save_directory / CONFIG, (json.dumps(config, indent=2) + "\n").encode())
        # Copies: two parts may share weights, such as encoder and decoder of one module of somebody else's.
        weights = {name: value.contiguous().clone() for name, value in self.state_dict().items()}
        with drafted(save_directory / WEIGHTS) as draft:
            save_file(weights, draft)
        (save_directory / DETECTOR).unlink(missing_ok=True)  # of other weights
        if self.score_density is not None:
            self.score_density.save(save_directory)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        name: str | Path,
        *,
        device: str | torch.device = "cpu",
        parts: dict[str, nn.Module] | None = None,
        **download: Any,
    ) -> Self:
        """The model saved in a folder or a run, or under a name on the hub.

        Args:
            name: a folder, or a name on the hub.
            device: where the weights go.
            parts: modules by name that the folder cannot make, such as {"vae": a VAE trained elsewhere}; the model has
                copies of them, with the weights of the folder.
            **download: what `hf_hub_download` takes.

        Raises:
            InputError: there is no such folder, and the hub has no such name or cannot be reached; a file is damaged.
        """
        folder = user_path(name)
        if not folder.is_dir():
            try:
                files = [hf_hub_download(str(name), file, **download) for file in (CONFIG, WEIGHTS)]
            except (OSError, EntryNotFoundError, HFValidationError) as failure:
                raise InputError(
                    f"{name} is no folder, and could not be had from the Hugging Face hub ({type(failure).__name__}):"
                    " check the name and the connection"
                ) from None
            folder = Path(files[0]).parent
        model = load_model(folder, device, parts)
        if not isinstance(model, cls):
            raise InputError(f"{name} holds a {type(model).__name__}, not a {cls.__name__}: load it with vaebm.load")
        return model


def load_model(folder: Path, device: str | torch.device = "cpu", parts: dict[str, nn.Module] | None = None) -> Any:
    """The model saved in `folder`, or in the folder `model` in it, as a run has one.

    Raises:
        InputError: a file is missing or damaged, or the device does not exist.
    """
    if not (folder / CONFIG).is_file() and (folder / "model" / CONFIG).is_file():
        folder = folder / "model"
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            unfinished = (folder / "recipe.yaml").is_file()
            raise InputError(
                f"{folder} is a run without a model yet: finish it with `vaebm train {folder}`"
                if unfinished
                else f"{folder} is no saved model: {folder / name} is missing"
            )
    device = checked_device(device)
    (folder / WEIGHTS).open("rb").close()  # safetensors would take a missing permission for a missing file
    data_shape, settings = _read_config(folder / CONFIG)
    with torch.inference_mode(False):
        own = {name: copy.deepcopy(part) for name, part in (parts or {}).items()}  # the caller's keep their weights
        try:
            _check_shapes(folder / WEIGHTS, settings, data_shape, own)
            weights = load_file(folder / WEIGHTS, device=str(device))
            model = settings.build(data_shape, torch.Generator().manual_seed(0), **own)
        except SafetensorError as damage:
            raise InputError(f"{folder / WEIGHTS} is damaged or cut short ({damage}): save the model again") from None
        except (RuntimeError, MemoryError, TypeError, OverflowError) as failure:  # sizes beyond what there can be
            reason = (str(failure).splitlines() or [type(failure).__name__])[0]
            raise InputError(
                f"{folder / CONFIG} describes a model that cannot be built ({reason}): save the model again"
            ) from None
        model = model.to(device, next((value.dtype for value in weights.values() if value.is_floating_point()), None))
        try:
            model.load_state_dict(weights)
        except RuntimeError:
            raise InputError(
                f"{folder / WEIGHTS} does not fit {folder / CONFIG}: the two are of different models"
            ) from None
    model.score_density = ScoreDensity.load(folder)
    return model.eval()


def _check_shapes(path: Path, settings: Any, data_shape: tuple[int, ...], parts: dict[str, nn.Module]) -> None:
    """Refuses weights of other names or shapes than those of the model, which is built without any.

    Raises:
        InputError: they do not fit.
    """
    with safe_open(path, framework="pt") as file:
        there = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - the file is no mapping
        shapes = {name: tuple(part.get_shape()) for name, part in there.items()}
        dtypes = {str(part.get_dtype()) for part in there.values()}
    with torch.device("meta"):
        model = settings.build(data_shape, torch.Generator().manual_seed(0), **parts)
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if shapes != expected or not dtypes <= set(DTYPES):
        raise InputError(f"{path} does not fit {path.with_name(CONFIG)}: the two are of different models")


def checked_device(name: str | torch.device) -> torch.device:
    """A device that this machine has.

    Raises:
        InputError: it has no such device.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        has = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else None
        raise InputError(
            f"there is no device {str(name)!r} on this machine: use cpu{f' or {has}' if has else ''}"
        ) from None
    return device


def _read_config(path: Path) -> tuple[tuple[int, ...], Any]:
    """The data's shape, and the settings."""
    damaged = f"{path} is damaged"
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ValueError("too large")
        config = json.loads(path.read_text(encoding="utf-8"))
        version, kind = config.pop("format", 1), config.get("kind", "")
        data_shape = _shape(config.pop("data_shape"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as damage:  # no JSON, or no mapping
        raise InputError(f"{damaged} ({type(damage).__name__}): save the model again") from None
    if version != FORMAT:
        raise InputError(
            f"{path} is of format {version}, and this vaebm reads {FORMAT}: load it with the version that wrote it, or"
            " train again"
        )
    if not isinstance(kind, str) or kind not in MODELS:
        raise InputError(
            f"{path} is of a model {kind!r} that is not registered here: {did_you_mean(str(kind), MODELS)}"
        )
    try:
        return data_shape, MODELS[kind].model_validate(config)
    except ValueError as damage:
        raise InputError(f"{damaged} ({type(damage).__name__}): save the model again") from None


def _shape(given: Any) -> tuple[int, ...]:
    """(C, H, W), (dim,) or (1, width)."""
    if not (
        isinstance(given, list) and len(given) in (1, 2, 3) and all(type(n) is int and 0 < n < 2**31 for n in given)
    ):
        raise ValueError("data_shape")
    modality_of(given)
    if math.prod(given) > MAX_VALUES:
        raise ValueError("data_shape")
    return tuple(given)

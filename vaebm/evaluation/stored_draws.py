"""Stored draws: samples that were measured, kept so that the pictures of a report are those samples.

    FOLDER/SUBJECT.safetensors    a tensor for each show: images (n, C, H, W) uint8, points (n, dim) float32; energies;
                                  in the metadata, as JSON: model_sha256, shows, seed, samples measured, sampler, ...

Such a file is a *record*: tensors with what is known of them, valid for the weights that they were made with.

Of many samples a random choice is kept, the same rows for every subject drawn in that number, in a random order: any
first few are a fair choice. Row i of `reconstruction` is of row i of `held_out`.

Energies are what the energy adds to the base: E(x, z) less the term that the base carries, in nats; low = likely. Of
data z is the posterior mean. Where the mean over samples is that over data, the energy cannot tell the two apart.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from vaebm.data.modality import modality_of
from vaebm.data.transforms import to_model, to_uint8
from vaebm.files import write_atomically
from vaebm.models import CHAINS_AT_ONCE, Model, NoiseSpaceModel

T = TypeVar("T")


def save_record(path: Path, model_sha256: str, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Writes a file, and its folder where that is not there."""
    known = json.dumps({"model_sha256": model_sha256, **about}, sort_keys=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomically(path, safetensors.torch.save(content, {"about": known}))


def load_record(path: Path, model_sha256: str, read: Callable[[dict[str, Tensor], dict[str, Any]], T]) -> T | None:
    """What `read` makes of the tensors and of what is known of them.

    None where there is no such file, or it is of other weights or damaged, which `read` tells by a ValueError: a record
    may be a stranger's, and then is made anew.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["about"])
            if about["model_sha256"] != model_sha256:
                return None
            names = file.keys()
            return read({name: file.get_tensor(name) for name in names}, about)
    except (OSError, safetensors.SafetensorError, TypeError, KeyError, ValueError):
        return None


def require(holds: bool, what: str) -> None:
    """Of a record.

    Raises:
        ValueError: it does not hold.
    """
    if not holds:
        raise ValueError(f"the record is damaged: {what}")


def require_packed(x: Tensor, data_shape: Sequence[int]) -> None:
    """Data (n, *data_shape) as `packed` gives them.

    Raises:
        ValueError: they are not.
    """
    kind = torch.uint8 if modality_of(data_shape).pictured else torch.float32
    require(x.dtype == kind and x.ndim > 1 and tuple(x.shape[1:]) == tuple(data_shape), "shape or type of data")


def packed(x: Tensor) -> Tensor:
    """Data (n, *data_shape) in the model's range as files hold them: images uint8, all else float32."""
    return to_uint8(x) if modality_of(x.shape[1:]).pictured else x.float()


def unpacked(x: Tensor) -> Tensor:
    """The same in the model's range again."""
    return to_model(x) if not x.is_floating_point() else x


MAX_POINTS, MAX_IMAGES, MIN_IMAGES = 10_000, 2_000, 64
MAX_VALUES = 1 << 24  # of all images of a subject and show, 16 MB
ALL_SHOWS = "data"  # the name of what looks the same however samples are shown: held-out data
ENERGIES = "energies"
CHOICE_SEED = 0


def stored_rows(count: int, data_shape: Sequence[int]) -> Tensor:
    """Which of `count` samples are kept, indices (k,) in the order of keeping."""
    most = MAX_POINTS
    if modality_of(data_shape).pictured:
        most = min(MAX_IMAGES, max(MIN_IMAGES, MAX_VALUES // math.prod(data_shape)))
    return torch.randperm(count, generator=torch.Generator().manual_seed(CHOICE_SEED))[:most]


class StoredDraws:
    """The draws of one run by a model of this hash; what is damaged, or of another model, counts as not there."""

    def __init__(self, folder: Path, data_shape: Sequence[int], model_sha256: str) -> None:
        self.folder, self.data_shape, self.model_sha256 = folder, tuple(data_shape), model_sha256

    def save(self, subject: str, shown: Mapping[Any, Tensor], energies: Tensor | None = None, **about: Any) -> None:
        """Keeps rows (k, *data_shape) in the model's range, by show (None for held-out data), in place of others.

        Shows that are kept already stay where they are of the same draw, which `about` tells: whatever the draw depends
        on, as JSON can say it. Energies (k,) are less what the base carries (evaluation/stored_draws.py).
        """
        known = json.loads(json.dumps({"model_sha256": self.model_sha256, **about}))
        tensors, old = self._read(subject)
        tensors = tensors if old == known else {}
        tensors |= {show or ALL_SHOWS: packed(x) for show, x in shown.items()}
        if energies is not None:
            tensors[ENERGIES] = energies
        save_record(self._path(subject), self.model_sha256, tensors, about)

    def load(self, subject: str, show: str | None = None, n: int | None = None) -> Tensor | None:
        """The first n rows, or as many as there are, (k, *data_shape) in the model's range; None without any."""
        tensors = self._read(subject)[0]
        found = tensors.get(show or ALL_SHOWS, tensors.get(ALL_SHOWS))
        return None if found is None else unpacked(found[:n])

    def energies(self, subject: str) -> Tensor | None:
        """(k,) of the rows, in nats; None where there is no energy beyond the base."""
        return self._read(subject)[0].get(ENERGIES)

    def about(self, subject: str) -> dict[str, Any]:
        """What `save` was told of the draw: its seed, sampler, ...; empty where there is none."""
        return self._read(subject)[1]

    def subjects(self) -> list[str]:
        names = sorted(path.stem for path in self.folder.glob("*.safetensors"))
        return [name for name in names if self.about(name)]

    def _path(self, subject: str) -> Path:
        return self.folder / f"{subject}.safetensors"

    def _read(self, subject: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return load_record(self._path(subject), self.model_sha256, self._whole) or ({}, {})

    def _whole(self, tensors: dict[str, Tensor], about: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The same, when it is as `save` writes it."""
        shown = {name: x for name, x in tensors.items() if name != ENERGIES}
        rows = {len(x) for x in shown.values()}
        require(len(rows) == 1 and rows != {0}, "rows")
        for x in shown.values():
            require_packed(x, self.data_shape)
        if (energies := tensors.get(ENERGIES)) is not None:
            require(energies.dtype == torch.float32 and {tuple(energies.shape)} == {(n,) for n in rows}, "energies")
        return tensors, about


def energies_of_draws(model: Model, eps: Tensor) -> Tensor | None:
    """Of noise (n, dim), (n,) on the CPU; None where there is no energy beyond the base."""
    if not isinstance(model, NoiseSpaceModel) or not model.corrects:
        return None
    return -model.log_weights(eps).float().cpu()


@torch.no_grad()
def energies_of_data(model: Model, x: Tensor, seed: int) -> Tensor | None:
    """Of data (n, *data_shape) in the model's range, (n,) on the CPU; with the noise that the model adds to data."""
    if not isinstance(model, NoiseSpaceModel) or not model.corrects:
        return None
    generator = torch.Generator(model.device).manual_seed(seed)
    energies = []
    with model.frozen(), model.autocast():
        for part in x.split(CHAINS_AT_ONCE):
            noisy = model.add_noise(part.to(model.device), generator)
            z = model.vae.encode(noisy) if model.energy_net.correction.reads_z else None
            energies.append(model.energy_over_base(noisy, z).float().cpu())
    return torch.cat(energies)

"""Stored draws: samples that were measured, kept so that the pictures of a report are those samples.

    FOLDER/SUBJECT.safetensors    a tensor for each show: images (n, C, H, W) uint8, points (n, dim) float32; energies;
                                  in the metadata, as JSON: model_sha256, shows, seed, samples measured, sampler, ...

Of many samples a random choice is kept, the same rows for every subject drawn in that number, in a random order: any
first few are a fair choice. Row i of `reconstruction` is of row i of `held_out`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaebm.evaluation.records import load_record, packed, save_record, unpacked

MAX_POINTS, MAX_IMAGES, MIN_IMAGES = 10_000, 2_000, 64
MAX_VALUES = 1 << 24  # of all images of a subject and show, 16 MB
ALL_SHOWS = "data"  # the name of what looks the same however samples are shown: held-out data
ENERGIES = "energies"
CHOICE_SEED = 0


def stored_rows(count: int, data_shape: Sequence[int]) -> Tensor:
    """Which of `count` samples are kept, indices (k,) in the order of keeping."""
    most = MAX_POINTS
    if len(data_shape) > 1:
        most = min(MAX_IMAGES, max(MIN_IMAGES, MAX_VALUES // math.prod(data_shape)))
    return torch.randperm(count, generator=torch.Generator().manual_seed(CHOICE_SEED))[:most]


class StoredDraws:
    """The draws of one run; what is damaged, or of another model, counts as not there.

    Args:
        folder: there, or made by the first `save`.
        model_sha256: of the weights that the draws have to be of.
    """

    def __init__(self, folder: Path, model_sha256: str) -> None:
        self.folder, self.model_sha256 = folder, model_sha256

    def save(self, subject: str, shown: Mapping[Any, Tensor], energies: Tensor | None = None, **about: Any) -> None:
        """Keeps rows (k, *data_shape) in the model's range, by show (None for held-out data), in place of others.

        Shows that are kept already stay where they are of the same draw, which `about` tells.

        Args:
            subject: whose.
            shown: by show.
            energies: of the rows, (k,), less what the base carries (evaluation/energies.py).
            **about: what the draw depends on; anything that JSON can say.
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
        """Of whom there are draws."""
        names = sorted(path.stem for path in self.folder.glob("*.safetensors"))
        return [name for name in names if self.about(name)]

    def _path(self, subject: str) -> Path:
        return self.folder / f"{subject}.safetensors"

    def _read(self, subject: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return load_record(self._path(subject), self.model_sha256) or ({}, {})

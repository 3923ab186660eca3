"""Unfinished: batches of chains that have ended, kept beside the file that they are for.

    .NAME.unfinished/00000.safetensors    noise `eps` (rows, dim) of a batch, and the generator's state after it

A sampling that was stopped goes on from here, with the same samples as one that never was. Batches of another request
(model, settings, number, seed, device, version) are thrown away.
"""

import hashlib
import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from vaebm.experiment.run_directory import Run
from vaebm.files import sha256, write_atomically
from vaebm.models import Model


class Unfinished:
    """Batches on their way into `out`.

    Args:
        out: the file or folder that they are for.
        request: what they depend on; anything that JSON can say.
    """

    def __init__(self, out: Path, request: dict[str, Any]) -> None:
        self.folder = out.with_name(f".{out.name}.unfinished")
        self.request = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()

    def load(self, generator: torch.Generator) -> list[Tensor]:
        """Batches that are done, in order; the generator is put where they left it."""
        batches: list[Tensor] = []
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                with safe_open(path, framework="pt") as file:
                    if file.metadata() != {"request": self.request}:
                        break
                    batches.append(file.get_tensor("eps").to(generator.device))
                    state = file.get_tensor("generator")
            except (OSError, SafetensorError):
                break
        if batches:
            generator.set_state(state)
        else:
            self.discard()
        return batches

    def keep(self, index: int, eps: Tensor, generator: torch.Generator) -> None:
        """Another batch, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {"eps": eps.cpu().contiguous(), "generator": generator.get_state()}
        write_atomically(self.folder / f"{index:05d}.safetensors", save(tensors, {"request": self.request}))

    def discard(self) -> None:
        """All of them: they are in `out` now, or of no use."""
        shutil.rmtree(self.folder, ignore_errors=True)


def request_of(run: Run, model: Model, n: int, seed: int) -> dict[str, Any]:
    """What the noise of n samples depends on."""
    return {
        "version": version("vaebm"),
        "model_sha256": sha256(run.path / "model" / "model.safetensors"),
        "settings": model.settings.model_dump(mode="json"),
        "device": model.device.type,
        "n": n,
        "seed": seed,
    }

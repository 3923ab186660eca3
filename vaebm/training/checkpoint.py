"""Checkpoints: everything that a resumed run needs to equal the uninterrupted one bit for bit.

A checkpoint is a folder `checkpoints/<iteration>`, with one `state-<rank>.safetensors` (every tensor) and one
`state-<rank>.json` (everything else, and the sha256 of both) per process. It is written under another name, synced to
disk and renamed, so a folder of the right name is complete; what a killed process left half-written is swept away by
the next one. Nothing is pickled.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vaebm.errors import InputError
from vaebm.files import drafted, sha256, write_atomically
from vaebm.training.engine import Engine

Tree = dict[str, Any]  # nested dicts (keys: str or int) and lists of tensors and JSON values
DAMAGE = (OSError, LookupError, TypeError, AttributeError, ValueError, SafetensorError)  # what broken files raise


def _pack(tree: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(tree, Tensor):
        unique = f"{len(tensors)}.{name}"  # keys hold dots themselves, so two paths can read the same
        tensors[unique] = tree.detach().cpu().contiguous().clone()
        return {"tensor": unique}
    if isinstance(tree, dict):
        packed = {key: _pack(value, f"{name}.{key}", tensors) for key, value in tree.items()}
        return packed if all(isinstance(key, str) for key in packed) else {"pairs": [*packed.items()]}
    if isinstance(tree, list | tuple):
        return [_pack(value, f"{name}.{i}", tensors) for i, value in enumerate(tree)]
    return tree


def _unpack(tree: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(tree, dict):
        if tree.keys() == {"tensor"}:
            return tensors[tree["tensor"]]
        if tree.keys() == {"pairs"}:
            return {key: _unpack(value, tensors) for key, value in tree["pairs"]}
        return {key: _unpack(value, tensors) for key, value in tree.items()}
    return [_unpack(value, tensors) for value in tree] if isinstance(tree, list) else tree


def _digest(manifest: Tree) -> str:
    return hashlib.sha256(json.dumps(manifest).encode()).hexdigest()


def _read_manifest(path: Path) -> Tree:
    manifest: Tree = json.loads(path.read_text(encoding="utf-8"))
    if manifest.pop("sha256") != _digest(manifest):
        raise ValueError("sha256")
    return manifest


class Checkpoints:
    """The checkpoints of one run in `RUN/checkpoints`, of which the newest `keep` stay."""

    def __init__(self, folder: Path, keep: int, engine: Engine) -> None:
        self.folder, self.keep, self._engine = folder, keep, engine

    def names(self) -> list[str]:
        """Complete checkpoints, oldest first."""
        return sorted(path.name for path in self.folder.glob("[0-9]*") if path.is_dir())

    def save(self, iteration: int, state: Tree) -> None:
        """Writes the checkpoint of an iteration and drops the oldest beyond `keep`."""
        draft, final = self.folder / f".draft-{iteration:08d}", self.folder / f"{iteration:08d}"
        draft.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, Tensor] = {}
        rest = _pack(state, "state", tensors)
        weights = draft / f"state-{self._engine.rank}.safetensors"
        with drafted(weights) as unnamed:
            save_file(tensors, unnamed)
        manifest = {"tensors": sha256(weights), "processes": self._engine.world_size, "state": rest}
        write_atomically(weights.with_suffix(".json"), json.dumps({"sha256": _digest(manifest), **manifest}).encode())
        self._engine.wait()
        if self._engine.is_main:
            if final.exists():  # set aside and not emptied: a killed process must not leave a part of it
                final.rename(self._aside(final.name))
            draft.rename(final)
            for name in self.names()[: -self.keep]:
                (self.folder / name).rename(self._aside(name))
        self.sweep()

    def _aside(self, name: str) -> Path:
        return self.folder / f".draft-dropped-{name}"

    def sweep(self) -> None:
        """Removes what a killed process left half-written."""
        if self._engine.is_main:
            for draft in self.folder.glob(".draft-*"):
                shutil.rmtree(draft)
        self._engine.wait()

    def load_newest(self) -> Tree | None:
        """The newest checkpoint's state, or None where there is none.

        Raises:
            InputError: it is damaged, or of another number of processes; the message names the newest that is whole.
        """
        names = self.names()
        if not names:
            return None
        try:
            return self._load(names[-1])
        except DAMAGE as damage:
            if isinstance(damage, InputError):
                raise
            whole = next((name for name in reversed(names[:-1]) if self._is_whole(name)), None)
            remedy = (
                f"{self.folder / whole} is whole: delete {names[-1]} and run the same command again to go on from there"
                if whole
                else "no older one is whole: delete the checkpoints folder and run the same command again to start over"
            )
            raise InputError(f"checkpoint {self.folder / names[-1]} is damaged; {remedy}") from None

    def _load(self, name: str) -> Tree:
        weights = self.folder / name / f"state-{self._engine.rank}.safetensors"
        processes = len(list(weights.parent.glob("state-*.json")))
        manifest = _read_manifest(weights.parent / "state-0.json")
        if manifest["processes"] != self._engine.world_size and processes == manifest["processes"]:
            raise InputError(
                f"checkpoint {weights.parent} was written by {manifest['processes']} processes, this is "
                f"{self._engine.world_size}: resume with the same number"
            )
        manifest = _read_manifest(weights.with_suffix(".json"))
        if sha256(weights) != manifest["tensors"]:
            raise ValueError("sha256")
        state: Tree = _unpack(manifest["state"], load_file(weights))
        return state

    def _is_whole(self, name: str) -> bool:
        try:
            self._load(name)
        except DAMAGE:
            return False
        return True


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: Tree) -> None:
    """Loads what the optimizer's `state_dict()` gave, with moments laid out in memory as the weights are."""
    optimizer.load_state_dict(state)
    for weight, moments in optimizer.state.items():  # fused steps rely on the layout
        for name, value in moments.items():
            if isinstance(value, Tensor) and value.shape == weight.shape:
                moments[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)

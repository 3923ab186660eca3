"""Checkpoints: everything that a resumed run needs to equal the uninterrupted one bit for bit.

A checkpoint is a folder `checkpoints/<iteration>`, with one `state-<rank>.safetensors` (every tensor) and one
`state-<rank>.json` (everything else, and the sha256 of both) per process. It is written under another name, synced to
disk, read back and renamed, so a folder of the right name is complete; what a killed process left half-written is
swept away by the next one. The newest few stay, and those that an alarm can return to. One that has been damaged since,
or holds what another one held, is set aside as `damaged-<iteration>`, and the newest that is whole serves in its place.
Nothing is pickled.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from vaebm.errors import InputError
from vaebm.files import sha256, write_atomically
from vaebm.training.engine import Engine

FORMAT = 3  # of a checkpoint: which keys a state has; higher whenever an older state could not be gone on from
Tree = dict[str, Any]  # nested dicts (keys: str or int) and lists of tensors and JSON values
NOISE = "generator"  # the key of a state's generator, of which no two processes may have the same
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


def _write_and_read_back(path: Path, content: bytes) -> None:
    """Writes a file, and reads it from the disk, not from what the system keeps of it in memory.

    Raises:
        OSError: the disk gives back something else.
    """
    write_atomically(path, content)
    with path.open("rb") as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if hashlib.file_digest(file, "sha256").digest() != hashlib.sha256(content).digest():
            raise OSError(errno.EIO, "the disk gives back something else than was written: check it", str(path))


def _name(iteration: int) -> str:
    return f"{iteration:08d}"


class Checkpoints:
    """The checkpoints of one run in `RUN/checkpoints`, of which the newest `keep` stay.

    Another number of processes can go on from them: what one process more takes is a copy of the part of another, all
    but its noise.
    """

    def __init__(self, folder: Path, keep: int, engine: Engine) -> None:
        self.folder, self.keep, self._engine = folder, keep, engine
        self.damaged: list[str] = []  # names of those that the last loading passed over

    def names(self) -> list[str]:
        """Complete checkpoints, oldest first."""
        return sorted(path.name for path in self.folder.glob("[0-9]*") if path.is_dir())

    def save(self, iteration: int, state: Tree, kept: Sequence[int] = ()) -> None:
        """Writes the checkpoint of an iteration and drops the oldest beyond `keep`, except those of `kept`."""
        draft, final = self.folder / f".draft-{_name(iteration)}", self.folder / _name(iteration)
        draft.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, Tensor] = {}
        rest = _pack(state, "state", tensors)
        weights = draft / f"state-{self._engine.rank}.safetensors"
        content = save(tensors)
        about = {"format": FORMAT, "iteration": iteration, "processes": self._engine.world_size}
        manifest = {"tensors": hashlib.sha256(content).hexdigest(), **about, "state": rest}
        _write_and_read_back(weights, content)
        text = json.dumps({"sha256": _digest(manifest), **manifest})
        _write_and_read_back(weights.with_suffix(".json"), text.encode())
        self._engine.wait()
        if self._engine.is_main:
            if final.exists():  # set aside and not emptied: a killed process must not leave a part of it
                final.rename(self._aside(final.name))
            draft.rename(final)
            self._drop(name for name in self.names()[: -self.keep] if name not in map(_name, kept))
        self.sweep()

    def drop_after(self, iteration: int) -> None:
        """Drops the checkpoints of later iterations, the newest first: a killed process leaves none but the older."""
        if self._engine.is_main:
            self._drop(name for name in reversed(self.names()) if name > _name(iteration))
        self.sweep()

    def _drop(self, names: Iterable[str]) -> None:
        for name in names:
            (self.folder / name).rename(self._aside(name))

    def _aside(self, name: str) -> Path:
        return self.folder / f".draft-dropped-{name}"

    def sweep(self) -> None:
        """Removes what a killed process left half-written."""
        if self._engine.is_main:
            for draft in self.folder.glob(".draft-*"):
                shutil.rmtree(draft)
        self._engine.wait()

    def load_newest(self) -> Tree | None:
        """The state of the newest checkpoint that is whole, or None where there is none; damaged ones are set aside.

        Raises:
            InputError: none of them is whole, or it is of another number of processes.
        """
        self.damaged = []
        for name in reversed(self.names()):
            state = self._load_whole(name)
            if not self._engine.any(state is None):
                self._set_damaged_aside()
                return state
            self.damaged.append(name)
        if self.damaged:
            raise InputError(
                f"{self.folder / self.damaged[0]} is damaged, and no older checkpoint is whole: delete the checkpoints"
                " folder and run the same command again to start over"
            )
        return None

    def load(self, iteration: int) -> Tree | None:
        """The state of the checkpoint of an iteration, or None where it is not whole in every process."""
        state = self._load_whole(_name(iteration))
        return None if self._engine.any(state is None) else state

    def _set_damaged_aside(self) -> None:
        if self._engine.is_main:
            for name in self.damaged:
                kept = self.folder / f"damaged-{name}"
                shutil.rmtree(kept, ignore_errors=True)
                (self.folder / name).rename(kept)
        self._engine.wait()

    def _load(self, name: str) -> Tree:
        rank, folder = self._engine.rank, self.folder / name
        first = _read_manifest(folder / "state-0.json")
        if (written := first.get("format", 1)) != FORMAT:
            raise InputError(
                f"checkpoint {folder} has format {written}, and this version of vaebm reads format {FORMAT}:"
                " finish the run with the version that began it, or train anew into another --out"
            )
        wrote = max(1, first["processes"])
        weights = folder / f"state-{rank % wrote}.safetensors"
        manifest = _read_manifest(weights.with_suffix(".json"))
        if sha256(weights) != manifest["tensors"] or manifest["iteration"] != int(name):
            raise ValueError("another checkpoint's")
        state: Tree = _unpack(manifest["state"], load_file(weights))
        if rank >= wrote:
            state.pop(NOISE, None)
        return state

    def _load_whole(self, name: str) -> Tree | None:
        """The state, or None of a damaged checkpoint."""
        try:
            return self._load(name)
        except (InputError, PermissionError):  # no damage
            raise
        except DAMAGE:
            return None


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: Tree) -> None:
    """Loads what the optimizer's `state_dict()` gave, with moments laid out in memory as the weights are."""
    optimizer.load_state_dict(state)
    for weight, moments in optimizer.state.items():  # fused steps rely on the layout
        for name, value in moments.items():
            if isinstance(value, Tensor) and value.shape == weight.shape:
                moments[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)

"""A run: the directory that training makes, and what is in it.

recipe.yaml           resolved, complete
metrics.jsonl         figures and events, a JSON object a line
checkpoints/          what a resume needs
model/                config.json, model.safetensors; detector.safetensors once samples have been scored
samples/              pictures, stored draws, and what else the page shows of the model
measurements.json     a list of measurements
report.html           the page about it
data.json             what the data were like: {"train": {"count": .., "shape": [..], "sha256": ..}, ...}
environment.json      what it was trained by: versions, hardware, threads and processes (environment.py)
.lock                 who works in it, while somebody does

A run may be a stranger's. Whatever is read is checked, and a link in it that leads out of it is refused, so nothing is
written outside.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from vaebm.data import DataSet
from vaebm.errors import InputError
from vaebm.experiment.catalogue import merge, override_tree, overrides_tree, yaml_text
from vaebm.experiment.recipe import Recipe, validate
from vaebm.files import locked, user_path, write_atomically
from vaebm.metrics.measurement import Measurement
from vaebm.models import Model, load_model
from vaebm.models.saved import CONFIG
from vaebm.models.score import ScoredModel

RECIPE, MEASUREMENTS, METRICS = "recipe.yaml", "measurements.json", "metrics.jsonl"
DATA, LOCK = "data.json", ".lock"
MAX_HELD_OUT = 5_000  # that scores are calibrated on
DRAFT = f".{RECIPE}.draft"  # what a process leaves that was killed while it made the run
ROOT = "data.root="
MAX_NUMBER = 2**53  # of iterations or seconds


class Run:
    """A run on disk. Reading is lazy; nothing is cached but the data.

    Args:
        path: its directory.
        recipe: what it was trained by.
        data: the data, where they have been read.
        parts: modules of the model that the recipe does not build, such as a VAE trained elsewhere.
    """

    def __init__(
        self, path: Path, recipe: Recipe, data: DataSet | None = None, parts: Mapping[str, nn.Module] | None = None
    ) -> None:
        self.path, self.recipe, self._data, self.parts = path, recipe, data, dict(parts or {})
        self._settings = recipe.data
        self._is_checked = False

    @classmethod
    def open(cls, path: "str | Path | Run", parts: Mapping[str, nn.Module] | None = None) -> "Run":
        """The run in a directory, or whose model is in it; a run that is open already is given back.

        Raises:
            InputError: there is none, or its recipe is damaged.
        """
        if isinstance(path, Run):
            return path
        path = user_path(path)
        if not path.is_dir():
            raise InputError(f"there is no run {path}: train one with `vaebm train digits --out {path}`")
        if (path / CONFIG).is_file() and not (path / RECIPE).is_file():
            if not (path.parent / RECIPE).is_file():
                raise InputError(f"{path} is a model without a run: load it with vaebm.load, or name a run")
            path = path.parent
        if not (path / RECIPE).is_file():
            raise InputError(f"{path} is no run, it has no {RECIPE}: name a directory that `vaebm train` made")
        _check_links(path)
        try:
            tree = yaml.safe_load(yaml_text(path / RECIPE))
        except (yaml.YAMLError, ValueError) as error:
            why = str(error) if type(error) is ValueError else ""
            raise InputError(
                f"{path / RECIPE} is no valid YAML{why}: restore it, or train again into another directory"
            ) from None
        if not isinstance(tree, dict):
            raise InputError(
                f"{path / RECIPE} is empty or cut short: restore it, or train again into another directory"
            )
        return cls(path, validate(tree, str(path / RECIPE)), parts=parts)

    @classmethod
    def create(
        cls,
        path: Path,
        recipe: Recipe,
        data: DataSet | None = None,
        parts: Mapping[str, nn.Module] | None = None,
        hold: ExitStack | None = None,
    ) -> "Run":
        """A new run, or the one of the same recipe that is there already.

        Args:
            path: its directory.
            recipe: what it is trained by.
            data: where they have been read.
            parts: as for a run.
            hold: takes the run's lock, where it is this process that writes it.

        Raises:
            InputError: the directory holds something else, or another process works in it.
        """
        if not (path / RECIPE).is_file():
            if path.exists() and (not path.is_dir() or any(file.name not in (DRAFT, LOCK) for file in path.iterdir())):
                raise InputError(f"{path} exists and is no run: choose another --out, or an empty directory")
            path.mkdir(parents=True, exist_ok=True)
        run = cls(path, recipe, data, parts)
        if hold is not None:
            hold.enter_context(run.locked())
        if (path / RECIPE).is_file():
            return cls(path, cls.recipe_at(path, recipe), data, parts)
        write_atomically(path / RECIPE, recipe.to_yaml().encode())
        return run

    @classmethod
    def recipe_at(cls, path: Path, recipe: Recipe, left_open: frozenset[str] = frozenset()) -> Recipe:
        """The recipe of the run that is there, which decides whatever `recipe` leaves open; else `recipe` itself.

        Keys called as in `left_open` may differ.

        Raises:
            InputError: that run has another recipe.
        """
        if not (path / RECIPE).is_file():
            return recipe
        run = cls.open(path)
        if difference := _first_difference(run.recipe.model_dump(), recipe.model_dump(exclude_unset=True), left_open):
            raise InputError(
                f"{path} holds a run of another recipe ({difference}): choose another --out, or resume it with"
                f" `vaebm train {path}`"
            )
        return run.recipe

    def locked(self) -> AbstractContextManager[None]:
        """Within, no other process writes this run. InputError: one does already."""
        return locked(self.path / LOCK, self.path)

    @property
    def is_complete(self) -> bool:
        """Whether training has ended and the model is there."""
        return (self.path / "model" / "model.safetensors").is_file()

    @property
    def diverged(self) -> str | None:
        """Why training was given up, in a sentence; None where it was not."""
        reasons = [event["message"] for event in self.events() if event["event"] == "diverged"]
        return reasons[-1] if reasons and self.is_complete else None

    def data(self) -> DataSet:
        """The data set of the recipe, read once.

        Raises:
            InputError: the data cannot be read, or are not those that the run was made with.
        """
        if self._data is None:
            self._data = self._settings.load()
        path = self.path / DATA
        if not self._is_checked and path.is_file() and (self.path / RECIPE).is_file():
            try:
                difference = _change(json.loads(path.read_text(encoding="utf-8")), self._data.fingerprint())
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
                raise InputError(f"{path} is damaged: delete it, if the data are as they were") from None
            if difference:
                raise InputError(
                    f"the data of {self.path} are not as they were ({difference}): put them back, say where they are by"
                    " data.root=FOLDER, or train anew into another --out"
                )
        self._is_checked = True
        return self._data

    @property
    def known_data(self) -> DataSet | None:
        """The data, where they have been read."""
        return self._data

    def note_data(self) -> None:
        """Writes what the data are like, once, so that others are noticed."""
        if not (self.path / DATA).is_file():
            write_atomically(self.path / DATA, json.dumps(self.data().fingerprint(), indent=1).encode())

    def held_out(self) -> Tensor:
        """Data that nothing was fitted to (n, *data_shape): validation data, or test data where there are none."""
        data = self.data()
        split = data.test if data.validation is None else data.validation
        return split.batch(torch.arange(min(len(split), MAX_HELD_OUT))).x

    def model(self, device: str | torch.device | None = None) -> Model:
        """The trained model.

        Raises:
            InputError: there is none yet, or it is damaged, or there is no such device.
        """
        if not self.is_complete:
            raise InputError(f"run {self.path} has no model yet: finish it with `vaebm train {self.path}`")
        try:
            model: Model = load_model(self.path / "model", device or "cpu", self.parts)
            if isinstance(model, ScoredModel):
                model.held_out = self.held_out
            return model
        except InputError as damage:
            if not str(damage).endswith("save the model again"):
                raise
            again = f"as `vaebm train {self.path}` does once {self.path / 'model'} is deleted"
            raise InputError(f"{damage}, {again}") from None

    def save_model(self, model: Model) -> None:
        """Writes `model/`, whole or not at all."""
        draft, final = self.path / ".model-draft", self.path / "model"
        shutil.rmtree(draft, ignore_errors=True)
        model.save_pretrained(draft)
        for file in draft.iterdir():
            with file.open("rb+") as written:
                os.fsync(written.fileno())
        shutil.rmtree(final, ignore_errors=True)
        draft.rename(final)

    def history(self) -> list[dict[str, Any]]:
        """Rows of figures, in order."""
        return [row for row in self._log() if "event" not in row]

    def events(self) -> list[dict[str, Any]]:
        """What happened, in order."""
        return [row for row in self._log() if "event" in row]

    def measurements(self) -> list[Measurement]:
        """What was measured so far.

        Raises:
            InputError: the file is damaged.
        """
        path = self.path / MEASUREMENTS
        if not path.exists():
            return []
        try:
            return [Measurement.from_json(record) for record in json.loads(path.read_text(encoding="utf-8"))]
        except (ValueError, TypeError, RecursionError):  # no JSON, no list of measurements, or numbers that are none
            raise InputError(f"{path} is damaged: delete it and run `vaebm evaluate {self.path}`") from None

    def save_measurements(self, measurements: Sequence[Measurement]) -> None:
        """Writes `measurements.json`."""
        text = json.dumps([measurement.to_json() for measurement in measurements], indent=1)
        write_atomically(self.path / MEASUREMENTS, text.encode())

    def with_overrides(self, overrides: Sequence[str]) -> Recipe:
        """This run's recipe with `key=value` overrides of what sampling and measuring may change.

        `data.root=...` says where the data lie now.

        Raises:
            InputError: an override of something that is fixed since training.
        """
        for override in overrides:
            changeable = {*self.recipe.model_settings().changeable, "evaluation"}
            if not override.startswith(ROOT) and not override_tree(override).keys() <= changeable:
                raise InputError(
                    f"{override!r} cannot change a trained run: override {', '.join(sorted(changeable))}, say where the"
                    " data are by data.root, or train anew"
                )
        tree = merge(self.recipe.model_dump(mode="json"), overrides_tree(overrides))
        recipe = validate(tree, f"{self.path / RECIPE} with overrides")
        if recipe.data != self._settings:
            self._settings, self._data, self._is_checked = recipe.data, None, False
        return recipe

    def _log(self) -> list[dict[str, Any]]:
        path = self.path / METRICS
        if not path.exists():
            return []
        rows = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                break  # the last line of a process that was killed while it wrote; a resume cuts it off
            if _is_written_by_training(row):
                rows.append(row)
        return rows


def load(path: str | Path, device: str | torch.device | None = None, **parts: nn.Module) -> Model:
    """The trained model of a run, or of the folder `model` in one.

    Raises:
        InputError: there is none, or it is damaged.
    """
    path = user_path(path)
    if (path / CONFIG).is_file():
        model: Model = load_model(path, device or "cpu", parts)
        return model
    return Run.open(path, parts).model(device)


def _is_written_by_training(row: Any) -> bool:
    """Whether a line of metrics.jsonl has what readers of it rely on."""
    if not isinstance(row, dict):
        return False
    texts = {"event", "stage", "message"} & row.keys()
    numbers = {"iteration", "iterations", "seconds"} & row.keys()
    if not all(isinstance(row[name], str) for name in texts):
        return False
    if not all(type(row[name]) in (int, float) and 0 <= row[name] < MAX_NUMBER for name in numbers):
        return False
    if "event" not in row:
        plain = not any(isinstance(value, dict | list) for value in row.values())
        return plain and {"stage", "iteration", "seconds"} <= row.keys()
    return ({"stage", "iterations"} if row["event"] == "stage" else {"message"}) <= row.keys()


def _check_links(run: Path) -> None:
    """Refuses links in a run that lead out of it: what is written there would be written elsewhere."""
    inside = run.resolve()
    for folder, folders, files in os.walk(run):
        for path in (Path(folder) / name for name in (*folders, *files)):
            if path.is_symlink() and not path.resolve().is_relative_to(inside):
                raise InputError(f"{path} is a link that leads out of the run: put what it names in its place")


def _change(then: dict[str, Any], now: dict[str, Any]) -> str | None:
    """What differs between two fingerprints of data, of whatever both know."""
    for part in dict.fromkeys([*then, *now]):
        if part not in then or part not in now:
            return f"the {part} split is {'gone' if part in then else 'new'}"
        for what in ("count", "shape", "sha256"):
            if what in then[part] and what in now[part] and then[part][what] != now[part][what]:
                return f"{what} of the {part} split was {then[part][what]}, and is {now[part][what]}"
    return None


def _first_difference(
    old: dict[str, Any], new: dict[str, Any], left_open: frozenset[str], prefix: str = ""
) -> str | None:
    """Where the values of `new` are not those of `old`; what it leaves open is no difference."""
    for key in (key for key in new if key not in (*left_open, "summary")):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            inner = _first_difference(a, b, left_open, f"{prefix}{key}.")
            if inner:
                return inner
        elif a != b and b != "auto":
            return f"{prefix}{key} is {a!r} there, {b!r} here"
    return None

"""Commands run inside the test's process, and stand-ins for the library below them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vaebm.cli import main
from vaebm.metrics.measurement import Measurement


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit status, standard output, standard error."""

    status: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    """`command("train", "digits")` runs `vaebm train digits`."""

    def run(*words: str) -> Outcome:
        status = main(words)
        out, err = capfd.readouterr()
        return Outcome(status, out, err)

    return run


class Library:
    """Stand-ins for the modules that the verbs import; `calls` records how each was called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, run: Path) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.failure: BaseException | None = None
        self.run = SimpleNamespace(path=run, with_overrides=self.answer("with_overrides", None))
        self.measurements = [
            Measurement("frechet_distance", 19.9, 0.8, 360, {"features": "classifier"}, "vaebm"),
            Measurement("frechet_distance", 12.2, 0.5, 360, {"features": "classifier"}, "held_out"),
        ]
        inspection = SimpleNamespace(sentences=["two", "lines"], numbers={"parameters": 12})
        recipes = [SimpleNamespace(name="digits", summary="8x8 digits"), SimpleNamespace(name="g", summary="2-D")]
        opened = SimpleNamespace(open=self.answer("open", self.run))
        for module, names in {
            "experiment.train": {
                "train": self.answer("train", self.run),
                "planned": self.answer("planned", "a recipe"),
            },
            "experiment.evaluate": {"evaluate": self.answer("evaluate", self.measurements)},
            "experiment.sample": {"write_samples": self.answer("write_samples", Path("x.png"))},
            "experiment.run_directory": {"Run": opened, "RECIPE": "recipe.yaml"},
            "experiment.recipe": {"load_recipe": self.answer("load_recipe", "a recipe")},
            "experiment.catalogue": {"list_recipes": self.answer("list_recipes", recipes)},
            "experiment.inspect": {
                "inspect_recipe": self.answer("inspect_recipe", inspection),
                "inspect_run": self.answer("inspect_run", inspection),
            },
            "report.page": {"write_report": self.answer("write_report", run / "report.html")},
            "report.tables": {"measurements_table": self.answer("measurements_table", "the table")},
        }.items():
            monkeypatch.setitem(sys.modules, f"vaebm.{module}", SimpleNamespace(**names))  # type: ignore[misc]

    def answer(self, name: str, value: object) -> Callable[..., object]:
        def call(*arguments: Any, **keywords: Any) -> object:
            self.calls.append((name, arguments, keywords))
            if self.failure is not None:
                raise self.failure
            return value

        return call

    def called(self) -> list[str]:
        return [name for name, _, _ in self.calls]

    def arguments(self, name: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        (call,) = [(arguments, keywords) for called, arguments, keywords in self.calls if called == name]
        return call


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Library:
    monkeypatch.chdir(tmp_path)
    return Library(monkeypatch, tmp_path / "run")

"""The metrics log: `RUN/metrics.jsonl`, one JSON object a line.

Figures: {"stage": ..., "iteration": ..., "seconds": ..., name: mean since the last line, ...}.
Events:  {"event": "stage", "stage": ..., "iterations": ...},
         {"event": "rollback" | "diverged" | "complete", "message": a sentence, ...}.

A checkpoint remembers how long the file was; a resumed run cuts it there, so no iteration is logged twice. Numbers that
are not finite are left out, since JSON cannot write them.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class MetricsLog:
    """Means of figures over `every` iterations, a line each; only the first process `writes`."""

    def __init__(self, path: Path, every: int, writes: bool) -> None:
        self.path, self.every, self._writes = path, every, writes
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """Means since the last call."""
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means

    def write(self, **row: Any) -> None:
        if self._writes:
            finite = {
                name: value for name, value in row.items() if not isinstance(value, float) or math.isfinite(value)
            }
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(finite) + "\n")

    def state_dict(self) -> dict[str, Any]:
        length = self.path.stat().st_size if self.path.exists() else 0
        return {"length": length, "sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From a checkpoint: cuts what was written after it."""
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])
        self._cut(state["length"])

    def begin(self) -> None:
        """Starts the file afresh: what is in it was written before there was any checkpoint."""
        self._sums, self._counts = {}, {}
        self._cut(0)

    def _cut(self, length: int) -> None:
        if self._writes and self.path.exists() and self.path.stat().st_size > length:
            with self.path.open("rb+") as file:
                file.truncate(length)

"""The record: what happened when, what was run, and on what this page was made."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass

import torch

import vaebm
from vaebm.experiment.run_directory import Run
from vaebm.models import NoiseSpaceModel
from vaebm.report.story.words import counted, duration


@dataclass(frozen=True)
class Record:
    """What stands at the end.

    Args:
        events: time from the start of training, and what happened.
        recipe: as YAML.
        surroundings: name and value.
    """

    events: Sequence[tuple[str, str]]
    recipe: str
    surroundings: Sequence[tuple[str, str]]


def record(run: Run, model: NoiseSpaceModel) -> Record:
    """What was run."""
    return Record(_events(run), run.recipe.to_yaml(), _surroundings(run, model))


def _events(run: Run) -> list[tuple[str, str]]:
    """Events in words. A stage begins where the one before it ended; an event that names its own time has that."""
    ends: dict[str, float] = {}
    for row in run.history():
        ends[str(row["stage"])] = float(row["seconds"])
    told, reached = [], 0.0
    for event in run.events():
        if event["event"] == "stage":
            words = f"stage {event['stage'].replace('_', ' ')} began, of {event['iterations']:,} iterations"
        else:
            words = f"{event['event'].replace('_', ' ')}: {event.get('message', '')}".removesuffix(": ")
        if event["event"] in ("complete", "diverged"):
            reached = max(reached, *ends.values(), 0.0)
        told.append((duration(float(event.get("seconds", reached))), words))
        reached = max(reached, ends.get(str(event.get("stage")), 0.0))
    return told


def _surroundings(run: Run, model: NoiseSpaceModel) -> list[tuple[str, str]]:
    cpus = f"{os.cpu_count()} CPUs" if os.cpu_count() else "CPU"
    device = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else platform.machine()
    return [
        ("run", str(run.path)),
        ("page made with", f"vaebm {vaebm.__version__}, torch {torch.__version__}, Python {platform.python_version()}"),
        ("page made on", f"{platform.system()}, {cpus}, {counted(torch.get_num_threads(), 'thread')}, {device}"),
    ]

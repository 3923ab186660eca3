"""Results as Markdown: medians over seeds, one row a measurement, one column a subject, the floor first.

    0.45 (0.43 to 0.47)     median, least and greatest of several seeds
    0.45 ± 0.03             one seed alone, and the standard error of its measurement

Records are those of results/NAME.json (`benchmarks/results.py`); the pages that quote them hold places for tables:

    <!-- results: NAME -->
    ...
    <!-- end -->
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vaebm.evaluation import all_quantities, is_shown
from vaebm.evaluation.quantity import NO_BREAK, written
from vaebm.metrics.measurement import Measurement
from vaebm.report.subjects import subject
from vaebm.report.tables import TableRow, columns, measurement_rows, protocols

Record = dict[str, Any]
Key = tuple[str, str, str | None, str | None]  # name, subject, features, show
ORDER = list(all_quantities())
PLACE = re.compile(r"(<!-- results: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def read_records(path: Path) -> list[Record]:
    """The measurements of a results file, each with recipe, seed, seconds, hardware, command and version."""
    records: list[Record] = json.loads(path.read_text())
    return records


def table(records: Sequence[Record]) -> str:
    """The table, and below it how its numbers came about."""
    seeds = sorted({record["seed"] for record in records})
    by_key: dict[Key, list[Measurement]] = {}
    measurements = [Measurement.from_json(record) for record in records]
    for measured in sorted(measurements, key=lambda m: ORDER.index(m.name) if m.name in ORDER else len(ORDER)):
        by_key.setdefault(_key(measured), []).append(measured)
    rows = measurement_rows([_median(found) for found in by_key.values()])
    keys = columns(rows)
    lines = [
        "| | " + " | ".join(subject(key).label for key in keys) + " |",
        "| --- |" + " --- |" * len(keys),
        *("| " + " | ".join([_heading(row), *(_cell(row, key, by_key) for key in keys)]) + " |" for row in rows),
        "",
        _origin(records, seeds),
        "",
        *(f"- {titles}: {protocol}." for titles, protocol in protocols(rows)),
    ]
    return "\n".join(lines) + "\n"


def fill(page: str, results: Path) -> str:
    """A page with the tables of `results` in their places; where there is no file, the command that makes it."""

    def filled(place: re.Match[str]) -> str:
        name = place[2]
        path = results / f"{name}.json"
        if path.exists():
            return f"{place[1]}\n{table(read_records(path))}\n{place[3]}"
        return f"{place[1]}\nNot measured yet: `python benchmarks/results.py {name}`.\n\n{place[3]}"

    return PLACE.sub(filled, page)


def _key(measured: Measurement) -> Key:
    show = measured.settings.get("show") if is_shown(measured.name) else None
    return measured.name, measured.subject, measured.settings.get("features"), show


def _median(found: Sequence[Measurement]) -> Measurement:
    """A measurement of several seeds as one; what differs between them is not in its settings."""
    first = found[0]
    settings = {key: value for key, value in first.settings.items() if _agree(found, key)}
    if not is_shown(first.name):
        settings.pop("show", None)
    settings.pop("seed", None)  # of the evaluation, the same for all: beside seeds of training it would mislead
    value, stderr = (statistics.median(numbers) for numbers in zip(*((m.value, m.stderr) for m in found), strict=True))
    return replace(first, value=value, stderr=stderr, settings=settings)


def _agree(found: Sequence[Measurement], key: str) -> bool:
    return all(m.settings.get(key) == found[0].settings[key] for m in found)


def _heading(row: TableRow) -> str:
    return f"{row.title}<br><small>{row.detail}</small>" if row.detail else row.title


def _cell(row: TableRow, key: str, by_key: dict[Key, list[Measurement]]) -> str:
    if key not in row.cells:
        return "–"
    value, stderr = row.cells[key]
    found = [m.value * row.measure.factor for m in by_key[_key(row.measurements[key])]]
    bold = "**" if key == row.best else ""
    if len(found) == 1:
        return f"{bold}{value}{bold}" + (f"{NO_BREAK}±{NO_BREAK}{stderr}" if stderr else "")
    digits = len(value.partition(".")[2])
    low, high = (written(round(end, digits) + 0.0, 0.0, digits)[0] for end in (min(found), max(found)))  # no -0.00
    return f"{bold}{value}{bold}" + (f" ({low} to {high})" if low != high else "")


def _origin(records: Sequence[Record], seeds: Sequence[int]) -> str:
    """Seeds, wall time, hardware and command in a sentence."""
    seconds = sorted({float(record["seconds"]) for record in records})
    time = f"{seconds[0]:,.0f} to {seconds[-1]:,.0f} s" if len(seconds) > 1 else f"{seconds[0]:,.0f} s"
    commands = list(dict.fromkeys(re.sub(r"\bseed=\d+", "seed=SEED", record["command"]) for record in records))
    hardware, versions = (
        list(dict.fromkeys(str(record[key]) for record in records)) for key in ("hardware", "version")
    )
    numbers = ", ".join(map(str, seeds))
    many = (
        f"Median of {len(seeds)} seeds ({numbers}), least and greatest" if len(seeds) > 1 else f"One seed ({numbers})"
    )
    return (
        f"{many}. Training took {time} on {'; '.join(hardware)}, with `{'`, `'.join(commands)}`,"
        f" version {', '.join(versions)}."
    )

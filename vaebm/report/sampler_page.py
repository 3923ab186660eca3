"""The page of a comparison of samplers: one HTML file that opens offline.

Advice stands first, then the table, the sections (report/sampler_sections.py), and how each sampler was run.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vaebm.comparison.folder import Comparison
from vaebm.experiment.run_directory import Run
from vaebm.metrics.measurement import Measurement
from vaebm.report.facts import title_of
from vaebm.report.html import write_page
from vaebm.report.sampler_sections import chains_section, drawn_section, log_z_section, quality_section
from vaebm.report.sampler_table import NUMBERS, Column, advised, colour, columns_of, command, numbers
from vaebm.report.subjects import subject
from vaebm.wording import counted

PAGE = "samplers.html"


def write_samplers_page(run: Run, comparison: Comparison) -> Path:
    """Writes `samplers.html` into the comparison's folder and returns its path."""
    rows = comparison.rows
    chosen = advised(rows)
    first, *rest = [""] if chosen is None else re.split(r"(?<=\.) (?=[A-Z])", chosen["advice"])
    shown = columns_of(rows)
    sections = [
        quality_section(comparison),
        chains_section(comparison),
        log_z_section(comparison),
        drawn_section(run.data(), comparison),
    ]
    return write_page(
        comparison.folder / PAGE,
        "samplers",
        title=title_of(run),
        summary=_summary(run, comparison),
        first=first,
        rest=rest,
        command="" if chosen is None else command(chosen, str(run.path)),
        sections=[section for section in sections if section is not None],
        columns=[f"{column.title} {column.better}" for column in shown] + list(NUMBERS),
        above=_references(comparison, shown),
        rows=[_row(row, shown, row is chosen) for row in rows],
        notes=_notes(comparison),
        settings=[(row["label"], _settings(row), command(row, str(run.path))) for row in rows],
        protocol=comparison.protocol,
    )


def _summary(run: Run, comparison: Comparison) -> str:
    budget, n = comparison.protocol["gradients"], comparison.protocol["n"]
    return (
        f"{counted(len(comparison.rows), 'sampler')} drew {n:,} samples each from the model of {run.path}, with"
        f" {budget:,} gradient evaluations a sample, including what learns their numbers"
    )


def _row(row: dict[str, Any], shown: Sequence[Column], chosen: bool) -> dict[str, Any]:
    cells = [column.cell(row) for column in shown] + [(number, "") for number in numbers(row)]
    return {"name": row["label"], "colour": colour(row["sampler"]), "chosen": chosen, "cells": cells}


def _references(comparison: Comparison, shown: Sequence[Column]) -> list[dict[str, Any]]:
    """The rows above the samplers: where chains begin, and what is to be reached."""
    named = {"start: without E(x)": comparison.start}
    for key, found in comparison.references.items():
        named["the model, by quadrature" if key == "vaebm" else subject(key).label] = found
    return [{"name": name, "cells": _cells(found, shown)} for name, found in named.items()]


def _cells(found: Sequence[Measurement], shown: Sequence[Column]) -> list[tuple[str, str]]:
    row = {"quality": {m.name: m.value for m in found}, "quality_stderr": {m.name: m.stderr for m in found}}
    cells = [column.cell(row) if column.name in row["quality"] else ("–", "") for column in shown]
    return cells + [("", "")] * len(NUMBERS)


def _settings(row: dict[str, Any]) -> str:
    said = []
    for name, value in row["settings"].items():
        if name in ("protocol", "overrides") or value in (0, None):
            continue
        numbers_said = [_plain(part) for part in value] if isinstance(value, list) else [_plain(value)]
        said.append(f"{name.replace('_', ' ')} {', '.join(numbers_said)}")
    return "; ".join([*said, f"{row['seconds']:.1f} s for {row['n']:,} samples"])


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _notes(comparison: Comparison) -> list[str]:
    notes = [
        "± is one standard error over the draw of the samples; chains share their start.",
        "ESS is the number of effective samples of the slowest quantity.",
        (
            "R-hat is over single chains from both starts; that of the starts compares all chains from the model"
            " without E(x) with all chains from data."
        ),
    ]
    if comparison.mode_probabilities is not None:
        of = "the model's, by quadrature" if comparison.mode_probabilities.of == "model" else "those of the data"
        notes.append(
            "p is of a chi-square test of how many samples are nearest to each mode, against the probabilities of the"
            f" modes: {of}."
        )
    if comparison.key == "frechet_distance" and _indistinct(comparison):
        notes.append("The Fréchet distances of so few images do not tell these samplers apart; mean energies can.")
    return notes


def _indistinct(comparison: Comparison) -> bool:
    """Whether no two distances differ by more than two standard errors."""
    key = comparison.key
    ends = sorted((row["quality"][key], row["quality_stderr"][key]) for row in comparison.rows)
    (low, s), (high, t) = ends[0], ends[-1]
    return bool(high - low <= 2 * math.hypot(s, t))

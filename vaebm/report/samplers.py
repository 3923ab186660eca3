"""The page of a comparison of samplers: one HTML file that opens offline.

Advice first, then the table, the chapters (see `sampler_chapters`), and how each was run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from vaebm.comparison.folder import Comparison
from vaebm.experiment.run_directory import Run
from vaebm.files import write_atomically
from vaebm.metrics.measurement import Measurement
from vaebm.report.sampler_chapters import chains_chapter, drawn_chapter, log_z_chapter, quality_chapter
from vaebm.report.sampler_rows import NUMBERS, Quantity, advised, colour, command, label, numbers, quantities
from vaebm.report.subjects import subject

TEMPLATES = Path(__file__).parent / "templates"
PAGE = "samplers.html"


def write_samplers_page(run: Run, comparison: Comparison) -> Path:
    """Writes `samplers.html` into the comparison's folder and returns its path."""
    rows = comparison.rows
    chosen = advised(rows)
    first, *rest = [""] if chosen is None else re.split(r"(?<=\.) (?=[A-Z])", chosen["advice"])
    shown = quantities(rows)
    chapters = [
        quality_chapter(comparison),
        chains_chapter(comparison),
        log_z_chapter(comparison),
        drawn_chapter(run.data(), comparison),
    ]
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("samplers.html.jinja").render(
        style=Markup((TEMPLATES / "page.css").read_text()),
        title=run.recipe.name or run.path.name,
        summary=_summary(run, comparison),
        first=first,
        rest=rest,
        command="" if chosen is None else command(chosen, str(run.path)),
        chapters=[chapter for chapter in chapters if chapter is not None],
        columns=[f"{quantity.title} {quantity.better}" for quantity in shown] + list(NUMBERS),
        above=_references(comparison, shown),
        rows=[_row(row, shown, row is chosen) for row in rows],
        notes=_notes(comparison),
        settings=[(label(row["sampler"]), _settings(row), command(row, str(run.path))) for row in rows],
        protocol=comparison.protocol,
    )
    path = comparison.folder / PAGE
    write_atomically(path, page.encode())
    return path


def _summary(run: Run, comparison: Comparison) -> str:
    budget, n = comparison.protocol["gradients"], comparison.protocol["n"]
    return (
        f"{len(comparison.rows)} samplers on the model of {run.path}, each with {budget:,} gradient"
        " evaluations a sample,"
        f" what learns its numbers included; {n:,} samples of each"
    )


def _row(row: dict[str, Any], shown: Sequence[Quantity], chosen: bool) -> dict[str, Any]:
    cells = [quantity.cell(row) for quantity in shown] + [(number, "") for number in numbers(row)]
    return {"name": label(row["sampler"]), "colour": colour(row["sampler"]), "chosen": chosen, "cells": cells}


def _references(comparison: Comparison, shown: Sequence[Quantity]) -> list[dict[str, Any]]:
    """The rows above the samplers: where chains begin, and what is to be reached."""
    named = {"start: without E(x)": comparison.start}
    for key, found in comparison.references.items():
        named["the model, by quadrature" if key == "vaebm" else subject(key).label] = found
    return [{"name": name, "cells": _cells(found, shown)} for name, found in named.items()]


def _cells(found: Sequence[Measurement], shown: Sequence[Quantity]) -> list[tuple[str, str]]:
    row = {"quality": {m.name: m.value for m in found}, "quality_stderr": {m.name: m.stderr for m in found}}
    cells = [quantity.cell(row) if quantity.name in row["quality"] else ("–", "") for quantity in shown]
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
    effective = (
        "ESS: effective samples, of the slowest quantity. R-hat: over single chains from both"
        " starts. R-hat of the starts:"
        " between the chains from the model without E(x) and those from data, each taken together."
    )
    notes = ["± one standard error over the draw of the samples; chains share their start.", effective]
    if comparison.mode_probabilities is not None:
        of = "the model's, by quadrature" if comparison.mode_probabilities.of == "model" else "those of the data"
        notes.append(f"p: of a chi-square test of the samples nearest to each mode; the probabilities are {of}.")
    if comparison.key == "frechet_distance" and _indistinct(comparison):
        notes.append("The Fréchet distances of so few images do not tell these samplers apart; mean energies can.")
    return notes


def _indistinct(comparison: Comparison) -> bool:
    """Whether no two distances differ by more than two standard errors."""
    key = comparison.key
    ends = sorted((row["quality"][key], row["quality_stderr"][key]) for row in comparison.rows)
    (low, s), (high, t) = ends[0], ends[-1]
    return bool(high - low <= 2 * math.hypot(s, t))

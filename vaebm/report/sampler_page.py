"""The page of a comparison of samplers: one HTML file that opens offline.

Advice stands first, then the table, the sections (quality against gradients, what chains forget, log Z, what each
drew), and how each sampler was run.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaebm.comparison.folder import Comparison
from vaebm.data import DataSet
from vaebm.evaluation.density_maps import extent_of
from vaebm.evaluation.quantity import written
from vaebm.evaluation.stored_draws import unpacked
from vaebm.experiment.run_directory import Run
from vaebm.metrics.measurement import Measurement
from vaebm.report.facts import title_of
from vaebm.report.figures import plane, sheet
from vaebm.report.figures.curves import SpentCurve, small_multiples
from vaebm.report.figures.dots import Dot, dots
from vaebm.report.sampler_table import NUMBERS, Column, advised, axis_title, colour, columns_of, command, numbers, short
from vaebm.report.section import Figure, Row, Section, write_page
from vaebm.report.subjects import subject
from vaebm.wording import counted

PAGE = "samplers.html"
POINTS_SHOWN = 3000
CURVES = {
    "model_kl": "The divergence compares the shares of the samples within three standard deviations of each mode, and"
    " elsewhere, with the mode probabilities of the model. The dashed line is what as many perfect samples give.",
    "energy_shift": "The shift is the mean of E(x) over the samples less that over the model, which weighted proposals"
    " tell. Above 0 the chains have not come down yet; an unadjusted sampler with too large a step stays off for good.",
    "within_three_sigma": "The share of samples within three standard deviations of a mode should reach the dashed"
    " line, which is the model's own.",
}
DISTANCE = (
    "The distance to the training images is the mean over draws of as many samples as are held out. The dashed line is"
    " that of the held-out images."
)


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


def quality_section(comparison: Comparison) -> Section:
    """Each measure along the way."""
    measured = comparison.rows[0]["quality"]
    names = [comparison.key, *(name for name in ("energy_shift", "within_three_sigma") if name in measured)]
    rows = []
    for name in names:
        factor = 100.0 if name == "within_three_sigma" else 1.0
        curves = [_curve(row, name, factor, comparison) for row in comparison.rows]
        title = axis_title(name)
        picture = small_multiples(
            curves, "gradient evaluations spent on a sample", title, _level(comparison, name, factor)
        )
        rows.append(Row([Figure(picture, CURVES.get(name, DISTANCE), title[0].upper() + title[1:])], 300, 1072))
    sentences = [
        (
            "Each curve begins where all chains do, at samples of the model without its energy on x, and ends when the"
            " budget is spent. What a pilot needed to learn a sampler's numbers is counted before its first step."
        ),
        (
            "Importance resampling and SMC do not begin anywhere, and a recipe whose start chooses among proposals"
            " begins there; the energy of a proposal counts as a gradient. All other samplers stand in grey behind"
            " each curve, and the shade is one standard error."
        ),
    ]
    return Section("quality", "Quality against gradients", sentences, rows)


def _curve(row: dict[str, Any], name: str, factor: float, comparison: Comparison) -> SpentCurve:
    looks = [
        (look["gradients"], factor * look["quality"][name], factor * look["quality_stderr"][name])
        for look in row["curve"]
    ]
    start = next((m for m in comparison.start if m.name == name), None)
    if start is not None and row["settings"].get("start_cost") == 0:
        looks.insert(0, (0, factor * start.value, factor * start.stderr))
    spent, values, errors = zip(*looks, strict=True)
    return SpentCurve(row["label"], colour(row["sampler"]), spent, values, errors)


def _level(comparison: Comparison, name: str, factor: float) -> float | None:
    """What a curve should reach."""
    if name == "energy_shift":
        return 0.0
    if name == "model_kl" and comparison.mode_probabilities is not None:
        return float((len(comparison.mode_probabilities.cells) - 1) / (2 * comparison.protocol["n"]))
    for key in ("vaebm", "truth", "held_out"):
        for m in comparison.references.get(key, []):
            if m.name == name:
                return factor * m.value
    return None


def chains_section(comparison: Comparison) -> Section:
    """R-hat, effective samples, acceptance."""
    found = comparison.rows

    def figure(title: str, axis: str, key: str, caption: str, factor: float = 1.0, **more: Any) -> Figure:
        rows = []
        for row in found:
            value = None if row[key] is None else factor * row[key]
            ring = row["rhat_between_starts"] if key == "rhat" else None
            rows.append(Dot(row["label"], colour(row["sampler"]), value, short(value, 2), ring=ring))
        return Figure(dots(rows, axis, **more), caption, title)

    figures = [
        figure(
            "R-hat",
            "R-hat",
            "rhat",
            "Dots are over all single chains: 1 where each has seen everything. Rings compare the chains that started"
            " from the model without E(x), taken together, with those that started from data: 1 where the start is"
            " forgotten. Importance and SMC have no chains, so theirs are between independent populations.",
            level=1.0,
        ),
        figure(
            "Effective samples per 1,000 gradients",
            "effective samples per 1,000 gradients",
            "ess_per_gradient",
            "A chain that runs on gives this many independent samples of the slowest quantity.",
            factor=1000,
        ),
        figure(
            "Effective samples per second",
            "effective samples per second",
            "ess_per_second",
            "This is the same by the clock, with as many chains at once as were run here.",
        ),
        figure(
            "Acceptance",
            "probability",
            "acceptance",
            "This is the mean probability of taking a move. An unadjusted sampler takes every move, and the closer the"
            " probability of its missing accept step is to 1, the smaller is its bias. For importance and SMC it is the"
            " effective share of their population.",
            limits=(0.0, 1.05),
        ),
    ]
    slowest = sorted({row["slowest"] for row in found if row["slowest"]})
    sentences = [
        (
            "These numbers come from the second half of some chains that started from the model without E(x), and as"
            " many that started from held-out data, over the coordinates of the noise, the energy and"
            " what the samples show."
        )
    ]
    if slowest:
        sentences[0] += f" The largest R-hats are those of {', '.join(slowest)}."
    if any(name.startswith("x[") for name in slowest):
        sentences[0] += " x[k] is a coordinate of the noise, or a random direction where it has more than 64."
    return Section("chains", "What chains forget, and what they cost", sentences, [Row(figures, 380, 520)])


def log_z_section(comparison: Comparison) -> Section | None:
    """Estimates of log Z beside the exact value; None without any."""
    rows = []
    for row in comparison.rows:
        if (z := row.get("log_z")) is not None:
            words = " ± ".join(part for part in written(z["value"], z["stderr"]) if part)
            bracket = None if z["lower"] is None else (z["lower"], z["upper"])
            rows.append(Dot(row["label"], colour(row["sampler"]), z["value"], words, z["stderr"], bracket=bracket))
    if not rows:
        return None
    exact = None if comparison.mode_probabilities is None else comparison.mode_probabilities.log_z
    said = ", ".join(f"{row.words} by {row.name}" for row in rows)
    sentences = [f"The logarithm of the normaliser of the energy, in nats, is {said}."]
    if exact is not None:
        sentences[0] = sentences[0][:-1] + f", and {short(exact)} by quadrature: the dotted line."
    for row in comparison.rows:
        if row["sampler"] == "importance":
            effective = row["settings"]["effective_proposals"]
            sentences.append(
                f"Of the proposals that importance weighs {row['acceptance']:.1%} count, {effective:,.0f} in all."
            )
    caption = (
        "Thick lines are two standard errors to either side. The thin line is SMC's bracket, from a run there and a run"
        " back, each with four standard errors to spare."
    )
    picture = dots(rows, "log Z, nats", level=exact)
    return Section("log-z", "log Z", sentences, [Row([Figure(picture, caption)], 300, 620)])


def drawn_section(data: DataSet, comparison: Comparison) -> Section:
    """Samples of each."""
    distances = {row["sampler"]: row["quality"][comparison.key] for row in comparison.rows}
    for name, found in (("start", comparison.start), ("held_out", comparison.references["held_out"])):
        distances[name] = next((m.value for m in found if m.name == comparison.key), None)
    looks = {"held_out": (subject("held_out").label, subject("held_out").colour)}
    looks |= {"start": ("start: without E(x)", subject("start").colour)}
    looks |= {row["sampler"]: (row["label"], colour(row["sampler"])) for row in comparison.rows}
    figures = []
    for name, (words, paint) in looks.items():
        caption = f"{axis_title(comparison.key)} {short(distances.get(name))}"
        picture = _picture(data, torch.from_numpy(comparison.samples(name)), paint)
        figures.append(Figure(picture, f"{caption[0].upper()}{caption[1:]}.", words, paint))
    sentence = (
        "These are the first images of each sampler, not chosen. Image i of chains of learned kernels began at image i"
        " of the start."
    )
    if not data.modality.pictured:
        sentence = (
            f"These are the first {min(POINTS_SHOWN, comparison.protocol['n']):,} points of each sampler. Points beyond"
            f" three standard deviations of every mode are {plane.STRAY_NAME}."
        )
    return Section("samples", "What each drew", [sentence], [Row(figures, 220, 256)])


def _picture(data: DataSet, x: Tensor, paint: str) -> bytes:
    if not data.modality.pictured:
        points = x[:POINTS_SHOWN].float()
        return plane.scatter(points, paint, extent_of(data.test.all()), plane.near_a_mode(points, data.truth))
    return sheet.png(sheet.square_sheet(unpacked(x.permute(0, 3, 1, 2)), sheet.grid_side(data.shape)))

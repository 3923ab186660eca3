"""The page of a comparison of samplers: one HTML file that opens offline.

Advice first, then the table, quality against gradients, what chains forget, log Z, what each sampler drew, and how it
was run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from torch import Tensor

from vaebm.experiment.comparison import Comparison
from vaebm.experiment.run_directory import Run
from vaebm.metrics.measurement import Measurement
from vaebm.report.chapter import Chapter, Plate, Plates
from vaebm.report.figures import plane, sheet
from vaebm.report.figures.races import Estimate, Racer, estimates, lanes, rows
from vaebm.report.measures import written
from vaebm.report.sampler_rows import (
    NUMBERS,
    Quantity,
    advised,
    colour,
    command,
    label,
    numbers,
    quantities,
    short,
    title_of,
)
from vaebm.report.subjects import subject
from vaebm.training.checkpoint import write_synced

TEMPLATES = Path(__file__).parent / "templates"
PAGE = "samplers.html"
POINTS_SHOWN = 3000
FEW_GRADIENTS = 1000  # per which effective samples are counted


def write_samplers_page(run: Run, comparison: Comparison) -> Path:
    """Writes `samplers.html` into the comparison's folder and returns its path."""
    found = comparison.rows
    chosen = advised(found)
    first, *rest = _sentences("" if chosen is None else chosen["advice"])
    shown = quantities(found)
    chapters = [_curves(comparison, shown), _chains(comparison), _log_z(comparison), _drawn(run, comparison)]
    page = (
        Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        .get_template("samplers.html.jinja")
        .render(
            style=Markup((TEMPLATES / "page.css").read_text()),
            title=run.recipe.name or run.path.name,
            summary=_summary(run, comparison),
            first=first,
            rest=rest,
            command="" if chosen is None else command(chosen, str(run.path)),
            chapters=[chapter for chapter in chapters if chapter is not None],
            columns=[f"{quantity.title} {quantity.better}" for quantity in shown] + list(NUMBERS),
            rows=[_cells(row, shown, row is chosen) for row in found],
            above=_references(comparison, shown),
            notes=_notes(comparison),
            settings=[(label(row["sampler"]), _settings(row), command(row, str(run.path))) for row in found],
            protocol=comparison.protocol,
        )
    )
    path = comparison.folder / PAGE
    write_synced(path, page.encode())
    return path


def _sentences(advice: str) -> list[str]:
    parts = advice.split(". ")
    return [part if part.endswith(".") else f"{part}." for part in parts if part] or [""]


def _summary(run: Run, comparison: Comparison) -> str:
    protocol = comparison.protocol
    return (
        f"{len(comparison.rows)} samplers on the model of {run.path}, each with {protocol['budget']:,} gradient"
        f" evaluations a sample, what learns its numbers included; {protocol['n']:,} samples of each"
    )


def _cells(row: dict[str, Any], shown: Sequence[Quantity], best: bool) -> dict[str, Any]:
    quality = [quantity.cell(row) for quantity in shown]
    return {
        "name": label(row["sampler"]),
        "colour": colour(row["sampler"]),
        "best": best,
        "cells": quality + [(number, "") for number in numbers(row)],
    }


def _references(comparison: Comparison, shown: Sequence[Quantity]) -> list[dict[str, Any]]:
    """The rows above the samplers: where chains begin, and what is to be reached."""
    named = {"model without E(x): the start": comparison.start}
    named |= {_reference_name(key): found for key, found in comparison.references.items()}
    out = []
    for name, measured in named.items():
        by_name = {m.name: m for m in measured}
        cells = []
        for quantity in shown:
            m = by_name.get(quantity.name)
            row = m and {"quality": {m.name: m.value}, "quality_stderr": {m.name: m.stderr}}
            cells.append(("–", "") if row is None else quantity.cell(row))
        out.append({"name": name, "cells": cells + [("", "")] * len(NUMBERS)})
    return out


def _reference_name(key: str) -> str:
    return "the model itself, by quadrature" if key == "vaebm" else subject(key).label


def _curves(comparison: Comparison, shown: Sequence[Quantity]) -> Chapter:
    start = {m.name: m for m in comparison.start}
    names = [comparison.key, *(q.name for q in shown if q.name in ("energy_shift", "within_three_sigma"))]
    plates = []
    for name in names:
        factor = 100.0 if name == "within_three_sigma" else 1.0
        racers = []
        for row in comparison.rows:
            has_chains = row["sampler"] not in ("importance", "smc", "recipe")
            looks = [
                (look["gradients"], factor * look["quality"][name], factor * look["quality_stderr"][name])
                for look in row["curve"]
            ]
            if has_chains and name in start:
                looks.insert(0, (0, factor * start[name].value, factor * start[name].stderr))
            spent, values, errors = zip(*looks, strict=True)
            racers.append(Racer(label(row["sampler"]), colour(row["sampler"]), spent, values, errors))
        picture = lanes(
            racers, "gradient evaluations spent on a sample", title_of(name), _levels(comparison, name, factor)
        )
        plates.append(Plate(picture, _curve_caption(name, comparison), title_of(name)[0].upper() + title_of(name)[1:]))
    return Chapter(
        "quality",
        "Quality against gradients",
        [
            "Each curve begins where all chains do, at samples of the model without its energy on x, and ends when the"
            " budget is spent. What a pilot needed to learn a sampler's numbers is counted from its first step on, so"
            " that the first step of a curve is a long one. Importance resampling, SMC and the recipe's own sampler have"
            " starts of their own."
        ],
        [Plates([plate], 300, 760) for plate in plates],
    )


def _levels(comparison: Comparison, name: str, factor: float) -> dict[str, float]:
    found = {m.name: m for m in comparison.references.get("held_out", [])}
    exact = {m.name: m for m in comparison.references.get("vaebm", [])}
    if name == "energy_shift":
        return {"the model": 0.0}
    if name == "model_kl" and comparison.masses is not None:
        cells, n = len(comparison.masses.cells), comparison.protocol["n"]
        return {"perfect samples": (cells - 1) / (2 * n)}
    if name in exact:
        return {"the model": factor * exact[name].value}
    return {"held-out data": factor * found[name].value} if name in found else {}


def _curve_caption(name: str, comparison: Comparison) -> str:
    shade = "The shade is one standard error."
    if name == "model_kl":
        return (
            "How far the shares of the samples are from the model's own masses: within three standard deviations of each"
            f" mode, and elsewhere. The line is what as many perfect samples give. {shade}"
        )
    if name == "energy_shift":
        return (
            "The mean of E(x) over the samples less that over the model, which weighted proposals tell. Above 0 the"
            f" chains have not yet come down; a step too large for an unadjusted sampler also leaves a gap. {shade}"
        )
    if name == "within_three_sigma":
        return f"The share of samples within three standard deviations of a mode; the line is the model's own. {shade}"
    draws = "the mean of draws of as many samples as the recipe measures"
    return f"The distance to the training data, {draws}; the line is that of as many held-out images. {shade}"


def _chains(comparison: Comparison) -> Chapter:
    found = comparison.rows

    def picture(title: str, key: str, factor: float = 1.0, **more: Any) -> bytes:
        values = {row["sampler"]: row[key] for row in found}
        named = {
            label(name): (colour(name), None if value is None else factor * value, short(value and factor * value, 2))
            for name, value in values.items()
        }
        return rows(title, named, **more)

    starts = {label(row["sampler"]): row["rhat_between_starts"] for row in found}
    plates = [
        Plate(
            picture("R-hat", "rhat", second=starts, level=(1.0, "mixed")),
            "Dots: over all single chains, 1 where each has seen everything. Rings: between the group of chains that"
            " started from the model without E(x) and the group that started from data, 1 where the start is forgotten."
            " Of importance and SMC, which have no chains, between independent populations.",
        ),
        Plate(
            picture(f"Effective samples per {FEW_GRADIENTS:,} gradients", "ess_per_gradient", FEW_GRADIENTS),
            "What chains are worth that run on: independent samples for each 1,000 gradients, of the slowest quantity.",
        ),
        Plate(
            picture("Effective samples per second", "ess_per_second"),
            "The same by the clock, with as many chains at once as were run here.",
        ),
        Plate(
            picture("Acceptance", "acceptance"),
            "Mean probability of taking a move; of unadjusted samplers, with which an accept step would have taken it:"
            " the closer to 1, the smaller their bias. Of importance and SMC the effective share of their population.",
        ),
    ]
    slowest = {row["slowest"] for row in found if row["slowest"]}
    words = f" The slowest quantities are {', '.join(sorted(slowest))}." if slowest else ""
    return Chapter(
        "chains",
        "What chains forget, and what they cost",
        [
            "Read from the second half of some chains that started from the model without E(x) and as many that started"
            f" from held-out data, over coordinates, energy and what the samples show.{words}"
        ],
        [Plates(plates, 380, 520)],
    )


def _log_z(comparison: Comparison) -> Chapter | None:
    found = []
    for row in comparison.rows:
        if row.get("log_z") is None:
            continue
        z = row["log_z"]
        value, stderr = written(z["value"], z["stderr"])
        bracket = None if z["lower"] is None else (z["lower"], z["upper"])
        words = f"{value} ± {stderr}" if stderr else value
        found.append(Estimate(label(row["sampler"]), colour(row["sampler"]), z["value"], z["stderr"], words, bracket))
    if not found:
        return None
    exact = None if comparison.masses is None else comparison.masses.log_z
    level = None if exact is None else (exact, f"quadrature {exact:+.4f}")
    said = [f"{e.name} {e.words}" for e in found]
    sentence = f"The logarithm of the normaliser of the energy, in nats: {', '.join(said)}"
    sentence += "." if exact is None else f"; exactly, by quadrature, {exact:.4f}."
    if any(e.name == label("importance") for e in found):
        share = next(row["acceptance"] for row in comparison.rows if row["sampler"] == "importance")
        sentence += f" Of the proposals that importance weighs {share:.1%} count."
    caption = (
        "Thick: two standard errors. Thin: SMC's bracket, from its run there and its run back, four standard errors wide"
        " at either end."
    )
    return Chapter("log-z", "log Z", [sentence], [Plates([Plate(estimates("log Z", found, level), caption)], 300, 620)])


def _drawn(run: Run, comparison: Comparison) -> Chapter:
    data = run.data()
    named = {
        "held_out": (subject("held_out").label, subject("held_out").colour),
        "start": ("start: without E(x)", "#9ca3af"),
    }
    named |= {row["sampler"]: (label(row["sampler"]), colour(row["sampler"])) for row in comparison.rows}
    by_name = {row["sampler"]: row["quality"][comparison.key] for row in comparison.rows}
    found = [*comparison.start, *(m for m in comparison.references["held_out"])]
    by_name |= {key: m.value for key, m in zip(("start", "held_out"), _of(comparison.key, found), strict=False)}
    plates = []
    extent = plane.extent_of(data.test.all()) if data.kind == "points" else None
    for name, (words, paint) in named.items():
        x = torch.from_numpy(comparison.samples(name))
        caption = f"{title_of(comparison.key)} {short(by_name.get(name))}"
        plates.append(Plate(_picture(x, paint, extent, data.truth), caption, words, paint))
    sentence = (
        "The first images of each, not chosen. Image i of all chains began at image i of the start."
        if data.kind == "image"
        else f"The first {min(POINTS_SHOWN, comparison.protocol['n']):,} points of each; those beyond three standard"
        f" deviations of every mode are {plane.STRAY_NAME}."
    )
    return Chapter("samples", "What each drew", [sentence], [Plates(plates, 220, 256)])


def _of(name: str, found: Sequence[Measurement]) -> list[Measurement]:
    return [m for m in found if m.name == name]


def _picture(x: Tensor, paint: str, extent: tuple[float, float] | None, truth: Any) -> bytes:
    if extent is None:
        images = x.permute(0, 3, 1, 2).float() / 127.5 - 1.0
        return sheet.png(sheet.square_sheet(images, sheet.grid_side(tuple(images.shape[1:]))))
    points = x[:POINTS_SHOWN].float()
    near = None if truth is None else plane.near_a_mode(points, truth.modes, truth.scale)
    return plane.scatter(points, paint, extent, near)


def _settings(row: dict[str, Any]) -> str:
    said = []
    for name, value in row["settings"].items():
        if name in ("protocol", "overrides") or value in (0.0, None):
            continue
        numbers_ = [f"{v:.3g}" for v in value] if isinstance(value, list) else [_plain(value)]
        said.append(f"{name.replace('_', ' ')} {', '.join(numbers_)}")
    return "; ".join([*said, f"{row['seconds']:.1f} s for {row['n']:,} samples"])


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _notes(comparison: Comparison) -> list[str]:
    notes = [
        "± one standard error over the draw of the samples. All samplers share their seed, and chains their start.",
        "ESS: effective samples, of the slowest quantity. R-hat: over single chains from both starts. R-hat of the"
        " starts: between the chains from the model without E(x) and those from data, each taken together.",
    ]
    if comparison.masses is not None:
        of = "the model's own masses, by quadrature" if comparison.masses.of == "model" else "the masses of the data"
        notes.append(f"p: of a chi-square test of how many samples are nearest to each mode, against {of}.")
    return notes

"""Chapters of a comparison of samplers: quality against gradients, what chains forget, log Z, what each drew."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vaebm.comparison.folder import Comparison
from vaebm.data import POINTS, DataSet
from vaebm.data.splits import Truth
from vaebm.evaluation.quantity import written
from vaebm.report.chapter import Chapter, Plate, Plates
from vaebm.report.figures import plane, sheet
from vaebm.report.figures.races import Estimate, Racer, estimates, lanes, rows
from vaebm.report.sampler_rows import colour, label, short, title_of
from vaebm.report.subjects import subject

POINTS_SHOWN = 3000
THOUSAND = 1000


def quality_chapter(comparison: Comparison) -> Chapter:
    """Each measure along the way."""
    measured = comparison.rows[0]["quality"]
    names = [comparison.key, *(name for name in ("energy_shift", "within_three_sigma") if name in measured)]
    plates = []
    for name in names:
        factor = 100.0 if name == "within_three_sigma" else 1.0
        racers = [_racer(row, name, factor, comparison) for row in comparison.rows]
        title = title_of(name)
        picture = lanes(racers, "gradient evaluations spent on a sample", _level(comparison, name, factor))
        plates.append(Plate(picture, _curve_caption(name), title[0].upper() + title[1:]))
    sentence = (
        "Each curve begins where all chains do, at samples of the model without its energy on x, and"
        " ends when the budget"
        " is spent. What a pilot needed to learn a sampler's numbers is counted before its first step. Importance"
        " resampling and SMC do not begin anywhere, and a recipe whose start chooses among proposals"
        " begins there; the energy"
        " of a proposal counts as a gradient. All others stand in grey behind each curve; the shade"
        " is one standard error."
    )
    return Chapter("quality", "Quality against gradients", [sentence], [Plates([p], 300, 1072) for p in plates])


def _racer(row: dict[str, Any], name: str, factor: float, comparison: Comparison) -> Racer:
    looks = [
        (look["gradients"], factor * look["quality"][name], factor * look["quality_stderr"][name])
        for look in row["curve"]
    ]
    start = next((m for m in comparison.start if m.name == name), None)
    if start is not None and row["settings"].get("start_cost") == 0:
        looks.insert(0, (0, factor * start.value, factor * start.stderr))
    spent, values, errors = zip(*looks, strict=True)
    return Racer(label(row["sampler"]), colour(row["sampler"]), spent, values, errors)


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


def _curve_caption(name: str) -> str:
    return {
        "model_kl": "How far the shares of the samples are from the masses of the model: within"
        " three standard deviations"
        " of each mode, and elsewhere. The dashed line is what as many perfect samples give.",
        "energy_shift": "The mean of E(x) over the samples less that over the model, which weighted"
        " proposals tell. Above"
        " 0 the chains have not come down yet; an unadjusted sampler with too large a step stays off for good.",
        "within_three_sigma": "The share of samples within three standard deviations of a mode. The dashed line is the"
        " model's own.",
    }.get(
        name,
        "The distance to the training images, as the mean over draws of as many samples as are held"
        " out. The dashed line"
        " is that of the held-out images.",
    )


def chains_chapter(comparison: Comparison) -> Chapter:
    """R-hat, effective samples, acceptance."""
    found = comparison.rows

    def picture(key: str, factor: float = 1.0, **more: Any) -> bytes:
        values = {row["sampler"]: None if row[key] is None else factor * row[key] for row in found}
        return rows({label(name): (colour(name), value, short(value, 2)) for name, value in values.items()}, **more)

    starts = {label(row["sampler"]): row["rhat_between_starts"] for row in found}
    plates = [
        Plate(
            picture("rhat", second=starts, level=1.0),
            "Dots: over all single chains, 1 where each has seen everything. Rings: between the"
            " chains that started from"
            " the model without E(x), taken together, and those that started from data, 1 where the start is forgotten."
            " Of importance and SMC, which have no chains: between independent populations.",
            "R-hat",
        ),
        Plate(
            picture("ess_per_gradient", THOUSAND),
            "What chains are worth that run on: independent samples in each 1,000 gradients, of the slowest quantity.",
            "Effective samples per 1,000 gradients",
        ),
        Plate(
            picture("ess_per_second"),
            "The same by the clock, with as many chains at once as were run here.",
            "Effective samples per second",
        ),
        Plate(
            picture("acceptance", limits=(0.0, 1.05)),
            "Mean probability of taking a move; of unadjusted samplers, with which an accept step"
            " would have taken it: the"
            " closer to 1, the smaller their bias. Of importance and SMC the effective share of their population.",
            "Acceptance",
        ),
    ]
    slowest = sorted({row["slowest"] for row in found if row["slowest"]})
    words = f" The largest R-hats are those of {', '.join(slowest)}." if slowest else ""
    if any(name.startswith("x[") for name in slowest):
        words += " x[k] is a coordinate of the noise, or a random direction where it has more than 64."
    sentence = (
        "Read from the second half of some chains that started from the model without E(x) and as"
        " many that started from"
        f" held-out data, over the coordinates of the noise, energy and what the samples show.{words}"
    )
    return Chapter("chains", "What chains forget, and what they cost", [sentence], [Plates(plates, 380, 520)])


def log_z_chapter(comparison: Comparison) -> Chapter | None:
    """Estimates of log Z beside the exact value, where there are any."""
    found = []
    for row in comparison.rows:
        if (z := row.get("log_z")) is not None:
            number = " ± ".join(part for part in written(z["value"], z["stderr"]) if part)
            bracket = None if z["lower"] is None else (z["lower"], z["upper"])
            name = row["sampler"]
            found.append(Estimate(label(name), colour(name), z["value"], z["stderr"], number, bracket))
    if not found:
        return None
    exact = None if comparison.mode_probabilities is None else comparison.mode_probabilities.log_z
    said = ", ".join(f"{estimate.words} by {estimate.name}" for estimate in found)
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
        "Thick: two standard errors to either side. Thin: SMC's bracket, from a run there and a run"
        " back, each with four"
        " standard errors to spare."
    )
    return Chapter("log-z", "log Z", sentences, [Plates([Plate(estimates(found, exact), caption)], 300, 620)])


def drawn_chapter(data: DataSet, comparison: Comparison) -> Chapter:
    """Samples of each."""
    distances = {row["sampler"]: row["quality"][comparison.key] for row in comparison.rows}
    for name, found in (("start", comparison.start), ("held_out", comparison.references["held_out"])):
        distances |= dict.fromkeys([name], next((m.value for m in found if m.name == comparison.key), None))
    looks = {"held_out": (subject("held_out").label, subject("held_out").colour)}
    looks |= {"start": ("start: without E(x)", "#9ca3af")}
    looks |= {row["sampler"]: (label(row["sampler"]), colour(row["sampler"])) for row in comparison.rows}
    extent = plane.extent_of(data.test.all()) if data.modality is POINTS else None
    plates = []
    for name, (words, paint) in looks.items():
        x = torch.from_numpy(comparison.samples(name))
        caption = f"{title_of(comparison.key)} {short(distances.get(name))}"
        plates.append(Plate(_picture(x, paint, extent, data.truth), caption, words, paint))
    sentence = (
        "The first images of each, not chosen. Image i of chains of learned kernels began at image i of the start."
    )
    if data.modality is POINTS:
        sentence = (
            f"The first {min(POINTS_SHOWN, comparison.protocol['n']):,} points of each; those beyond three standard"
            f" deviations of every mode are {plane.STRAY_NAME}."
        )
    return Chapter("samples", "What each drew", [sentence], [Plates(plates, 220, 256)])


def _picture(x: Tensor, paint: str, extent: tuple[float, float] | None, truth: Truth | None) -> bytes:
    if extent is None:
        images = x.permute(0, 3, 1, 2).float() / 127.5 - 1.0
        return sheet.png(sheet.square_sheet(images, sheet.grid_side(tuple(images.shape[1:]))))
    points = x[:POINTS_SHOWN].float()
    near = None if truth is None else plane.near_a_mode(points, truth.modes, truth.scale)
    return plane.scatter(points, paint, extent, near)

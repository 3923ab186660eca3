"""The verdict: what the energy added, or that it did not, in one sentence.

The first measure that the VAEBM and a model without the energy have both been measured by decides: Fréchet
distance, then exact log-likelihood, kernel distance, the KL divergence of mode shares; on the features, and of samples
as they are shown, that stand first: `vaebm evaluate` puts what the run's recipe shows before the rest. A difference d
of two numbers with standard errors s and t counts if |d| > 2 sqrt(s^2 + t^2): the two are taken as independent, which
overstates the error where they are of the same held-out points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vaebm.evaluation.metric import quantity
from vaebm.evaluation.quantity import written
from vaebm.metrics.measurement import Measurement
from vaebm.report.subjects import FLOORS, subject

DECIDING = ("frechet_distance", "log_likelihood", "kernel_distance", "mode_kl")
SURE = 2.0  # standard errors


@dataclass(frozen=True)
class Verdict:
    """What can be said.

    Args:
        outcome: of the VAEBM against the best model without the energy.
        sentence: all of it in words; it always ends in a full stop.
        name: the measurement that decided; None where none could.
        measurements: its numbers, by subject.
    """

    outcome: Literal["better", "worse", "same", "unknown"]
    sentence: str
    name: str | None
    measurements: Mapping[str, Measurement]


def verdict(measurements: Sequence[Measurement]) -> Verdict:
    """The verdict that the measurements allow."""
    for name in DECIDING:
        named = [m for m in measurements if m.name == name]
        features = next((m.settings.get("features") for m in named), None)
        alike = [m for m in named if m.settings.get("features") == features]
        show = next((m.settings["show"] for m in alike if "show" in m.settings), None)
        by_subject = {m.subject: m for m in alike if m.settings.get("show", show) == show}
        rivals = [key for key in ("vae_mixture", "vae") if key in by_subject]
        if "vaebm" in by_subject and rivals:
            return _verdict(name, by_subject, rivals)
    return Verdict("unknown", "What the energy added is not measured yet; `vaebm evaluate` does that.", None, {})


def _verdict(name: str, by_subject: Mapping[str, Measurement], rivals: Sequence[str]) -> Verdict:
    what = quantity(name)
    ours = by_subject["vaebm"]
    gains = {key: _gain(ours, by_subject[key], what.better == "higher") for key in rivals}
    outcome, (first, *others) = _outcome(*gains[rivals[0]]), rivals
    change = f"{what.phrase} went from {what.said(by_subject[first])} for {subject(first).name} to {what.said(ours)}"
    gain, error = written(abs(gains[first][0]) * what.factor, gains[first][1] * what.factor)
    closing = {
        "better": f"The energy made the samples better: {change} for the VAEBM",
        "worse": f"The energy made the samples worse: {change} for the VAEBM",
        "same": f"The energy made no difference that is sure: {change}, a change of {gain} ± {error}",
    }[outcome]
    sentences = [closing + _share(by_subject, first, outcome)]
    for key in others:
        step = {"better": "better than", "worse": "worse than", "same": "no different from"}[_outcome(*gains[key])]
        sentences.append(f"The VAEBM is {step} the plain VAE ({what.said(by_subject[key])})")
    if floor := next((key for key in FLOORS if key in by_subject), None):
        reached = _outcome(*_gain(ours, by_subject[floor], what.better == "higher")) == "same"
        goal = f"{subject(floor).name} ({what.said(by_subject[floor])})"
        sentences.append(f"It cannot be told from {goal}" if reached else f"The goal, {goal}, is not reached yet")
    return Verdict(outcome, ". ".join(sentences) + ".", name, by_subject)


def _gain(ours: Measurement, theirs: Measurement, higher: bool) -> tuple[float, float]:
    """How much better ours is, and the standard error of that."""
    gain = ours.value - theirs.value
    return gain if higher else -gain, math.hypot(ours.stderr, theirs.stderr)


def _outcome(gain: float, stderr: float) -> Literal["better", "worse", "same"]:
    if abs(gain) <= SURE * stderr:
        return "same"
    return "better" if gain > 0 else "worse"


def _share(by_subject: Mapping[str, Measurement], rival: str, outcome: str) -> str:
    """Which part of the way from the rival to the floor the energy went."""
    floor = next((by_subject[key] for key in FLOORS if key in by_subject), None)
    if floor is None or outcome != "better":
        return ""
    theirs = by_subject[rival].value
    share = (by_subject["vaebm"].value - theirs) / (floor.value - theirs) if floor.value != theirs else 0.0
    if not 0.0 < share < 1.0:
        return ""
    return f", {share:{'.0%' if share < 0.99 else '.1%'}} of the way to {subject(floor.subject).name}"

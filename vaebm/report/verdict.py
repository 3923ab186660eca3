"""The verdict: what the energy added, or that it did not, in a few sentences.

The first measure that the model and the same model without its energy have both been measured by decides: of tables
how well trees tell rows apart, else Fréchet distance, then exact log-likelihood, kernel distance, the KL divergence of
mode shares; on the features that stand first, and of samples at the noise scale that serves each subject best
(evaluation/noise_scale.py) where these are measured, else as they are shown first. The rival is the start of the
chains, which differs from the model by the chains alone; without it, the VAE with the code mixture, then the VAE.

A difference d with standard error s counts if |d| > 2 s; numbers of the same real data are compared as pairs
(metrics/measurement.py). Beside the samples stand what the energy is worth in nats of held-out data, and whether the
samples have the energy that the model's own law has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vaebm.evaluation.metric import quantity
from vaebm.evaluation.quantity import Quantity, written
from vaebm.metrics.measurement import Measurement, difference
from vaebm.report.subjects import FLOORS, RECONSTRUCTION, subject, with_energy

DECIDING = ("two_sample_auroc", "frechet_distance", "log_likelihood", "kernel_distance", "mode_kl")
UNBIASED = ("kernel_distance", "log_likelihood")  # compare whatever the numbers of samples are
RIVALS = ("start", "vae_mixture", "vae")  # the same model without its energy
SCALED = "scaled"
SURE = 2.0  # standard errors


@dataclass(frozen=True)
class Verdict:
    """What can be said."""

    outcome: Literal["better", "worse", "same", "unknown"]  # of the model against the best one without the energy
    sentence: str  # all of it in words; it always ends in a full stop
    name: str | None  # the measurement that decided; None where none could
    measurements: Mapping[str, Measurement]  # its numbers, by subject


NO_ENERGY = Verdict("unknown", "This model has no energy whose gain could be told.", None, {})


def verdict(
    measurements: Sequence[Measurement], energy: str = "The energy", mixture: str = "The code mixture"
) -> Verdict:
    """The verdict that the measurements allow.

    Args:
        measurements: of any names and subjects.
        energy: what tells the model from the VAE with the code mixture, as it begins a sentence.
        mixture: what tells the latter from the VAE.
    """
    models = {m.subject for m in measurements} - {*FLOORS, RECONSTRUCTION}
    us = with_energy(models).key
    if models and not models & {us, *RIVALS}:
        return NO_ENERGY
    own = {m.name: m for m in measurements if m.subject == us}
    for name in DECIDING:
        named = [m for m in measurements if m.name == name]
        features = next((m.settings.get("features") for m in named), None)
        alike = [m for m in named if m.settings.get("features") == features]
        shows = [m.settings["show"] for m in alike if "show" in m.settings]
        show = SCALED if SCALED in shows else next(iter(shows), None)
        by_subject = {m.subject: m for m in alike if m.settings.get("show", show) == show}
        rivals = [key for key in RIVALS if key in by_subject]
        if us in by_subject and rivals:
            return _verdict(name, by_subject, rivals, energy, mixture, own)
    return Verdict("unknown", "What the energy added is not measured yet. `vaebm evaluate` measures it.", None, {})


def _verdict(
    name: str,
    by_subject: Mapping[str, Measurement],
    rivals: Sequence[str],
    energy: str,
    mixture: str,
    own: Mapping[str, Measurement],
) -> Verdict:
    us = with_energy(by_subject).key
    what, ours, rival = quantity(name), by_subject[us], rivals[0]
    higher = what.better == "higher"
    gain, stderr = _gain(ours, by_subject[rival], higher)
    outcome = _outcome(gain, stderr)
    before, after = (f"{what.said(by_subject[key])} for {subject(key).name}" for key in (rival, us))
    if outcome == "same":
        size = " ± ".join(part for part in written(abs(gain) * what.factor, stderr * what.factor) if part)
        first = f"{energy} made no significant difference ({size}): {what.phrase} is {before} and {after}"
    else:
        way = _part_of_the_way(by_subject, rival) if outcome == "better" else ""
        first = f"{energy} made the samples {outcome}: {what.phrase} went from {before} to {after}{way}"
    if ours.settings.get("show") == SCALED:
        first += ", each with the pixel noise that serves it best"
    sentences = [first]
    if {"vae", "vae_mixture"} <= set(rivals):
        sentences.append(_from_plain(what, by_subject, outcome, mixture))
    if "energy_gain" in own:
        sentences.append(_worth(own["energy_gain"], energy))
    if "energy_shift" in own:
        sentences.append(_law(own["energy_shift"]))
    floor = next((key for key in FLOORS if key in by_subject), None)
    if floor is not None and (name in UNBIASED or by_subject[floor].n == ours.n):
        goal = f"{subject(floor).name} ({what.said(by_subject[floor])})"
        reached = {
            "same": f"{_beginning(us)} cannot be told from {goal}",
            "better": f"The goal, {goal}, is reached",
            "worse": f"The goal, {goal}, is not reached yet",
        }
        sentences.append(reached[_outcome(*_gain(ours, by_subject[floor], higher))])
    return Verdict(outcome, ". ".join(sentences) + ".", name, by_subject)


def _from_plain(what: Quantity, by_subject: Mapping[str, Measurement], outcome: str, mixture: str) -> str:
    """The plain VAE against the model, and how much of that the mixture alone made where the energy did no harm."""
    plain, baseline, ours = (by_subject[key] for key in ("vae", "vae_mixture", "vaebm"))
    higher = what.better == "higher"
    step = _outcome(*_gain(ours, plain, higher))
    if outcome == "worse" or step != "better" or _outcome(*_gain(baseline, plain, higher)) != "better":
        words = {"better": "better than", "worse": "worse than", "same": "no different from"}[step]
        return f"{_beginning('vaebm')} is {words} the plain VAE ({what.said(plain)})"
    fraction = (baseline.value - plain.value) / (ours.value - plain.value)
    part = "nearly all" if fraction >= 0.9 else "most" if fraction >= 0.5 else "part"
    return f"{mixture} made {part} of the difference from the plain VAE ({what.said(plain)} to {what.said(baseline)})"


def _worth(gain: Measurement, energy: str) -> str:
    """What the energy is worth in nats."""
    said = quantity(gain.name).said(gain)
    estimate = ", which may be optimistic" if gain.settings.get("method") == "annealing" else ""
    outcome = _outcome(gain.value, gain.stderr)
    if outcome == "same":
        return f"{energy} adds no log-likelihood that is sure ({said} a held-out data point{estimate})"
    word = "adds" if outcome == "better" else "takes away"
    return f"{energy} {word} {said.removeprefix('−')} of log-likelihood to a held-out data point{estimate}"


def _law(shift: Measurement) -> str:
    """Whether the samples are of the model's law, as far as their energy tells."""
    said = quantity(shift.name).said(shift)
    outcome = _outcome(shift.value, shift.stderr)
    if outcome == "same":
        return f"The energy of the samples agrees with the model's own law ({said})"
    if outcome == "better":
        return f"The energy of the samples lies above that of the model's own law by {said}, so chains stop short of it"
    return f"The energy of the samples lies below that of the model's own law by {said.removeprefix('−')}"


def _gain(ours: Measurement, theirs: Measurement, higher: bool) -> tuple[float, float]:
    """How much better ours is, and the standard error of that."""
    gain, stderr = difference(ours, theirs)
    return gain if higher else -gain, stderr


def _outcome(gain: float, stderr: float) -> Literal["better", "worse", "same"]:
    if abs(gain) <= SURE * stderr:
        return "same"
    return "better" if gain > 0 else "worse"


def _beginning(key: str) -> str:
    """A subject's name as it begins a sentence."""
    name = subject(key).name
    return name[0].upper() + name[1:]


def _part_of_the_way(by_subject: Mapping[str, Measurement], rival: str) -> str:
    """Which part of the way from the rival to the floor the energy went."""
    floor = next((by_subject[key] for key in FLOORS if key in by_subject), None)
    theirs = by_subject[rival].value
    ours = by_subject[with_energy(by_subject).key]
    if floor is None or floor.value == theirs or floor.n != ours.n:
        return ""
    part = (ours.value - theirs) / (floor.value - theirs)
    if not 0.0 < part < 1.0:
        return ""
    return f", {part:{'.0%' if part < 0.99 else '.1%'}} of the way to {subject(floor.subject).name}"

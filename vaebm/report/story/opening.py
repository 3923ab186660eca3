"""The opening: the verdict, the numbers behind it, and the run in a few facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from vaebm.energy import Energy
from vaebm.evaluation.metric import quantity
from vaebm.experiment.run_directory import Run
from vaebm.metrics.measurement import Measurement
from vaebm.models import NoiseSpaceModel
from vaebm.report.chapter import Plate
from vaebm.report.figures.scores import scores
from vaebm.report.story.words import counted, duration, sampler_in_words
from vaebm.report.verdict import Verdict, verdict


@dataclass(frozen=True)
class Opening:
    """What stands at the top.

    Args:
        title: the recipe's name.
        summary: its line.
        verdict: what the energy added.
        plate: the deciding numbers as a picture; None where nothing decides.
        facts: name and value.
        warning: what is wrong with the run; "" where nothing is.
    """

    title: str
    summary: str
    verdict: Verdict
    plate: Plate | None
    facts: Sequence[tuple[str, str]]
    warning: str


def opening(run: Run, model: NoiseSpaceModel) -> Opening:
    """The top of the page."""
    measurements = run.measurements()
    decided = verdict(measurements)
    return Opening(
        run.recipe.name or run.path.name,
        run.recipe.summary,
        decided,
        _plate(decided),
        _facts(run, model, measurements),
        _warning(run),
    )


def _plate(decided: Verdict) -> Plate | None:
    if decided.name is None:
        return None
    what = quantity(decided.name)
    side = {"lower": "left", "higher": "right", None: "right"}[what.better]
    goal = " The dotted line is the goal: no model is expected to pass it." if _has_goal(decided) else ""
    return Plate(
        scores(decided.name, decided.measurements),
        f"{what.title[0].upper()}{what.title[1:]} of every subject by one protocol, with two standard errors to"
        f" either side; the further {side}, the better.{goal}",
    )


def _has_goal(decided: Verdict) -> bool:
    return bool({"held_out", "truth"} & decided.measurements.keys())


def _facts(run: Run, model: NoiseSpaceModel, measurements: Sequence[Measurement]) -> list[tuple[str, str]]:
    settings = run.recipe
    sizes = {_term_name(term): _weights(term) for term in model.energy_net.terms.values()}
    energy = ", ".join(
        f"{name} with {counted(size, 'weight')}" if size else f"{name} in closed form" for name, size in sizes.items()
    )
    facts = [
        ("data", run.data().name),
        (
            "VAE",
            f"{settings.vae.kind}, {counted(_weights(model.vae), 'weight')}, {counted(model.vae.latent_dim, 'latent')}",
        ),
        ("decoder", settings.vae.likelihood.kind.replace("_", " ")),
        ("energy", energy or "none: the VAEBM is the VAE"),
        ("chains", sampler_in_words(settings.sampler)),
        ("seed", str(settings.seed)),
    ]
    history = run.history()
    if history:
        facts.append(("trained in", duration(float(history[-1]["seconds"]))))
    drawing = [m for m in measurements if m.name == "seconds_per_thousand" and m.subject == "vaebm"]
    if drawing:
        facts.append(("drawing", f"1,000 samples in {duration(drawing[-1].value)}"))
    return facts


def _term_name(term: Energy) -> str:
    """E(x), E(z) or E(x, z)."""
    return f"E({', '.join(name for name, read in (('x', term.reads_x), ('z', term.reads_z)) if read)})"


def _weights(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def _warning(run: Run) -> str:
    last = next((event for event in reversed(run.events()) if event["event"] in ("diverged", "complete")), None)
    if last is None:
        return (
            f"Training has not come to its end, and the page shows the model saved so far. `vaebm train {run.path}`"
            " goes on."
        )
    if last["event"] == "diverged":
        return f"This run diverged, and the page shows the last good model. {last.get('message', '')}"
    return ""

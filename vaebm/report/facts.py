"""The opening and the record: what stands above the sections of a page, and what stands below them.

opening   the verdict, the numbers behind it, and the run in a few facts
record    what happened when, what was run, and on what the page was made
"""

import os
import platform

import torch

import vaebm
from vaebm.evaluation.metric import quantity
from vaebm.experiment.run_directory import Run
from vaebm.report.figures.dots import scores
from vaebm.report.report_data import ReportData
from vaebm.report.section import Figure
from vaebm.report.subjects import FLOORS, WITH_ENERGY, with_energy
from vaebm.report.verdict import Verdict
from vaebm.wording import counted, duration


def title_of(run: Run) -> str:
    """What a page calls a run."""
    return run.recipe.name or run.path.name


def deciding_figure(decided: Verdict) -> Figure | None:
    """The numbers behind a verdict; None where nothing decides."""
    if decided.name is None:
        return None
    what = quantity(decided.name)
    side = "left" if what.better == "lower" else "right"
    floor = set(FLOORS) & decided.measurements.keys()
    goal = " The dotted line is the goal, which no model is expected to pass." if floor else ""
    return Figure(
        scores(what, decided.measurements),
        "Every subject is measured by one protocol, and lines are two standard errors to either side. Further to the"
        f" {side} is better.{goal}",
        f"{what.title[0].upper()}{what.title[1:]}",
    )


def facts_of(report: ReportData) -> list[tuple[str, str]]:
    """Name and value of what a reader asks first."""
    run, model, chains = report.run, report.illustrations.model, report.illustrations.chains
    facts = [("data", report.data.name)]
    vae = getattr(run.recipe, "vae", None)
    for part, size in model.sizes.items():
        words = [_size(size)]
        if part == "VAE" and vae is not None:
            words = [vae.kind, *words, counted(model.latent_dim or 0, "latent"), _decoder(vae)]
        facts.append((part, ", ".join(words)))
    if len(model.sizes) == 1 and "VAE" in model.sizes:
        facts.append(("energy", f"none: {with_energy(report.subjects).name} is the VAE"))
    if chains is not None:
        facts.append(("chains", chains.run.sampler))
    facts.append(("seed", str(run.recipe.seed)))
    if history := run.history():
        facts.append(("trained in", duration(float(history[-1]["seconds"]))))
    drawing = [m for m in report.measurements if m.name == "seconds_per_thousand" and m.subject in WITH_ENERGY]
    if drawing:
        facts.append(("drawing", f"1,000 samples in {duration(drawing[-1].value)}"))
    return facts


def _size(weights: int) -> str:
    if weights == 0:
        return "in closed form"
    return f"{weights / 1e6:.1f} million weights" if weights >= 1_000_000 else counted(weights, "weight")


def _decoder(vae: object) -> str:
    kind = getattr(getattr(vae, "likelihood", None), "kind", "its own")
    return f"{str(kind).replace('_', ' ')} decoder"


def warning(run: Run) -> str:
    """What is wrong with the run; "" where nothing is."""
    last = next((event for event in reversed(run.events()) if event["event"] in ("diverged", "complete")), None)
    if last is None:
        return (
            f"Training has not come to its end, and the page shows the model saved so far. `vaebm train {run.path}`"
            " goes on."
        )
    if last["event"] == "diverged":
        return f"This run diverged, and the page shows the last good model. {last.get('message', '')}"
    return ""


def surroundings(run: Run) -> list[tuple[str, str]]:
    """Name and value of what the page was made on."""
    cpus = f"{os.cpu_count()} CPUs" if os.cpu_count() else "CPU"
    made_with = f"vaebm {vaebm.__version__}, torch {torch.__version__}, Python {platform.python_version()}"
    made_on = f"{platform.system()}, {platform.machine()}, {cpus}, {counted(torch.get_num_threads(), 'thread')}"
    return [("run", str(run.path)), ("page made with", made_with), ("page made on", made_on)]


def events(run: Run) -> list[tuple[str, str]]:
    """Times from the start of training, and what happened.

    A stage begins where the one before it ended; an event that names its own time has that.
    """
    ends: dict[str, float] = {}
    for row in run.history():
        ends[str(row["stage"])] = float(row["seconds"])
    told, reached = [], 0.0
    for event in run.events():
        if event["event"] == "stage":
            words = f"stage {event['stage'].replace('_', ' ')} began, with {counted(event['iterations'], 'iteration')}"
        else:
            words = f"{event['event'].replace('_', ' ')}: {event.get('message', '')}".removesuffix(": ")
        if event["event"] in ("complete", "diverged"):
            reached = max(reached, *ends.values(), 0.0)
        told.append((duration(float(event.get("seconds", reached))), words))
        reached = max(reached, ends.get(str(event.get("stage")), 0.0))
    return told

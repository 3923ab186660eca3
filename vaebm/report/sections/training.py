"""Training: the figures of both stages against iterations."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vaebm.report.figures.curves import Curve, curves
from vaebm.report.report_data import ReportData
from vaebm.report.section import Figure, Row, Section
from vaebm.report.subjects import number

FRACTIONS = {
    "acceptance": (
        "acceptance of chains",
        "Acceptance near 0 or 1 says that chains hardly move or take needlessly small steps.",
    ),
    "proposal_ess": (
        "proposals that count",
        (
            "Proposals that count are the effective share of the start's samples under the energy. Where it falls"
            " towards 0, few of them stand for the model."
        ),
    ),
    "stuck_fraction": ("chains not finite", "No chain should meet values that are not finite."),
}
LogRow = Mapping[str, Any]  # one line of metrics.jsonl
INDISTINGUISHABLE = math.log(4.0)  # the logistic loss where nothing tells data from samples


def training_section(report: ReportData) -> Section:
    """How it was learned."""
    title, run = "How it was learned", report.run
    history = run.history()
    if not history:
        return Section(
            "training", title, ["The run has no figures of its training: metrics.jsonl is empty or missing."]
        )
    vae = [row for row in history if "elbo" in row]
    energy = [row for row in history if "elbo" not in row]
    rows = []
    if vae:
        kl_weight = getattr(run.recipe.vae_stage.objective, "kl_weight", 1.0)
        rows.append(Row(_vae_figures(vae, kl_weight), 400, 540))
    lengths = {event["stage"]: float(event["iterations"]) for event in run.events() if event["event"] == "stage"}
    if figures := _energy_figures(energy, lengths):
        rows.append(Row(figures, 400, 540))
    sentences = ["Each point is the mean over the iterations since the one before it."]
    if not energy:
        sentences.append("There are no figures of an energy: the recipe trains none, or the run has not come so far.")
    sentences += _health(history, run.events())
    return Section("training", title, sentences, rows)


def _health(rows: Sequence[LogRow], events: Sequence[Mapping[str, Any]]) -> list[str]:
    """How each stage ended, and what was warned of on the way."""
    last = {str(row["stage"]): str(row["health"]) for row in rows if row.get("health")}
    ended = [f"Stage {stage} ended so: {words}." for stage, words in last.items()]
    return [*ended, *(f"A warning in {event['message']}." for event in events if event["event"] == "warning")]


def _vae_figures(rows: Sequence[LogRow], kl_weight: float) -> list[Figure]:
    iterations = [float(row["iteration"]) for row in rows]
    groups = [key for key in rows[-1] if key.startswith("kl_") and key != "kl_weight"]
    risen = next((float(row["iteration"]) for row in rows if row.get("kl_weight", 0.0) >= kl_weight), None)
    boundaries = {} if risen is None or risen == iterations[0] else {f"KL weight {kl_weight:g}": risen}
    last = rows[-1]
    elbo = {"ELBO": (iterations, [row["elbo"] for row in rows])}
    kl = {key.removeprefix("kl_"): (iterations, [row[key] for row in rows]) for key in groups}
    said = ", ".join(f"{last[key]:.1f} nats in {key.removeprefix('kl_')}" for key in groups)
    return [
        Figure(
            curves("ELBO of the VAE", "nats a data point", elbo, boundaries=boundaries),
            f"This lower bound on the log-likelihood ended at {number(last['elbo'])} nats. Higher is better, and it"
            " should level off.",
        ),
        Figure(
            curves("KL divergence by group of codes", "nats a data point", kl, boundaries=boundaries),
            f"The codes say this much about their data: {said} at the end. Near 0 they would say nothing (a collapse).",
        ),
    ]


def _energy_figures(rows: Sequence[LogRow], lengths: Mapping[str, float]) -> list[Figure]:
    starts = _starts(rows, lengths)
    boundaries = starts if len(starts) > 1 else {}
    figures = []

    def curve(key: str, factor: float = 1.0, shift: float = 0.0, chosen: Sequence[LogRow] = rows) -> Curve:
        there = [row for row in chosen if key in row]
        iterations = [starts[row["stage"]] + row["iteration"] for row in there]
        return iterations, [factor * row[key] + shift for row in there]

    def draw(caption: str, title: str, unit: str, named: Mapping[str, Curve], **more: Any) -> None:
        figures.append(Figure(curves(title, unit, named, **{"boundaries": boundaries, **more}), caption))

    if any("gap" in row for row in rows):
        draw(_gap_caption(rows), "Energy gap", "nats", {"gap": curve("gap")}, level=(0.0, "samples like data"))
    if any("ratio_excess" in row for row in rows):
        draw(
            "The loss says how well data are told from the samples of the model before. Below log 4 there is something"
            " to correct. In rounds it should come back towards log 4. Above log 4 the energy would be running away.",
            "Logistic loss",
            "nats",
            {"loss": curve("ratio_excess", shift=INDISTINGUISHABLE)},
            level=(INDISTINGUISHABLE, "log 4: not to be told apart"),
        )
    gained = [row for row in rows if "contrast" in row and "proposal_ess" in row and "ratio_excess" not in row]
    if gained:
        draw(
            "The model gained this over itself without E(x), by importance sampling on each batch. Higher is better.",
            "Log-likelihood gained",
            "nats a data point",
            {"gain": curve("contrast", -1.0, 0.0, gained)},
            boundaries=None,
        )
    named = {name: curve(key) for key, (name, _) in FRACTIONS.items() if any(row.get(key) for row in rows)}
    if named:
        caption = " ".join(caption for name, caption in FRACTIONS.values() if name in named)
        title = "Sampling while learning" if len(named) > 1 else next(iter(named)).capitalize()
        draw(caption, title, "fraction", named, limits=(-0.03, 1.03))
    return figures


def _gap_caption(rows: Sequence[LogRow]) -> str:
    last = [row["gap"] for row in rows if "gap" in row][-1]
    return (
        "The gap is the mean energy of the samples that the energy learns from, less that of data. It begins at 0,"
        f" where the energy knows nothing, rises as the energy learns, and ended at {number(last)} nats. Against"
        " samples of the start it stays up, and against the model's own chains it should come down to 0. A gap that"
        " runs off to either side is a divergence."
    )


def _starts(rows: Sequence[LogRow], lengths: Mapping[str, float]) -> dict[str, float]:
    """Where each stage begins on an axis that counts iterations of all of them."""
    starts: dict[str, float] = {}
    reached = 0.0
    for name in dict.fromkeys(str(row["stage"]) for row in rows):
        starts[name] = reached
        reached += lengths.get(name) or max(float(row["iteration"]) for row in rows if row["stage"] == name)
    return starts

"""Training: the figures of both stages against iterations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vaebm.experiment.run_directory import Run
from vaebm.report.chapter import Chapter, Plate, Plates
from vaebm.report.figures.curves import Curve, curves
from vaebm.report.story.words import number
from vaebm.training.estimators.contrast import INDISTINGUISHABLE

FigureRow = Mapping[str, Any]  # one line of metrics.jsonl


def training_chapter(run: Run) -> Chapter:
    """How it was learned."""
    title = "How it was learned"
    history = run.history()
    if not history:
        return Chapter(
            "training", title, ["The run has no figures of its training: metrics.jsonl is empty or missing."]
        )
    vae = [row for row in history if "elbo" in row]
    energy = [row for row in history if "elbo" not in row]
    blocks = []
    if vae:
        blocks.append(Plates(_vae_plates(vae, getattr(run.recipe.vae_stage.objective, "kl_weight", 1.0)), 400, 540))
    if energy:
        blocks.append(Plates(_energy_plates(energy, _stage_lengths(run)), 400, 540))
    sentences = ["Each point is the mean over the iterations since the one before it."]
    if not energy:
        sentences.append("There are no figures of an energy: the recipe trains none, or the run has not come so far.")
    return Chapter("training", title, sentences, blocks)


def _vae_plates(rows: Sequence[FigureRow], kl_weight: float) -> list[Plate]:
    iterations = [float(row["iteration"]) for row in rows]
    groups = [key for key in rows[-1] if key.startswith("kl_") and key != "kl_weight"]
    risen = next((float(row["iteration"]) for row in rows if row.get("kl_weight", 0.0) >= kl_weight), None)
    boundaries = {} if risen is None or risen == iterations[0] else {f"KL weight {kl_weight:g}": risen}
    last = rows[-1]
    elbo = curves(
        "ELBO of the VAE",
        "nats a data point",
        {"ELBO": (iterations, [row["elbo"] for row in rows])},
        boundaries=boundaries,
    )
    kl = curves(
        "KL divergence by group of codes",
        "nats a data point",
        {key.removeprefix("kl_"): (iterations, [row[key] for row in rows]) for key in groups},
        boundaries=boundaries,
    )
    said = ", ".join(f"{last[key]:.1f} nats in {key.removeprefix('kl_')}" for key in groups)
    return [
        Plate(
            elbo,
            f"The lower bound on the log-likelihood, up is better: {number(last['elbo'])} nats at the end. It should"
            " level off.",
        ),
        Plate(
            kl,
            f"How much the codes say about their data: {said} at the end. Near 0 they would say nothing (a collapse).",
        ),
    ]


def _energy_plates(rows: Sequence[FigureRow], lengths: Mapping[str, float]) -> list[Plate]:
    starts = _starts(rows, lengths)
    boundaries = starts if len(starts) > 1 else {}

    def curve(key: str, factor: float = 1.0, shift: float = 0.0, chosen: Sequence[FigureRow] = rows) -> Curve:
        there = [row for row in chosen if key in row]
        return (
            [starts[row["stage"]] + row["iteration"] for row in there],
            [factor * row[key] + shift for row in there],
        )

    plates = []
    if any("gap" in row for row in rows):
        picture = curves(
            "Energy gap", "nats", {"gap": curve("gap")}, boundaries=boundaries, level=(0.0, "samples like data")
        )
        plates.append(Plate(picture, _gap_caption(rows)))
    if any("ratio_excess" in row for row in rows):
        loss = curve("ratio_excess", shift=INDISTINGUISHABLE)
        level = (INDISTINGUISHABLE, "log 4: not to be told apart")
        picture = curves("Logistic loss", "nats", {"loss": loss}, boundaries=boundaries, level=level)
        plates.append(
            Plate(
                picture,
                "How well data are told from the samples of the model before. Below log 4 there is something to"
                " correct; in rounds it should come back towards log 4; above it the energy would be running away.",
            )
        )
    gained = [row for row in rows if "contrast" in row and "proposal_ess" in row and "ratio_excess" not in row]
    if gained:
        picture = curves("Log-likelihood gained", "nats a data point", {"gain": curve("contrast", -1.0, 0.0, gained)})
        plates.append(
            Plate(picture, "Over the model without E(x), by importance sampling on each batch: up is better.")
        )
    shares = {
        "acceptance": "acceptance of chains",
        "proposal_ess": "proposals that count",
        "stuck_fraction": "chains not finite",
    }
    named = {name: curve(key) for key, name in shares.items() if any(row.get(key) for row in rows)}
    if named:
        title = "Sampling while learning" if len(named) > 1 else next(iter(named)).capitalize()
        picture = curves(title, "share", named, boundaries=boundaries, limits=(-0.03, 1.03))
        plates.append(Plate(picture, _shares_caption(named)))
    return plates


def _gap_caption(rows: Sequence[FigureRow]) -> str:
    last = [row["gap"] for row in rows if "gap" in row][-1]
    return (
        "Mean energy of the samples that the energy learns from less that of data. It begins at 0, where the energy"
        f" knows nothing, rises as it learns, and ended at {number(last)} nats. Against samples of the start it stays"
        " up; against the model's own chains it should come down to 0. Running off to either side is divergence."
    )


def _shares_caption(named: Mapping[str, Curve]) -> str:
    words = {
        "acceptance of chains": "Acceptance near 0 or 1 says that chains hardly move or take needlessly small steps.",
        "proposals that count": "Proposals that count are the effective share of the start's samples under the"
        " energy: where it falls towards 0, few of them stand for the model.",
        "chains not finite": "Chains that met values which are not finite should be none.",
    }
    return " ".join(words[name] for name in named)


def _starts(rows: Sequence[FigureRow], lengths: Mapping[str, float]) -> dict[str, float]:
    """Where each stage begins on an axis that counts iterations of all of them."""
    starts: dict[str, float] = {}
    reached = 0.0
    for name in dict.fromkeys(str(row["stage"]) for row in rows):
        starts[name] = reached
        reached += lengths.get(name) or max(float(row["iteration"]) for row in rows if row["stage"] == name)
    return starts


def _stage_lengths(run: Run) -> dict[str, float]:
    return {event["stage"]: float(event["iterations"]) for event in run.events() if event["event"] == "stage"}

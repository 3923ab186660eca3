"""Advice: which sampler a comparison recommends, in sentences that follow from its numbers.

Of distances d with standard errors s, two count as different if they differ by more than `SURE` sqrt(s^2 + t^2). A sampler
is as good as the best from that point of its curve on from which no distance is more than that above the best final one.
Recommended is the one that gets there with the fewest gradients; of several the one that is then closest. The samplers
share their starts, so that taking the errors as independent overstates them.

What else the numbers say is said with it: whether chains forget their start, and whether they gain anything over it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SURE = 2.0
MIXED = 1.1  # R-hat up to which so short chains are called mixed; 1.01 asks for longer ones
REJECTED = 1e-3

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Advice:
    """The recommended sampler and the sentences."""

    sampler: str
    text: str


def advise(rows: Sequence[Row], key: str, words: Mapping[str, str], start: tuple[float, float] | None) -> Advice:
    """The advice.

    Args:
        rows: as `samplers.json` holds them, at least one.
        key: the measurement that ranks; lower is better.
        words: what to call `key` in a sentence, under "key", and each sampler, where not by its own name.
        start: of the start that all chains share, the same distance and its standard error.
    """
    best = min(rows, key=lambda row: _distance(row, key)[0])
    level = _distance(best, key)
    reached = {row["sampler"]: _reached(row, key, level) for row in rows}
    equal = [row for row in rows if reached[row["sampler"]] is not None]
    chosen = min(equal, key=lambda row: (reached[row["sampler"]], _distance(row, key)[0]))
    name = words.get(chosen["sampler"], chosen["sampler"])
    soonest = reached[chosen["sampler"]]
    sentences = [f"Use {name}: " + _why(chosen, best, key, words, soonest, level)]
    others = [row for row in equal if row is not chosen]
    if others:
        sentences.append(_others(others, reached, words))
    worse = [row["sampler"] for row in rows if reached[row["sampler"]] is None]
    if worse:
        sentences.append(f"Behind at equal cost: {_listed([words.get(w, w) for w in worse])}.")
    if "mode_chi_square_p" in chosen["quality"]:
        sentences.append(_proportions(chosen))
    if start is not None and start[0] - level[0] <= SURE * math.hypot(start[1], level[1]):
        sentences.append(
            f"None of them is measurably better than the start that the chains share ({_number(*start)}): with so many "
            "samples the gradients buy nothing that this measure sees."
        )
    sentences.append(_mixing(chosen, rows, words))
    return Advice(chosen["sampler"], " ".join(sentence for sentence in sentences if sentence))


def _distance(row: Row, key: str) -> tuple[float, float]:
    return row["quality"][key], row["quality_stderr"][key]


def _reached(row: Row, key: str, level: tuple[float, float]) -> int | None:
    """The gradients from which on the curve stays at the level of the best, or None."""
    soonest = None
    for look in reversed(row["curve"]):
        value, stderr = look["quality"][key], look["quality_stderr"][key]
        if value - level[0] > SURE * math.hypot(stderr, level[1]):
            break
        soonest = look["gradients"]
    return soonest


def _why(
    chosen: Row, best: Row, key: str, words: Mapping[str, str], soonest: int | None, level: tuple[float, float]
) -> str:
    distance = _distance(chosen, key)
    said = f"its {words['key']} of {_number(*distance)} after {chosen['gradients']} gradients a sample is "
    if chosen is best:
        said += "the smallest of all"
    else:
        said += f"as good as the smallest, {_number(*level)} of {words.get(best['sampler'], best['sampler'])}"
    if soonest is not None and soonest < chosen["gradients"]:
        said += f", and {soonest} gradients already reach that level"
    return said + "."


def _others(others: Sequence[Row], reached: Mapping[str, int | None], words: Mapping[str, str]) -> str:
    said = [f"{words.get(row['sampler'], row['sampler'])} ({reached[row['sampler']]})" for row in others]
    return f"Not told apart from it, with the gradients they need: {_listed(said)}."


def _proportions(chosen: Row) -> str:
    quality = chosen["quality"]
    fits = quality["mode_chi_square_p"] >= REJECTED
    return (
        f"Its {chosen['n']:,} samples cover {quality['modes_covered']:.0f} modes, "
        f"{quality['within_three_sigma']:.1%} of them within three standard deviations, "
        f"{'in' if fits else 'not in'} proportion to the masses (chi-square {quality['mode_chi_square']:.1f}, "
        f"p = {quality['mode_chi_square_p']:.2g})."
    )


def _mixing(chosen: Row, rows: Sequence[Row], words: Mapping[str, str]) -> str:
    chains = [row for row in rows if row["rhat"] is not None and row["rhat_between_starts"] is not None]
    if not chains:
        return ""
    smallest = min(chains, key=lambda row: row["rhat"])
    name = words.get(smallest["sampler"], smallest["sampler"])
    if chosen["rhat_between_starts"] is None:
        said = "It has no chains that would have to forget a start"
        if smallest["rhat"] > MIXED:
            said += f"; those of the others do not (smallest R-hat {smallest['rhat']:.2f}, of {name})"
        return said + "."
    if chosen["rhat"] <= MIXED:
        return f"Its chains mix: started from the model and from data they agree (R-hat {chosen['rhat']:.2f})."
    said = f"No single chain of it sees everything in so few steps (R-hat {chosen['rhat']:.2f})"
    if chosen["rhat_between_starts"] <= MIXED:
        agree = f"chains from the model's start and from data agree as groups ({chosen['rhat_between_starts']:.2f})"
        return f"{said}, but {agree}: draw one sample from each of many chains."
    apart = f"chains from the model's start and from data still differ as groups ({chosen['rhat_between_starts']:.2f})"
    ending = "what the start gets wrong, it keeps"
    if smallest is not chosen and smallest["rhat"] <= MIXED:
        ending += f"; {name} mixes (R-hat {smallest['rhat']:.2f})"
    return f"{said}, and {apart}: {ending}."


def _number(value: float, stderr: float) -> str:
    digits = max(0, 1 - math.floor(math.log10(stderr))) if stderr > 0 else 3
    return f"{value:.{digits}f} ± {stderr:.{digits}f}"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"

r"""Advice: which sampler a comparison recommends, in sentences that follow from its numbers.

Two distances are not told apart if they differ by less than `SURE` standard errors of their difference, and a mean
energy is that of the model if it is within `CLOSE` of its own. A sampler has *arrived* at that point of its curve from
which on its distance is not told apart from the best final one and its mean energy is that of the model. Recommended
is, of those whose final distance is within `LIKELY` standard errors of the best (the one-standard-error rule: what may
well be the best), the one that arrives with the fewest gradients; of several the one whose distance is then smallest.
A sampler most of whose chains never moved is not among them: its samples are those of the start.

What else the numbers say is said with it: whether anything is gained over the start that the chains share, whether
the samples have the right proportions, whether chains forget where they began. All chains share a start, so that
taking errors as independent overstates them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

LIKELY, SURE, CLOSE = 1.0, 2.0, 3.0
MIXED = 1.1  # R-hat up to which so short chains are called mixed; 1.01 asks for longer ones
REJECTED = 1e-3
MIN_MOVED = 0.5
SHIFT = "energy_shift"

Row = Mapping[str, Any]


class Advice(NamedTuple):
    """The recommended sampler and the sentences."""

    sampler: str
    text: str


def advise(rows: Sequence[Row], key: str, key_label: str, start: Mapping[str, tuple[float, float]]) -> Advice | None:
    """Advice by rows as `samplers.json` holds them; None where no sampler has moved its chains.

    `key` is the measurement that ranks, lower is better, and `key_label` its name in sentences; `start` has quality and
    standard errors of the start that chains share, by name.
    """
    moving = [row for row in rows if row["moved"] >= MIN_MOVED]
    if not moving:
        return None
    advisor = _Advisor(rows, moving, key, key_label, start)
    return Advice(advisor.chosen["sampler"], " ".join(filter(None, advisor.sentences())))


@dataclass
class _Advisor:
    """Reads rows, of which those that are `moving` are ranked."""

    rows: Sequence[Row]
    moving: Sequence[Row]
    key: str
    key_label: str
    start: Mapping[str, tuple[float, float]]

    def __post_init__(self) -> None:
        key = self.key
        self.best = min(self.moving, key=lambda row: row["quality"][key])
        self.level = (self.best["quality"][key], self.best["quality_stderr"][key])
        arrivals = self.arrivals = {row["sampler"]: self._arrival(row) for row in self.moving}
        likely = [row for row in self.moving if arrivals[row["sampler"]] and not self._behind_best(row, LIKELY)]
        self.chosen = min(likely, key=lambda row: (arrivals[row["sampler"]], row["quality"][key]), default=self.best)

    def sentences(self) -> list[str]:
        """All of them; "" where there is nothing to say."""
        return [
            self._use(), self._also(), self._behind(), self._stuck(), self._proportions(), self._gain(), self._mixing()
        ]  # fmt: skip

    def _arrival(self, row: Row) -> int | None:
        soonest = None
        for look in reversed(row["curve"]):
            if self._behind_best(look) or off_energy(look):
                break
            soonest = look["gradients"]
        return soonest

    def _behind_best(self, look: Row, errors: float = SURE) -> bool:
        value, stderr = look["quality"][self.key], look["quality_stderr"][self.key]
        return bool(value - self.level[0] > errors * math.hypot(stderr, self.level[1]))

    def _use(self) -> str:
        chosen, soonest = self.chosen, self.arrivals[self.chosen["sampler"]]
        distance = _number(chosen["quality"][self.key], chosen["quality_stderr"][self.key])
        said = f"Use {chosen['label']}: after {chosen['gradients']} gradients a sample"
        said += f" its {self.key_label} is {distance}, "
        if chosen is self.best:
            said += "the smallest of all"
        else:
            said += f"within a standard error of the smallest ({_number(*self.level)}, {self.best['label']})"
        if SHIFT in chosen["quality"]:
            shift = _number(chosen["quality"][SHIFT], chosen["quality_stderr"][SHIFT], sign=True)
            verdict = "still differs from" if off_energy(chosen) else "is"
            said += f", and its mean energy {verdict} that of the model ({shift} nats)"
        if soonest is not None and soonest < chosen["gradients"]:
            said += f"; {soonest} gradients are enough for that"
        return said + "."

    def _also(self) -> str:
        arrivals = {row["label"]: self.arrivals[row["sampler"]] for row in self.moving if row is not self.chosen}
        said = [f"{name} ({arrival})" for name, arrival in arrivals.items() if arrival is not None]
        return f"Not told apart from it, with the gradients that they need: {_listed(said)}." if said else ""

    def _behind(self) -> str:
        said = []
        for row in self.moving:
            if row is not self.chosen and self.arrivals[row["sampler"]] is None:
                why = f"{row['quality'][self.key]:.2g}"
                if not self._behind_best(row):
                    why = f"mean energy off by {row['quality'][SHIFT]:+.2f} nats"
                said.append(f"{row['label']} ({why})")
        return f"Behind at equal cost: {_listed(said)}." if said else ""

    def _stuck(self) -> str:
        said = [f"{row['label']} ({row['moved']:.0%} moved)" for row in self.rows if row not in self.moving]
        return f"Not ranked, since their chains stayed where they began: {_listed(said)}." if said else ""

    def _proportions(self) -> str:
        quality = self.chosen["quality"]
        if "mode_chi_square_p" not in quality:
            return ""
        right = quality["mode_chi_square_p"] >= REJECTED
        return (
            f"Its {self.chosen['n']:,} samples cover {quality['modes_covered']:.0f} modes,"
            f" {'in' if right else 'not in'} proportion to their probabilities (chi-square"
            f" {quality['mode_chi_square']:.1f}, p = {quality['mode_chi_square_p']:.2g}),"
            f" {quality['within_three_sigma']:.1%} of them within three standard deviations."
        )

    def _gain(self) -> str:
        value, stderr = self.start[self.key]
        if value - self.level[0] > SURE * math.hypot(stderr, self.level[1]):
            return ""
        said = (
            f"By {self.key_label} none of them is measurably better than the model without its energy on x"
            f" ({_number(value, stderr)}): so few samples do not show a smaller difference"
        )
        if SHIFT in self.start and not off_energy(self.chosen):
            said += f"; the mean energy, {self.start[SHIFT][0]:+.2f} nats off at the start, does"
        return said + "."

    def _mixing(self) -> str:
        chains = [row for row in self.moving if row["rhat"] is not None and row["rhat_between_starts"] is not None]
        if not chains:
            return ""
        alone, together = self.chosen["rhat"], self.chosen["rhat_between_starts"]
        least = min(chains, key=lambda row: row["rhat"])
        if together is None:
            if least["rhat"] <= MIXED:
                return f"Of those with chains, {least['label']} mixes best (R-hat {least['rhat']:.2f})."
            return (
                "No chain of any sampler sees everything by itself (smallest R-hat"
                f" {least['rhat']:.2f}, {least['label']})."
            )
        if alone <= MIXED:
            return f"Its chains mix: from the model's start and from data they agree one by one (R-hat {alone:.2f})."
        said = f"None of its chains sees everything by itself (R-hat {alone:.2f}), "
        if together <= MIXED:
            return said + (
                "but those from the model's start and those from data agree as groups"
                f" ({together:.2f}): draw one sample from each of many chains."
            )
        return said + (
            "and those from the model's start and those from data differ even as groups"
            f" ({together:.2f}): they keep what the start gets wrong."
        )


def off_energy(look: Row) -> bool:
    """Whether the mean energy is known to be another than the model's."""
    shift = look["quality"].get(SHIFT)
    return shift is not None and abs(shift) > CLOSE * look["quality_stderr"][SHIFT]


def _number(value: float, stderr: float, *, sign: bool = False) -> str:
    digits = max(0, 1 - math.floor(math.log10(stderr))) if stderr > 0 else 3
    return f"{value:{'+' if sign else ''}.{digits}f} ± {stderr:.{digits}f}"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"

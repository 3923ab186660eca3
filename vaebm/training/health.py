"""Health: how a stage is doing, in words, and a warning of what goes wrong slowly.

Each line of the log becomes a health line, which stands beside the progress bar, in metrics.jsonl and in the report:

    gap 1.2 nats, steady; chains move (acceptance 0.81); held-out gain 1.69 nats, rising

What the divergence monitor (monitor.py) stops at once is no matter of this file. A warning changes nothing: it is a
sentence with numbers, the likely cause and the stage's setting, said once a stage. A block is `BLOCK` iterations.

| what is warned of | the setting |
| --- | --- |
| a gap to the model's own chains that grew in each of `TREND` blocks, by `GROWTH` nats in all | the learning rate |
| E over data or samples: a scale that grew in each of `TREND` blocks, and is `WIDE` nats | the learning rate |
| steps that move E over held-out data by a quarter of its scale there | the learning rate |
| a mean of E over data that has wandered `LEVEL` nats from 0 | the energy-square penalty |
| a held-out gain below 0: data are less likely than without the energy | the learning rate |
| chains that are stuck (a tenth), or hardly accept a step | the sampler's step |
| chains that saturate: a twentieth of them end at more than twice the base's scale | the sampler's step |
| chains that have become alike: half of the spread that the base has | the replay probability, or the learning rate |
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from statistics import fmean
from typing import Any, Protocol

from vaebm.errors import Step

BLOCK = 50  # iterations
TREND = 6  # blocks
GROWTH, WIDE, LEVEL = 2.0, 20.0, 1000.0  # nats
MOVING, STUCK, FAR, ALIKE, REJECTING = 0.25, 0.1, 0.05, 0.5, 0.05
STEADY, STEADY_NATS = 0.1, 0.2  # a change by that fraction, or by so many nats, is none
WATCHED = (
    "elbo", "gap", "energy_spread", "negative_spread", "energy_level", "drift", "drift_scale", "acceptance",
    "stuck_fraction", "far_fraction", "chain_diversity", "buffer_age",
)  # fmt: skip


class Named(Protocol):
    """A stage, as far as a warning has to name it and its settings."""

    name: str
    path: str

    def setting(self, step: Step) -> str:
        """The path of the setting of a step."""


class Health:
    """Of the stage that is under way."""

    def __init__(self) -> None:
        self.begin_stage()

    def begin_stage(self) -> None:
        """Forgets the stage before."""
        self.line = ""
        self._block: list[dict[str, float]] = []  # lines of the log that make the next block
        self._from = 0  # the iteration at which it began
        self._blocks: list[dict[str, float]] = []
        self._gains: list[tuple[int, float]] = []
        self._warned: list[str] = []

    def look(self, stage: Named, iteration: int, row: Mapping[str, float]) -> list[str]:
        """Reads a line of the log, sets `line`, and returns new warnings."""
        self._block.append({name: row[name] for name in WATCHED if name in row})
        if iteration - self._from >= BLOCK:
            self._blocks = [*self._blocks, _means(self._block)][-TREND:]
            self._block, self._from = [], iteration
        if "validation_gain" in row:
            self._gains.append((iteration, row["validation_gain"]))
        self.line = "; ".join(self._words(row))
        new = [(what, said) for what, said in self._warnings(stage, row) if what not in self._warned]
        self._warned += [what for what, _ in new]
        return [f"{stage.name}, iteration {iteration}: {said}" for _, said in new]

    def _words(self, row: Mapping[str, float]) -> Iterator[str]:
        if "elbo" in row:
            yield f"ELBO {row['elbo']:.1f} nats{self._trend('elbo')}"
        if "gap" in row:
            to = "" if "acceptance" in row else " to the base"  # where it is no fault that it grows
            yield f"gap{to} {row['gap']:.1f} nats{self._trend('gap')}"
        if "acceptance" in row:
            how = "move" if row["acceptance"] >= REJECTING else "hardly move"
            yield f"chains {how} (acceptance {row['acceptance']:.2f})"
        if row.get("stuck_fraction", 0.0) >= 0.01:
            yield f"{row['stuck_fraction']:.0%} of the chains stuck"
        if row.get("chain_diversity", 1.0) < ALIKE:
            yield f"chains alike ({row['chain_diversity']:.2f} of the base's spread)"
        if _moves(row) > MOVING:
            yield f"a step moves E by {_moves(row):.0%} of its scale"
        if self._gains:
            (at, best), (_, last) = max(self._gains, key=lambda gain: gain[1]), self._gains[-1]
            how = f"falling (the best, {best:.2f} at iteration {at}, is kept)"
            if len(self._gains) == 1:
                yield f"held-out gain {last:.2f} nats"
            else:
                yield f"held-out gain {last:.2f} nats, {'rising' if last == best else how}"

    def _trend(self, name: str) -> str:
        """', rising' and so on, over four blocks; empty while there are fewer than two."""
        values = [block[name] for block in self._blocks if name in block][-4:]
        if len(values) < 2:
            return ""
        change, small = values[-1] - values[0], max(STEADY_NATS, STEADY * abs(values[0]))
        return ", steady" if abs(change) <= small else ", rising" if change > 0 else ", falling"

    def _warnings(self, stage: Named, row: Mapping[str, float]) -> Iterator[tuple[str, str]]:
        lower = f"lower {stage.setting('learning_rate')}"
        span = f"over the last {BLOCK * TREND} iterations"
        if "acceptance" in row and (grown := self._growth("gap")) and grown[1] - grown[0] > GROWTH:
            said = f"the gap between samples and data grew steadily from {grown[0]:.1f} to {grown[1]:.1f} nats {span}"
            yield "gap", f"{said}: chains do not follow the energy; {lower}, or give the sampler more steps"
        for name, of in (("energy_spread", "data"), ("negative_spread", "samples")):
            if (grown := self._growth(name)) and grown[1] > WIDE:
                said = f"the scale of E over {of} grew steadily from {grown[0]:.1f} to {grown[1]:.1f} nats {span}"
                yield name, f"{said}: chains will not follow that for long; {lower}"
        if (moved := _moves(self._blocks[-1] if self._blocks else {})) > MOVING:
            said = f"one step moves E over the same held-out data by {moved:.0%} of its scale"
            yield "drift", f"{said}: it forgets while it learns; {lower}"
        if abs(level := row.get("energy_level", 0.0)) > LEVEL:
            said = f"the mean of E over data is {level:.0f} nats, and float32 loses digits of its differences"
            yield "level", f"{said}; raise {stage.path}.energy_square"
        if len(self._gains) > 1 and max(gain for _, gain in self._gains[-2:]) < 0:
            said = f"the held-out gain is {self._gains[-1][1]:.2f} nats"
            yield "gain", f"{said}: data are less likely than without the energy; {lower}"
        yield from self._chain_warnings(stage, row)

    def _chain_warnings(self, stage: Named, row: Mapping[str, float]) -> Iterator[tuple[str, str]]:
        shorter = f"lower {stage.setting('step_size')}"
        if (stuck := row.get("stuck_fraction", 0.0)) > STUCK:
            yield "stuck", f"{stuck:.0%} of the chains do not move or met values that are not finite; {shorter}"
        if (acceptance := row.get("acceptance", 1.0)) < REJECTING:
            yield "acceptance", f"chains hardly move (acceptance {acceptance:.2f}): their step is too long; {shorter}"
        if (far := row.get("far_fraction", 0.0)) > FAR:
            yield "far", f"{far:.0%} of the chains end at more than twice the scale of the base; {shorter}"
        if (diversity := row.get("chain_diversity", 1.0)) < ALIKE:
            said = f"chains have become alike: they spread by {diversity:.2f} of what the base does"
            setting = "learning_rate"
            if "buffer_age" in row:
                said, setting = f"{said}, {row['buffer_age']:.0f} moves after they began", "replay_prob"
            yield "alike", f"{said}; lower {stage.path}.{setting}"

    def _growth(self, name: str) -> tuple[float, float] | None:
        """The first and the last of `TREND` blocks, each of which is above the one before."""
        values = [block[name] for block in self._blocks if name in block]
        if len(values) < TREND or any(later <= one for one, later in pairwise(values)):
            return None
        return values[0], values[-1]

    def state_dict(self) -> dict[str, Any]:
        return {
            "line": self.line,
            "block": self._block,
            "from": self._from,
            "blocks": self._blocks,
            "gains": [list(gain) for gain in self._gains],
            "warned": list(self._warned),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.line, self._from = state["line"], state["from"]
        self._block, self._blocks = list(state["block"]), list(state["blocks"])
        self._gains = [(at, gain) for at, gain in state["gains"]]
        self._warned = list(state["warned"])


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: fmean(row[name] for row in rows if name in row) for name in names}


def _moves(row: Mapping[str, float]) -> float:
    """By what part of its scale, at least 1 nat, one step moves E."""
    return row.get("drift", 0.0) / max(1.0, row.get("drift_scale", 0.0))

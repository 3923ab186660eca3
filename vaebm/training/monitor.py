"""The divergence monitor: sees at once when a run's figures say that it is running away, and says what and why.

| what it sees | the likely cause |
| --- | --- |
| data that are not finite | the data |
| chains that begin where no chain ends: not finite, or far outside and on their way back | a damaged replay buffer |
| chains that end `chain_growth` times as far out as they began, or far outside | the sampler's step* |
| more than `stuck_fraction` of the chains, or all of them, stuck, where the loss is finite | the sampler's step* |
| a loss or a gradient norm that is not finite | the learning rate |
| a gradient norm beyond `gradient_growth` times its median over `window` iterations | the learning rate |
| an energy that varied over data and is now the same at all of them: its net has died | the learning rate |
| an energy gap mean E(x-) - mean E(x+) beyond `energy_gap` nats in size | the learning rate |
| a gap that drops twice in a row far below 0 and below what it was | the learning rate |
| an ELBO that stays far below what it was | the learning rate |
| steps that move E over held-out data by `drift` times its scale, or far more than before** | the learning rate |
| a logistic loss above log 4 by more than `loss_excess` over `window` iterations: worse than none | the learning rate |

Data and samples cannot differ by hundreds of nats under a model that is worth keeping; in the published code's runs the
gap grows to 1e9 before the NaN. *It is the learning rate where E already varies over data by more than a tenth of
`energy_gap`: chains cannot follow that. On an alarm the loop returns to a healthy checkpoint with a shorter step
(loop.py). **Of contrastive divergence alone: a healthy density ratio moves a young energy as far (drift.py).
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from pydantic import Field

from vaebm.errors import Diverged, Step
from vaebm.registry import Settings

FAR = 100.0  # scale of a chain's coordinates, which is 1 under the base
DEAD = 1e-6  # spread of E over data, as a fraction of the largest in the stage
SMALL_NORM = 1.0  # a gradient that is shorter harms nothing, whatever it was before
SMALL_SCALE = 1.0  # nats of energy that harm nothing, however fast they move
DROP = 8.0  # of the gap, in standard deviations
SMALL_DROP = 2.0  # nats of a gap or a bound that are no alarm, however quiet it was before
FALLEN = 10  # iterations in a row of an ELBO: a healthy one has a spike now and then
LOOKS = 3  # at the drift of energies, whose mean counts
HISTORY, JUMP, SMALL_DRIFT = 6, 6.0, 0.12  # looks that a sudden rise of two is held against, and the rise that counts


class DivergenceMonitorSettings(Settings):
    """Limits of a healthy run, and what happens beyond them."""

    energy_gap: float = Field(200.0, gt=0, description="largest size of mean E(x-) - mean E(x+), in nats")
    loss_excess: float = Field(0.5, gt=0, description="largest excess of a logistic loss over log 4, in nats")
    gradient_growth: float = Field(1e3, gt=1, description="largest gradient norm, as a multiple of its median")
    drift: float = Field(
        0.4, gt=0, description="largest change of E over held-out data in one step, as a multiple of its scale there"
    )
    window: int = Field(
        50, ge=1, description="iterations of averages and medians, and without an alarm after a healthy checkpoint"
    )
    stuck_fraction: float = Field(0.5, gt=0, le=1, description="largest fraction of chains that may be stuck")
    chain_growth: float = Field(
        10.0, gt=1, description="largest scale of the chains' ends, as a multiple of the starts'"
    )
    rollbacks: int = Field(3, ge=0, description="returns to a healthy checkpoint before a run is given up")


class DivergenceMonitor:
    """Checks each iteration's figures, where given.

    They are `loss`, `gradient_norm`, `elbo` with `kl_weight`, `gap`, `ratio_excess`, `stuck_fraction`, the scales
    `chain_start` and `chain_end` of positions, `energy_spread`, the standard deviation of E over data, and `drift` with
    `drift_scale`.
    """

    def __init__(self, settings: DivergenceMonitorSettings) -> None:
        self.settings = settings
        self.begin_stage()

    def begin_stage(self) -> None:
        """Forgets the stage before."""
        self._excess = 0.0
        self._norms: list[float] = []
        self._spread = 0.0
        self._gaps: list[float] = []
        self._drops = 0  # how many iterations the gap has dropped in a row
        self._drifts: list[float] = []
        self._elbos: list[float] = []
        self._fallen = 0  # how many iterations the ELBO has been far below these in a row
        self._kl_weight = 1.0

    def check(self, where: str, figures: Mapping[str, float], broken_rows: Sequence[int] = ()) -> None:
        """Raises `Diverged`, with what is wrong and the step that is the likely cause, where figures are not healthy.

        Args:
            where: the stage and the iteration.
            figures: by name.
            broken_rows: of the training data that are not finite and were in the batch.
        """
        chains = self._chains(figures)
        ran_away = chains if chains is not None and chains[1] == "step_size" else None
        if alarm := self._broken(figures, broken_rows) or ran_away or self._energy(figures) or chains:
            what, step = alarm
            raise Diverged(f"training diverged in {where}: {what}", step)

    def _broken(self, figures: Mapping[str, float], rows: Sequence[int]) -> tuple[str, Step | None] | None:
        if rows:
            shown = ", ".join([*map(str, rows[:5]), *(["..."] if len(rows) > 5 else [])])
            return (
                f"{len(rows)} data points of the batch are not finite: look at rows {shown} of the training data",
                None,
            )
        start = figures.get("chain_start", 0.0)
        if not start < FAR and not figures.get("chain_end", 0.0) > start:
            return f"chains began at positions of scale {start:.3g} instead of about 1, as from a damaged buffer", None
        return None

    def _chains(self, figures: Mapping[str, float]) -> tuple[str, Step] | None:
        s, start, end = self.settings, figures.get("chain_start", 0.0), figures.get("chain_end", 0.0)
        step: Step = "step_size" if figures.get("energy_spread", 0.0) <= s.energy_gap / 10 else "learning_rate"
        if not end <= (limit := min(s.chain_growth * max(1.0, start), FAR)):
            return f"chains began at scale {start:.3g} and ended at {end:.3g} (limit {limit:.3g})", step
        stuck = figures.get("stuck_fraction", 0.0)
        if math.isfinite(figures.get("loss", 0.0)) and (stuck > s.stuck_fraction or stuck >= 1.0):
            return f"{stuck:.0%} of the chains do not move or met values that are not finite", step
        return None

    def _energy(self, figures: Mapping[str, float]) -> tuple[str, Step] | None:
        s = self.settings
        for name in ("loss", "gradient_norm"):
            if not math.isfinite(figures.get(name, 0.0)):
                return f"the {name.replace('_', ' ')} is not finite", "learning_rate"
        gap, norm = figures.get("gap", 0.0), figures.get("gradient_norm", 0.0)
        if abs(gap) > s.energy_gap:
            said = f"the energy gap between samples and data is {gap:.0f} nats (limit {s.energy_gap:.0f})"
            return said, "learning_rate"
        if (alarm := self._dropped(figures) or self._fell(figures) or self._thrown_about(figures)) is not None:
            return alarm
        if len(self._norms) == s.window and norm > s.gradient_growth * max(SMALL_NORM, usual := median(self._norms)):
            return f"the gradient norm is {norm:.3g}, its median in {s.window} iterations {usual:.3g}", "learning_rate"
        self._norms = [*self._norms, norm][-s.window :]
        spread = figures.get("energy_spread", math.inf)
        if spread < DEAD * self._spread:
            return (
                f"E has died: it varies over data by {spread:.2g} nats, and did by {self._spread:.2g}",
                "learning_rate",
            )
        self._spread = max(self._spread, figures.get("energy_spread", 0.0))
        if "ratio_excess" in figures:
            self._excess += (figures["ratio_excess"] - self._excess) / s.window
            if self._excess > s.loss_excess:
                excess = f"{self._excess:.2f} nats above log 4"
                return f"the logistic loss stayed {excess}, worse than no energy", "learning_rate"
        return None

    def _dropped(self, figures: Mapping[str, float]) -> tuple[str, Step] | None:
        """A gap far below 0: E rates samples better than data, as no training towards data would have it."""
        gap, window = figures.get("gap", math.nan), self.settings.window
        if not math.isfinite(gap):
            return None
        if len(self._gaps) == window:
            middle = median(self._gaps)
            limit = min(0.0, middle) - _harmless(self._gaps)
            self._drops = self._drops + 1 if gap < limit else 0
            if self._drops == 2:
                said = f"the energy gap between samples and data dropped to {gap:.2g} nats, from {middle:.2g}"
                return f"{said}: E is lower at samples than at data", "learning_rate"
        if not self._drops:
            self._gaps = [*self._gaps, gap][-window:]
        return None

    def _fell(self, figures: Mapping[str, float]) -> tuple[str, Step] | None:
        """A bound that is lost: steps have thrown the VAE out of what it had learned."""
        if "elbo" not in figures:
            return None
        elbo, weight, window = figures["elbo"], figures.get("kl_weight", 1.0), self.settings.window
        if weight != self._kl_weight:  # in a warm-up codes may cost more from one iteration to the next
            self._elbos, self._fallen, self._kl_weight = [], 0, weight
        if len(self._elbos) == window:
            middle = median(self._elbos)
            self._fallen = self._fallen + 1 if elbo < middle - _harmless(self._elbos) else 0
            if self._fallen == FALLEN:
                return f"the ELBO fell to {elbo:.4g} nats from {middle:.4g} and stays there", "learning_rate"
        if not self._fallen:
            self._elbos = [*self._elbos, elbo][-window:]
        return None

    def _thrown_about(self, figures: Mapping[str, float]) -> tuple[str, Step] | None:
        """An energy that each step changes by as much as it knows."""
        if "drift" not in figures:
            return None
        drift, scale = figures["drift"], figures["drift_scale"]
        self._drifts = [*self._drifts, drift / max(SMALL_SCALE, scale)][-HISTORY - 2 :]
        said = f"one step moves E over the same held-out data by {drift:.2g} nats, where it varies by {scale:.2g}"
        *before, last, newest = [math.nan, *self._drifts]
        mean, two = fmean(self._drifts[-LOOKS:]), (last + newest) / 2
        if len(self._drifts) >= LOOKS and not mean <= self.settings.drift:
            limit = f"limit {self.settings.drift:g}"
            return f"{said} (the mean of {LOOKS} looks is {mean:.2f} times, {limit})", "learning_rate"
        if len(before) > HISTORY and two > max(SMALL_DRIFT, JUMP * (usual := median(before[1:]))):
            return f"{said} (the mean of two looks is {two:.2f} times, and was {usual:.2g})", "learning_rate"
        return None

    def state_dict(self) -> dict[str, Any]:
        seen = {"gaps": self._gaps, "drops": self._drops, "drifts": self._drifts}
        seen |= {"elbos": self._elbos, "fallen": self._fallen, "kl_weight": self._kl_weight}
        return {"excess": self._excess, "norms": self._norms, "spread": self._spread, **seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._excess, self._norms, self._spread = state["excess"], list(state["norms"]), state["spread"]
        self._gaps, self._drops, self._drifts = list(state["gaps"]), state["drops"], list(state["drifts"])
        self._elbos, self._fallen, self._kl_weight = list(state["elbos"]), state["fallen"], state["kl_weight"]


def _harmless(seen: Sequence[float]) -> float:
    """Nats by which a figure may be below the median of those seen."""
    middle = median(seen)
    return max(SMALL_DROP, DROP * 1.48 * median(abs(one - middle) for one in seen))

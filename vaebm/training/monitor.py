"""The divergence monitor: stops a run at once when its figures say that the energy is running away, and says why.

It stops training when
- the loss or a gradient norm is not finite;
- the energy gap mean E(x-) - mean E(x+) is beyond `energy_gap` nats in size: data and samples cannot differ by that
  much under a model that is worth keeping (in the published code's runs it grows to 1e9 before the NaN);
- a logistic loss stays above log 4 by more than `loss_excess` over `window` iterations: the ratio is worse than none;
- more than `stuck_fraction` of the chains, or all of them, met values that are not finite.

There is no rollback yet: training stops and keeps the last good checkpoint.
"""

import math
from collections.abc import Mapping

from pydantic import Field

from vaebm.errors import Diverged
from vaebm.registry import Settings


class DivergenceMonitorSettings(Settings):
    """Limits of a healthy run."""

    energy_gap: float = Field(200.0, gt=0, description="largest size of mean E(x-) - mean E(x+), in nats")
    loss_excess: float = Field(0.5, gt=0, description="largest excess of a logistic loss over log 4, in nats")
    window: int = Field(50, ge=1, description="iterations over which a logistic loss is averaged")
    stuck_fraction: float = Field(
        0.5, gt=0, le=1, description="largest fraction of chains that may meet values that are not finite"
    )


class DivergenceMonitor:
    """Checks each iteration's `loss`, `gradient_norm`, `gap`, `ratio_excess` and `stuck_fraction`, where given."""

    def __init__(self, settings: DivergenceMonitorSettings) -> None:
        self.settings = settings
        self._excess = 0.0

    def check(self, where: str, figures: Mapping[str, float]) -> None:
        """Raises `Diverged`, with the reason and what to do, where the figures are not healthy."""
        for name in ("loss", "gradient_norm"):
            if not math.isfinite(figures.get(name, 0.0)):
                raise self._reason(where, f"the {name.replace('_', ' ')} is not finite")
        limit = self.settings.energy_gap
        if abs(figures.get("gap", 0.0)) > limit:
            raise self._reason(
                where, f"the energy gap between samples and data is {figures['gap']:.0f} nats (limit {limit:.0f})"
            )
        stuck = figures.get("stuck_fraction", 0.0)
        if stuck > self.settings.stuck_fraction or stuck >= 1.0:
            raise self._reason(where, f"{stuck:.0%} of the chains met values that are not finite")
        if "ratio_excess" in figures:
            self._excess += (figures["ratio_excess"] - self._excess) / self.settings.window
            if self._excess > self.settings.loss_excess:
                excess = f"{self._excess:.2f} nats above log 4"
                raise self._reason(where, f"the logistic loss stayed {excess}, worse than no energy")

    def begin_stage(self) -> None:
        """Forgets the loss of the stage before."""
        self._excess = 0.0

    def state_dict(self) -> dict[str, float]:
        return {"excess": self._excess}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self._excess = state["excess"]

    @staticmethod
    def _reason(where: str, what: str) -> Diverged:
        return Diverged(
            f"training diverged in {where}: {what}. The last good model is kept; lower energy_stage.learning_rate, or"
            " chain density_ratio and ratio_rounds instead of contrastive_divergence"
        )

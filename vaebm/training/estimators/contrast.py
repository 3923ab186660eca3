"""A contrast: energies of data held against energies of samples, (B,) each in, a loss out.

What the contrasts share: the penalties that may stand beside them, and the gap mean E(x-) - mean E(x+), which is near 0
where samples of the model look like data. A *logistic* contrast is log 4 where data and samples cannot be told apart.
"""

import math
from typing import ClassVar, NamedTuple

from pydantic import Field
from torch import Tensor, nn

from vaebm.energy.penalties import energy_square
from vaebm.training.estimators.base import Estimator, EstimatorSettings
from vaebm.training.estimators.denoising import batch_denoising_loss, check_noise
from vaebm.training.estimators.negatives import Pair
from vaebm.training.estimators.score_matching import (
    WeightedScoreMatching,
    batch_score_matching_loss,
    check_scores,
)

INDISTINGUISHABLE = math.log(4.0)  # a logistic loss where data and samples cannot be told apart


class Contrast(NamedTuple):
    """A loss to minimise, the gap, and whether the loss is logistic."""

    loss: Tensor
    gap: Tensor
    logistic: bool = False

    @classmethod
    def of(cls, loss: Tensor, positive: Tensor, negative: Tensor, logistic: bool = False) -> "Contrast":
        """The loss with the gap of energies of data and of samples."""
        return cls(loss, (negative.mean() - positive.mean()).detach(), logistic)

    def figures(self) -> dict[str, float]:
        """For the log and the divergence monitor."""
        excess = {"ratio_excess": float(self.loss.detach()) - INDISTINGUISHABLE} if self.logistic else {}
        return {"gap": float(self.gap), **excess}


class ContrastSettings(EstimatorSettings):
    """Of an estimator that holds data against samples."""

    energy_square: float = Field(0.0, ge=0, description="weight of the energy-square penalty")
    denoising: float = Field(
        0.0,
        ge=0,
        description="weight of denoising score matching, summed over values, beside the contrast; needs"
        " energy.noise_std",
    )
    score_matching: WeightedScoreMatching | None = Field(
        None, description="score matching beside the contrast; null leaves it out"
    )


class ContrastEstimator(Estimator):
    """An estimator that holds data against samples."""

    settings: ContrastSettings
    sums_rows: ClassVar[bool] = True  # whether the contrast is a sum over rows

    def check(self) -> None:
        if self.settings.denoising:
            check_noise(self)
        if self.settings.score_matching is not None:
            check_scores(self)

    def energies(self, positive: Pair, negative: Pair, energy: nn.Module | None = None) -> tuple[Tensor, Tensor]:
        """The energy, or another, of both in one pass."""
        learned = self.energy.by_member if self.sums_rows else self.energy
        with self.training.model.autocast():
            both: Tensor = (energy or learned)(*positive.joined(negative))
        first, second = both.split([positive.rows, negative.rows])
        return first, second

    def learn_from(self, contrast: Contrast, positive: Tensor, negative: Tensor, iteration: int) -> dict[str, float]:
        """One step on the contrast of these energies and on the penalties; returns figures."""
        loss = contrast.loss
        if self.settings.energy_square:
            loss = loss + self.settings.energy_square * energy_square(positive, negative)
        figures = {"contrast": float(contrast.loss.detach()), **contrast.figures()}
        figures["energy_spread"] = float(positive.detach().std(correction=0))
        if self.settings.denoising:
            denoising = batch_denoising_loss(self)
            loss = loss + self.settings.denoising * math.prod(self.training.model.data_shape) * denoising
            figures["denoising"] = float(denoising.detach())
        if (term := self.settings.score_matching) is not None:
            score = batch_score_matching_loss(self, term.noise_std)
            loss = loss + term.weight * score
            figures["score_matching"] = float(score.detach())
        return {**self.learn(loss, iteration), **figures}

"""A contrast: energies of data held against energies of samples, (B,) each in, a loss out.

What the contrasts share: the penalties that may stand beside them, and the gap mean E(x-) - mean E(x+), which is near 0
where samples of the model look like data. A *logistic* contrast is log 4 where data and samples cannot be told apart.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from vaebm.energy.penalties import energy_square
from vaebm.training.estimators.base import Estimator, EstimatorSettings
from vaebm.training.estimators.denoising import batch_denoising_losses, check_noise
from vaebm.training.estimators.negatives import Pair
from vaebm.training.estimators.score_matching import (
    WeightedScoreMatching,
    batch_score_matching_losses,
    check_scores,
)
from vaebm.training.memory import backward_in_parts, energies_in_parts, rows_of_parts

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
    to_weights: Callable[[], None]  # what the backward pass of a contrast leaves to do, of a batch in parts

    def check(self) -> None:
        if self.settings.denoising:
            check_noise(self)
        if self.settings.score_matching is not None:
            check_scores(self)

    def energies(self, positive: Pair, negative: Pair, energy: nn.Module | None = None) -> tuple[Tensor, Tensor]:
        """The energy, or another that does not learn, of both; in one pass, or in the parts of a batch."""
        both = positive.joined(negative)
        net = energy or (self.energy.by_member if self.sums_rows else self.energy)

        def of(rows: slice) -> Tensor:
            with self.training.model.autocast():
                values: Tensor = net(*both.rows_at(rows))
            return values

        if self.parts == 1:
            energies = of(slice(None))
        elif energy is not None:
            energies = torch.cat([of(rows) for rows, _ in rows_of_parts(both.rows, self.parts)])
        else:
            energies = energies_in_parts(of, both.rows, self.parts)
            self.to_weights = partial(backward_in_parts, of, energies, self.parts)
        first, second = energies.split([positive.rows, negative.rows])
        return first, second

    def learn_from(self, contrast: Contrast, positive: Tensor, negative: Tensor, iteration: int) -> dict[str, float]:
        """One step on the contrast of these energies and on the penalties; returns figures."""
        figures = {"contrast": float(contrast.loss.detach()), **contrast.figures()}
        for name, energies in (("energy_spread", positive), ("negative_spread", negative)):
            figures[name] = float(energies.detach().std(correction=0))
        figures["energy_level"] = float(positive.detach().mean())
        return {**self.learn(self._losses(contrast.loss, positive, negative, figures), iteration), **figures}

    def _losses(self, loss: Tensor, positive: Tensor, negative: Tensor, figures: dict[str, float]) -> Iterator[Tensor]:
        """The contrast, and what stands beside it; figures of that are added."""
        if self.settings.energy_square:
            loss = loss + self.settings.energy_square * energy_square(positive, negative)
        yield loss
        if self.parts > 1:
            self.to_weights()
        if self.settings.denoising:
            figures["denoising"] = 0.0
            for denoising in batch_denoising_losses(self):
                figures["denoising"] += float(denoising.detach())
                yield self.settings.denoising * math.prod(self.training.model.data_shape) * denoising
        if (term := self.settings.score_matching) is not None:
            figures["score_matching"] = 0.0
            for score in batch_score_matching_losses(self, term.noise_std):
                figures["score_matching"] += float(score.detach())
                yield term.weight * score

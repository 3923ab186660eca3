"""Importance likelihood: the log-likelihood itself, with log Z by importance sampling from the base.

    L = mean E(x+) + log mean exp(-E(x-)),      (x-, z-) ~ base

L is minus what E adds to the base's log-likelihood, up to a bias of order 1 / B that flatters: the logarithm of a mean
of B weights is too small on average. It refines an energy where the base covers the data; elsewhere few samples carry
all the weight, which `proposal_ess` shows.

Bengio & Senecal, Quick training of probabilistic neural nets by importance sampling, AISTATS 2003,
https://proceedings.mlr.press/r4/bengio03a.html
"""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from vaebm.training.estimators.base import IteratedSettings
from vaebm.training.estimators.contrast import Contrast, ContrastEstimator, ContrastSettings
from vaebm.training.estimators.negatives import base_samples, proposal_ess


def importance_likelihood(positive: Tensor, negative: Tensor) -> Contrast:
    """Energies of data and of exact samples of the base, each (B,); the loss is minus the log-likelihood."""
    log_z = torch.logsumexp(-negative, dim=0) - math.log(negative.shape[0])
    return Contrast.of(positive.mean() + log_z, positive, negative)


class ImportanceSettings(ContrastSettings, IteratedSettings):
    """Log-likelihood with log Z by importance sampling from the base."""

    kind: Literal["importance"] = Field("importance", description="log-likelihood, log Z by importance sampling")
    negatives: int = Field(4, ge=1, description="samples of the base for each data point")


class Importance(ContrastEstimator):
    """The likelihood, with the base as proposal."""

    settings_type = ImportanceSettings
    settings: ImportanceSettings
    sums_rows = False

    def step(self, iteration: int) -> dict[str, float]:
        data = self.data()
        positive, negative = self.energies(data, base_samples(self.training, data.rows * self.settings.negatives))
        figures = self.learn_from(importance_likelihood(positive, negative), positive, negative, iteration)
        return {**figures, "proposal_ess": proposal_ess(negative)}

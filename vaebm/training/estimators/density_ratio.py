"""Density ratio: a logistic classifier between data and exact samples of the base.

    L = mean softplus(E(x+)) + mean softplus(-E(x-)),      (x-, z-) ~ base

At the optimum exp(-E) = data / base, so E is normalised: log Z = 0. Each mean weighs as much as the other, however many
samples of the base there are: more of them need no offset, and take noise off the gradient. The loss is bounded below
and needs no chain, so training cannot run away: the estimator to begin with. The ratio saturates where data and base
are told apart.

Gutmann & Hyvarinen, Noise-contrastive estimation, JMLR 2012, https://jmlr.org/papers/v13/gutmann12a.html
"""

from typing import Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from vaebm.training.estimators.base import IteratedSettings
from vaebm.training.estimators.contrast import Contrast, ContrastEstimator, ContrastSettings
from vaebm.training.estimators.negatives import base_samples, proposal_ess


def density_ratio(positive: Tensor, negative: Tensor) -> Contrast:
    """Energies of data and of exact samples of the base, each (B,), or more of the samples."""
    loss = functional.softplus(positive).mean() + functional.softplus(-negative).mean()
    return Contrast.of(loss, positive, negative, logistic=True)


class DensityRatioSettings(ContrastSettings, IteratedSettings):
    """Logistic density ratio of data to the base."""

    kind: Literal["density_ratio"] = Field("density_ratio", description="logistic density ratio of data to the base")
    negatives: int = Field(1, ge=1, description="samples of the base for each data point")


class DensityRatio(ContrastEstimator):
    """Data against the base."""

    settings_type = DensityRatioSettings
    settings: DensityRatioSettings

    def step(self, iteration: int) -> dict[str, float]:
        data = self.data()
        positive, negative = self.energies(data, base_samples(self.training, data.rows * self.settings.negatives))
        figures = self.learn_from(density_ratio(positive, negative), positive, negative, iteration)
        return {**figures, "proposal_ess": proposal_ess(negative)}

"""Evaluation: how good are the samples of a model, by one protocol for every subject, and what is there to measure?"""

from vaebm.evaluation.disentanglement import SCORES
from vaebm.evaluation.energy_gain import EnergyGain, EnergyShift
from vaebm.evaluation.feature_metrics import DensityCoverage, FrechetDistance, KernelDistance, PrecisionRecall
from vaebm.evaluation.few_labels import FewLabelAccuracy
from vaebm.evaluation.importance import LogLikelihoodLower
from vaebm.evaluation.likelihood import ELBO, LogLikelihood, LogNormaliser
from vaebm.evaluation.metric import METRICS, Given, Metric, all_quantities, is_shown, quantity, register
from vaebm.evaluation.quantity import Quantity
from vaebm.evaluation.rows import ColumnsAlike, ToldApart
from vaebm.evaluation.run import Evaluation
from vaebm.evaluation.settings import EvaluationSettings
from vaebm.evaluation.statistics import (
    ClassGap,
    DrawingTime,
    Memorisation,
    Modes,
    PixelsBetweenEnds,
    StackModes,
)
from vaebm.evaluation.stored_draws import StoredDraws

__all__ = [
    "METRICS",
    "SCORES",
    "Evaluation",
    "EvaluationSettings",
    "Given",
    "Metric",
    "Quantity",
    "StoredDraws",
    "all_quantities",
    "is_shown",
    "quantity",
    "register",
]

for _metric in (
    *(FrechetDistance(), KernelDistance(), PrecisionRecall(), DensityCoverage(), PixelsBetweenEnds()),
    *(Memorisation(), ClassGap(), ToldApart(), ColumnsAlike()),
    *(LogLikelihood(), LogNormaliser(), Modes(), StackModes(), ELBO(), LogLikelihoodLower()),
    *(EnergyGain(), EnergyShift(), FewLabelAccuracy(), DrawingTime()),
    *SCORES,
):
    register(_metric)

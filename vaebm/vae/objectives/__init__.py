"""Objectives: what does a VAE minimise?"""

from vaebm.vae.objectives.base import OBJECTIVES, Objective, ObjectiveSettings
from vaebm.vae.objectives.beta import BetaSettings
from vaebm.vae.objectives.covariance import CovarianceObjective, CovarianceSettings
from vaebm.vae.objectives.elbo import ELBOObjective, ELBOSettings
from vaebm.vae.objectives.factor import FactorObjective, FactorSettings
from vaebm.vae.objectives.total_correlation import TotalCorrelationObjective, TotalCorrelationSettings

for _settings in (ELBOSettings, BetaSettings, FactorSettings, TotalCorrelationSettings, CovarianceSettings):
    OBJECTIVES.register(_settings)

__all__ = [
    "OBJECTIVES",
    "BetaSettings",
    "CovarianceObjective",
    "CovarianceSettings",
    "ELBOObjective",
    "ELBOSettings",
    "FactorObjective",
    "FactorSettings",
    "Objective",
    "ObjectiveSettings",
    "TotalCorrelationObjective",
    "TotalCorrelationSettings",
]

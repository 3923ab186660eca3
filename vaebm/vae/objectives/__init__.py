"""Objectives: what does a VAE minimise?"""

from vaebm.vae.objectives.base import OBJECTIVES, Objective, ObjectiveSettings
from vaebm.vae.objectives.elbo import ELBOObjective, ELBOSettings

OBJECTIVES.register(ELBOSettings)

__all__ = ["OBJECTIVES", "ELBOObjective", "ELBOSettings", "Objective", "ObjectiveSettings"]

"""Which stages a model family trains in.

class ToySettings(ModelSettings, TrainingSettings)   a family whose settings say how it is trained, too
TRAININGS["vaebm"] = VAEBMTraining                   or one that keeps the two apart
"""

from abc import ABC, abstractmethod

from pydantic import Field

from vaebm.registry import Settings
from vaebm.training.energy import EnergyStageSettings, energy_stages
from vaebm.training.external import LikelihoodStage
from vaebm.training.loop import Stage, Training
from vaebm.training.vae import VAEStage, VAEStageSettings
from vaebm.vae.external import ExternalVAE


class TrainingSettings(Settings, ABC):
    """How a model of a family is trained."""

    @abstractmethod
    def stages(self, training: Training) -> list[Stage]:
        """The stages, in order.

        Raises:
            InputError: the settings do not suit the model.
        """


class VAEBMTraining(TrainingSettings):
    """The VAE, then the terms of the energy with the VAE frozen."""

    vae_stage: VAEStageSettings = Field(VAEStageSettings(), description="how the VAE is trained")
    energy_stage: EnergyStageSettings = Field(EnergyStageSettings(), description="how the energy is trained")

    def stages(self, training: Training) -> list[Stage]:
        external = isinstance(training.model.vae, ExternalVAE)
        first = (LikelihoodStage if external else VAEStage)(training, self.vae_stage)
        return [first, *energy_stages(training, self.energy_stage)]


TRAININGS: dict[str, type[TrainingSettings]] = {"vaebm": VAEBMTraining}
"""By the `kind` of the model."""

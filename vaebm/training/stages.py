"""Which stages a model family trains in.

class ToySettings(ModelSettings, TrainingSettings)   a family whose settings say how it is trained, too
TRAININGS["vaebm"] = VAEBMTraining                   or one that keeps the two apart

The energy is trained with the VAE frozen: first the terms on codes that have exact samples, from codes; then all others
together, by named phases in their order.
"""

from abc import ABC, abstractmethod
from typing import Annotated

from pydantic import Field

from vaebm.registry import Settings
from vaebm.training.estimators import ESTIMATORS, EstimatorSettings, LatentStageSettings, PhaseDefaults, latent_stages
from vaebm.training.loop import Stage, Training
from vaebm.training.vae import LikelihoodStage, VAEStage, VAEStageSettings
from vaebm.vae.external import ExternalVAE

Phase = Annotated[EstimatorSettings, ESTIMATORS]


class EnergyStageSettings(PhaseDefaults):
    """How the energy is trained."""

    latent: LatentStageSettings = Field(
        LatentStageSettings(), description="how the term on codes is trained, before the others"
    )
    phases: dict[str, Phase | None] = Field(
        default_factory=dict, description="estimators by name, in their order; null leaves one out"
    )


def energy_stages(training: Training, settings: EnergyStageSettings) -> list[Stage]:
    """The stages of the terms that have something to learn; no phases where the base is all of the energy."""
    stages: list[Stage] = [*latent_stages(training, settings.latent)]
    correction = training.model.energy_net.correction
    if correction.terms:
        for name, phase in settings.phases.items():
            if phase is not None:
                stages.append(ESTIMATORS[phase.kind](name, training, correction, phase, settings))
    return stages


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

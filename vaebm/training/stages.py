"""Which stages a model family trains in.

class ToySettings(ModelSettings, TrainingSettings)   a family whose settings say how it is trained, too
TRAININGS["vaebm"] = VAEBMTraining                   or one that keeps the two apart

The energy is trained with the VAE frozen: first the terms on codes that have exact samples, from codes; then
all others together, by named phases in their order. A CEBM has these phases alone.
"""

from abc import ABC, abstractmethod
from typing import Annotated

from pydantic import Field

from vaebm.errors import InputError
from vaebm.registry import Settings
from vaebm.training.base_density import BaseStage
from vaebm.training.estimators import ESTIMATORS, EstimatorSettings, LatentStageSettings, PhaseDefaults, latent_stages
from vaebm.training.stage import Stage, Training
from vaebm.training.vae import LikelihoodStage, VAEStage, VAEStageSettings
from vaebm.vae.external import ExternalVAE

Phase = Annotated[EstimatorSettings, ESTIMATORS]


class PhasesSettings(PhaseDefaults):
    """How the terms on data are trained."""

    phases: dict[str, Phase | None] = Field(
        default_factory=dict, description="estimators by name, in their order; null leaves one out"
    )


class EnergyStageSettings(PhasesSettings):
    """How the energy is trained."""

    latent: LatentStageSettings = Field(
        LatentStageSettings(), description="how the term on codes is trained, before the others"
    )


def phase_stages(training: Training, settings: PhasesSettings) -> list[Stage]:
    """The phases of the correction; none where the base is all of the energy."""
    correction = training.model.energy_net.correction
    phases = settings.phases if correction.terms else {}
    return [
        ESTIMATORS[phase.kind](name, training, correction, phase, settings)
        for name, phase in phases.items()
        if phase is not None
    ]


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
        return [first, *latent_stages(training, self.energy_stage.latent), *phase_stages(training, self.energy_stage)]


class CEBMTraining(TrainingSettings):
    """The base, where it is fitted, then the conjugate energy."""

    energy_stage: PhasesSettings = Field(PhasesSettings(), description="how the energy is trained")

    def stages(self, training: Training) -> list[Stage]:
        model, n = training.model, len(training.data)
        if (components := len(model.conjugate.bias.mean)) > n:
            raise InputError(f"bias.components is {components}, more than the {n} training data: lower it")
        base = [] if model.settings.base.scale else [BaseStage(training, model.settings.base.min_scale)]
        return [*base, *phase_stages(training, self.energy_stage)]


TRAININGS: dict[str, type[TrainingSettings]] = {"vaebm": VAEBMTraining, "cebm": CEBMTraining}
"""By the `kind` of the model."""

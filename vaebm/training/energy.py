"""Stage 2: the energy, with the VAE frozen.

First the terms on codes that have exact samples, from codes; then all others together, by named phases in their order.
"""

from typing import Annotated

from pydantic import Field

from vaebm.training.estimators import (
    ESTIMATORS,
    EstimatorSettings,
    LatentStageSettings,
    PhaseDefaults,
    latent_stages,
)
from vaebm.training.loop import Stage, Training

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

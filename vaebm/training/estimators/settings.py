"""How the energy on x is trained, as a validated configuration: named phases, in order."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from vaebm.sampling import Sampler
from vaebm.training.estimators.latent import LatentStageSettings

Decay = Annotated[float, Field(ge=0, lt=1)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PhaseSettings(_Settings):
    """What every estimator has."""

    batch_size: int | None = Field(None, ge=1, description="data points in each step; null: the stage's")
    learning_rate: float | None = Field(None, gt=0, description="at its highest; null: the stage's")
    betas: tuple[Decay, Decay] = Field((0.9, 0.99), description="Adam's decays of the first and second moment")
    warmup_iterations: int = Field(
        20, ge=0, description="iterations over which the learning rate rises; then it falls to 0"
    )
    clip_norm: float = Field(5.0, gt=0, description="largest norm of a gradient; larger ones are scaled down")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="decay of the moving average of weights; 0 for none")
    spectral: float = Field(0.0, ge=0, description="weight of the sum of the layers' largest singular values")


class ContrastSettings(PhaseSettings):
    """Of an estimator that holds data against samples."""

    energy_square: float = Field(0.0, ge=0, description="weight of the energy-square penalty")
    denoising: float = Field(
        0.0,
        ge=0,
        description="weight of denoising score matching, summed over values, beside the contrast; needs"
        " energy.noise_std",
    )


class IteratedSettings(PhaseSettings):
    """An estimator that runs for a number of iterations."""

    iterations: int = Field(1500, ge=1, description="training steps, one batch each")


class DensityRatioSettings(ContrastSettings, IteratedSettings):
    """Logistic density ratio of data to the start's proposal."""

    kind: Literal["density_ratio"] = "density_ratio"


class DenoisingSettings(IteratedSettings):
    """Denoising score matching at the noise of `energy.noise_std`: no samples of the model are needed."""

    kind: Literal["denoising"] = "denoising"


class ImportanceSettings(ContrastSettings, IteratedSettings):
    """LikelihoodSettings with log Z by importance sampling from the start's proposal."""

    kind: Literal["importance"] = "importance"
    negatives: int = Field(4, ge=1, description="samples for each data point")


class ContrastiveDivergenceSettings(ContrastSettings, IteratedSettings):
    """Difference of energies between data and chain samples: the paper's."""

    kind: Literal["contrastive_divergence"] = "contrastive_divergence"
    sampler: Sampler | None = Field(None, description="null: the recipe's sampler")
    buffer: int = Field(0, ge=0, description="capacity of the replay buffer; 0 starts every chain afresh")
    replay_prob: float = Field(0.6, ge=0, le=1, description="probability that a chain starts from the buffer")
    replay_ramp_iterations: int = Field(5000, ge=0, description="iterations over which that probability rises from 0")


class RatioRoundsSettings(ContrastSettings):
    """Logistic density ratio of data to the model's own chains, round after round."""

    kind: Literal["ratio_rounds"] = "ratio_rounds"
    rounds: int = Field(8, ge=1, description="how often the chains follow the energy")
    iterations_per_round: int = Field(100, ge=1, description="training steps in each round")
    chains: int = Field(2048, ge=1, description="chains in the pool")
    sampler: Sampler | None = Field(
        None, description="its steps are what chains move on between rounds; null: the recipe's"
    )
    restart_fraction: float = Field(0.1, ge=0, le=1, description="share of the chains that begin anew each round")
    restart_steps: int = Field(60, ge=1, description="steps of those, and of all chains in the first round")

    @property
    def iterations(self) -> int:
        """Of all rounds."""
        return self.rounds * self.iterations_per_round


Phase = Annotated[
    DensityRatioSettings | DenoisingSettings | ImportanceSettings | ContrastiveDivergenceSettings | RatioRoundsSettings,
    Field(discriminator="kind"),
]


class EnergyStageSettings(_Settings):
    """How the energy is trained: E_z first, then E_x by the phases in their order."""

    learning_rate: float = Field(3e-4, gt=0, description="of phases that do not name their own")
    batch_size: int = Field(96, ge=1, description="data points in a step of phases that do not name their own")
    latent: LatentStageSettings = Field(LatentStageSettings(), description="how the term on codes is trained")
    phases: dict[str, Phase | None] = Field(default_factory=dict, description="by name; null leaves one out")

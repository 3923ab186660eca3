"""What a VAEBM consists of, as a validated configuration: the part of a recipe that is saved with the weights."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from vaebm.energy import DataEnergySettings, LatentEnergySettings
from vaebm.sampling import Sampler
from vaebm.vae import CodeMixtureSettings, VAESettings

Show = Literal["sample", "mean", "denoised"]
Sees = Literal["sample", "mean"]
Subject = Literal["vaebm", "vae", "vae_mixture"]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EnergySettings(_Settings):
    """The terms of E(x, z); null leaves one out. `joint` is the place of a term on both, which does not exist yet."""

    image: DataEnergySettings | None = None
    input: Sees = Field(
        "sample",
        description="what the term on x looks at: x, or the decoder's mean of z, which makes it a term on z",
    )
    noise_std: float = Field(
        0.0,
        ge=0,
        description="standard deviation of noise that data and decoder both carry where the term on x looks at them;"
        " show such samples denoised. 0 for none",
    )
    latent: LatentEnergySettings | None = None
    joint: None = None

    @property
    def sees_means(self) -> bool:
        """Whether E_x looks at the decoder's means, so that E is a function of z and chains move codes only."""
        return self.image is not None and self.input == "mean"


class InitSettings(_Settings):
    """Chains start from samples of the model without E_x, of which E_x may choose."""

    importance_samples: int = Field(
        1, ge=1, description="draws per chain among which the energy's weights choose; 1 takes them all"
    )
    noise_scale: float = Field(
        1.0,
        ge=0,
        le=1,
        description="standard deviation of the pixel noise at the start; 0 starts from the decoder's means",
    )


class ModelSettings(_Settings):
    """Everything that decides what a saved model computes."""

    vae: VAESettings
    energy: EnergySettings = EnergySettings()
    code_mixture: CodeMixtureSettings = CodeMixtureSettings()
    sampler: Sampler
    latent_step_scale: float = Field(
        1.0,
        ge=0,
        description="size of a chain's moves of the codes' noise, relative to those of the pixels' noise, as long as no"
        " warm-up has learned a mass; with 0 codes stay as E_z draws them and chains move pixels alone, so samples"
        " follow E_z's codes and h(x | z) instead of h(x, z)",
    )
    init: InitSettings = InitSettings()
    target: Literal["exact", "release"] = "exact"
    show: Show = "sample"
    precision: Literal["float32", "bfloat16", "auto"] = Field(
        "float32", description="of convolutions and products; auto is settled when a run is made, by its device"
    )
    compile: bool = Field(False, description="torch.compile for decoder and energy: a start-up cost for faster steps")

"""Settings of the energy: its terms by name, as a recipe has them under `energy`."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from vaebm.energy.base import Energy
from vaebm.energy.decoded import DecodedEnergy, Decoder
from vaebm.energy.flow import FlowSettings
from vaebm.energy.latent import CorrectionSettings, MixtureEnergySettings
from vaebm.energy.mlp import MLPEnergySettings
from vaebm.energy.residual import ResidualEnergySettings
from vaebm.energy.total import TotalEnergy

DataEnergySettings = Annotated[MLPEnergySettings | ResidualEnergySettings, Field(discriminator="kind")]
LatentEnergySettings = Annotated[MixtureEnergySettings | CorrectionSettings | FlowSettings, Field(discriminator="kind")]


class EnergySettings(BaseModel):
    """The terms of E(x, z); null leaves one out. `joint` is the place of a term on both, which does not exist yet."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: DataEnergySettings | None = Field(None, description="the term on x, of images or of points")
    input: Literal["sample", "mean"] = Field(
        "sample",
        description="what the term on x looks at: x, or the decoder's mean of z, which makes it a term on z",
    )
    noise_std: float = Field(
        0.0,
        ge=0,
        description="standard deviation of the noise that data and decoder both carry where the energy looks at them;"
        " show such samples denoised; 0 adds none",
    )
    latent: LatentEnergySettings | None = Field(None, description="the term on z, with exact samples of the codes")
    joint: None = Field(None, description="the place of a term on x and z, which does not exist yet")

    def build(
        self, data_shape: tuple[int, ...], vae: Decoder, components: int, generator: torch.Generator
    ) -> TotalEnergy:
        """The terms for data of this shape and this VAE, weights drawn from `generator` in this order."""
        terms: dict[str, Energy] = {}
        if self.image is not None:
            on_data = self.image.build(data_shape, generator)
            terms["image"] = DecodedEnergy(on_data, vae) if self.input == "mean" else on_data
        if self.latent is not None:
            terms["latent"] = self.latent.build(vae.code_dim, components, generator)
        return TotalEnergy(terms)

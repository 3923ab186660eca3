"""Settings of the energy: its terms by name, as a recipe has them under `energy`."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field

from vaebm.energy.base import (
    DATA_ENERGIES,
    JOINT_ENERGIES,
    LATENT_ENERGIES,
    DataEnergySettings,
    Energy,
    JointEnergySettings,
    LatentEnergySettings,
)
from vaebm.energy.decoded import DecodedEnergy, Decoder
from vaebm.energy.total import TotalEnergy
from vaebm.registry import Settings


class EnergySettings(Settings):
    """The terms of E(x, z); null leaves one out."""

    image: Annotated[DataEnergySettings, DATA_ENERGIES] | None = Field(
        None, description="the term on x, of images or of points"
    )
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
    latent: Annotated[LatentEnergySettings, LATENT_ENERGIES] | None = Field(
        None, description="the term on z, with exact samples of the codes"
    )
    joint: Annotated[JointEnergySettings, JOINT_ENERGIES] | None = Field(None, description="the term on x and z")

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
        if self.joint is not None:
            terms["joint"] = self.joint.build(data_shape, vae.latent_dim, generator)
        return TotalEnergy(terms)

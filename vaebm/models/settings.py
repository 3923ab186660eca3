"""Settings of a VAEBM: the part of a recipe that is saved with the weights."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from vaebm.distributions.mixture import GaussianMixture
from vaebm.energy import (
    DATA_ENERGIES,
    JOINT_ENERGIES,
    LATENT_ENERGIES,
    DataEnergySettings,
    DecodedEnergy,
    Energy,
    JointEnergySettings,
    LatentEnergySettings,
    TotalEnergy,
)
from vaebm.models.base import ModelSettings
from vaebm.models.draws import DrawSettings
from vaebm.models.saved import MODELS
from vaebm.models.vaebm import VAEBM
from vaebm.vae import VAE, VAES, CodeMixtureSettings, VAESettings


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EnergySettings(_Settings):
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

    def build(self, data_shape: tuple[int, ...], vae: VAE, components: int, generator: torch.Generator) -> TotalEnergy:
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


class VAEBMSettings(DrawSettings, ModelSettings):
    """A VAE, an energy on top, and the sampler of their product."""

    changeable: ClassVar[frozenset[str]] = frozenset(DrawSettings.model_fields)

    kind: Literal["vaebm"] = Field("vaebm", description="the model family")
    vae: Annotated[VAESettings, VAES] = Field(description="the variational autoencoder")
    energy: EnergySettings = Field(EnergySettings(), description="the terms of the energy")
    code_mixture: CodeMixtureSettings = Field(
        CodeMixtureSettings(), description="the mixture fitted to the codes, the baseline"
    )

    def build(self, data_shape: tuple[int, ...], generator: torch.Generator, **parts: Any) -> VAEBM:
        """An untrained model; of `parts`, `vae` is taken in place of one built from `self.vae`."""
        with torch.random.fork_rng(devices=[]):  # layers draw from the global state before `generator` redraws them
            vae: VAE = parts.get("vae") or self.vae.build(data_shape, generator)
            mixture = GaussianMixture.standard(self.code_mixture.components, vae.code_dim)
            energy = self.energy.build(data_shape, vae, self.code_mixture.components, generator)
        return VAEBM(vae, energy, self, mixture=mixture, noise_std=self.energy.noise_std)


MODELS["vaebm"] = VAEBMSettings

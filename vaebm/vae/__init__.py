"""Variational autoencoders: where is the data's mass, roughly, and how is noise turned into data?"""

from typing import Annotated

from pydantic import Field

from vaebm.vae.base import VAE, FlatVAE
from vaebm.vae.code_mixture import CodeMixtureSettings, fit_code_mixture
from vaebm.vae.conv import ConvSettings
from vaebm.vae.elbo import ELBO, elbo
from vaebm.vae.external import ExternalSettings, ExternalVAE
from vaebm.vae.mlp import MLPSettings
from vaebm.vae.nvae.settings import NVAESettings

VAESettings = Annotated[MLPSettings | ConvSettings | NVAESettings | ExternalSettings, Field(discriminator="kind")]

__all__ = [
    "ELBO",
    "VAE",
    "CodeMixtureSettings",
    "ConvSettings",
    "ExternalSettings",
    "ExternalVAE",
    "FlatVAE",
    "MLPSettings",
    "NVAESettings",
    "VAESettings",
    "elbo",
    "fit_code_mixture",
]

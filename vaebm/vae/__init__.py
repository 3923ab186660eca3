"""Variational autoencoders: where is the data's mass, roughly, and how is noise turned into data?"""

from vaebm.vae.base import VAE, VAES, FlatVAE, VAESettings
from vaebm.vae.code_mixture import CodeMixtureSettings, fit_code_mixture
from vaebm.vae.conv import ConvSettings
from vaebm.vae.external import ExternalSettings, ExternalVAE
from vaebm.vae.mlp import MLPSettings
from vaebm.vae.nvae.model import NVAESettings
from vaebm.vae.objectives.elbo import ELBO, elbo

for _settings in (MLPSettings, ConvSettings, NVAESettings, ExternalSettings):
    VAES.register(_settings)

__all__ = [
    "ELBO",
    "VAE",
    "VAES",
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

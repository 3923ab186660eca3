"""A VAE of fully connected networks, for points and for images small enough to be read as vectors.

encoder: x -> hidden -> ... -> (mean, log sd) of q(z | x);   decoder: z -> hidden -> ... -> p(x | z)
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import nn

from vaebm.distributions.likelihood import GaussianSettings, LikelihoodSettings
from vaebm.nn.initialise import initialise
from vaebm.nn.mlp import mlp
from vaebm.vae.base import VAE, FlatVAE, VAESettings


class MLPSettings(VAESettings):
    """Fully connected encoder and decoder."""

    kind: Literal["mlp"] = Field("mlp", description="fully connected")
    latent_dim: int = Field(2, ge=1, description="how many numbers a code has")
    hidden: list[int] = Field([256, 256], min_length=1, description="widths of the encoder's hidden layers")
    likelihood: LikelihoodSettings = Field(GaussianSettings(), description="p(x | z)")

    def build(self, data_shape: tuple[int, ...], generator: torch.Generator) -> VAE:
        likelihood = self.likelihood.build()
        values = torch.Size(data_shape).numel()
        raw_shape = (likelihood.outputs_per_value * data_shape[0], *data_shape[1:])
        encoder = nn.Sequential(nn.Flatten(), mlp([values, *self.hidden, 2 * self.latent_dim]))
        decoder = nn.Sequential(
            mlp([self.latent_dim, *reversed(self.hidden), likelihood.outputs_per_value * values]),
            nn.Unflatten(1, raw_shape),
        )
        vae = FlatVAE(data_shape, self.latent_dim, encoder, decoder, likelihood)
        initialise(vae, generator)
        return vae

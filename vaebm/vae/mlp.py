"""A VAE of fully connected networks, for points, for rows of tables, and for images that may be read as vectors.

encoder: x -> hidden -> ... -> (mean, log sd) of q(z | x);   decoder: z -> hidden -> ... -> p(x | z)
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from vaebm.data.modality import modality_of
from vaebm.distributions.columns import Columns
from vaebm.distributions.likelihood import GaussianSettings, LikelihoodSettings
from vaebm.distributions.mixed import MixedSettings
from vaebm.errors import InputError
from vaebm.nn.initialise import initialise
from vaebm.nn.mlp import mlp
from vaebm.vae.base import VAE, FlatVAE, VAESettings


def _check_rows(data_shape: tuple[int, ...], columns: Columns | None) -> None:
    """Rows of a table go with the likelihood of its columns, and with no other."""
    if columns is None and modality_of(data_shape).has_columns:
        raise InputError("rows of a table need the likelihood of their columns: set vae.likelihood.kind=mixed")
    if columns is not None and data_shape != (1, columns.width):
        raise InputError(
            f"vae.likelihood.kind=mixed is of rows of {columns.width} numbers, but the data have shape {data_shape}:"
            " train the table by its path, or take another likelihood"
        )


class MLPSettings(VAESettings):
    """Fully connected encoder and decoder."""

    kind: Literal["mlp"] = Field("mlp", description="fully connected")
    latent_dim: int = Field(2, ge=1, description="how many numbers a code has")
    hidden: list[int] = Field([256, 256], min_length=1, description="widths of the encoder's hidden layers")
    likelihood: Annotated[LikelihoodSettings | MixedSettings, Field(discriminator="kind")] = Field(
        GaussianSettings(), description="p(x | z)"
    )

    def build(self, data_shape: tuple[int, ...], generator: torch.Generator) -> VAE:
        likelihood = self.likelihood.build()
        _check_rows(data_shape, likelihood.columns)
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

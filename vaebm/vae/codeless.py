"""The VAE without a code: independent Gaussian values, the base of an energy on data that needs no decoder.

    r(x) = N(x; mu, diag(sigma)^2),      x = mu + sigma eps

mu and sigma are a number or values of their own for each value of x; they are buffers that a fit or a file fills. With
no code (latent_dim = 0) there is nothing to infer, and noise space is the space of data up to a scale.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vaebm.distributions.gaussian import DiagonalGaussian
from vaebm.distributions.likelihood import GaussianLikelihood, LikelihoodHead
from vaebm.vae.base import VAE, Inference


class _GivenGaussian(LikelihoodHead):
    """The Gaussian that mean and log scale, along axis 1, describe."""

    outputs_per_value = 2
    reparameterised = True
    takes_noise = True

    def forward(self, raw: Tensor) -> GaussianLikelihood:
        mean, log_scale = raw.chunk(2, dim=1)
        return GaussianLikelihood(DiagonalGaussian(mean, log_scale))


class CodelessVAE(VAE):
    """r(x), for x of any shape; `scale` is sigma until it is fitted."""

    mean: Tensor  # (*data_shape)
    scale: Tensor

    def __init__(self, data_shape: tuple[int, ...], scale: float) -> None:
        super().__init__()
        self.data_shape, self.latent_dim, self.code_dim, self.group_sizes = data_shape, 0, 0, {}
        self.likelihood = _GivenGaussian()
        self.register_buffer("mean", torch.zeros(data_shape))
        self.register_buffer("scale", torch.full(data_shape, scale))

    @torch.no_grad()
    def set_moments(self, mean: Tensor, scale: Tensor) -> None:
        """Takes mu and sigma, each (*data_shape)."""
        self.mean.copy_(mean)
        self.scale.copy_(scale)

    def decode(self, z: Tensor) -> GaussianLikelihood:
        raw = torch.cat([self.mean, self.scale.log()])
        likelihood: GaussianLikelihood = self.likelihood(raw.expand(len(z), *raw.shape))
        return likelihood

    def infer(self, x: Tensor, generator: torch.Generator) -> Inference:
        none = self.encode(x)
        return Inference(none, {}, DiagonalGaussian(none, none))

    def encode(self, x: Tensor) -> Tensor:
        return x.new_zeros(len(x), 0)

    def propose(self, x: Tensor, generator: torch.Generator, draws: int | None = None) -> tuple[Tensor, Tensor]:
        return x.new_zeros(len(x) * (draws or 1), 0), x.new_zeros(len(x) * (draws or 1))

    def latent(self, eps_z: Tensor) -> Tensor:
        return eps_z

    def latent_noise(self, z: Tensor) -> Tensor:
        return z

    def log_prior(self, z: Tensor) -> Tensor:
        return z.new_zeros(len(z))

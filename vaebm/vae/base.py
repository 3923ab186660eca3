"""What a VAE is to the rest: a prior, a posterior and a reparameterised generator.

    z = T_z(eps_z)                  prior p(z), the push-forward of N(0, I)
    x = T_x(z, eps_x)               likelihood p(x | z), the push-forward of N(0, I) given z
    q(z | x)                        posterior
    log p(x, z) = log p(z) + log p(x | z)

Codes z and their noise eps_z are flat, (B, latent_dim), whatever hierarchy is inside: a hierarchical VAE splits them
into its groups. Samplers, mixtures and energies on z then need to know one shape only.

The first `code_dim` coordinates of z are the codes that a mixture is fitted to and an energy on z reads: their prior is
N(0, I) and they equal their noise. A flat VAE's z is all code; of a hierarchical one it is the top, while what lies
below keeps its prior given the top.

A VAE is in evaluation mode except while it is trained.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from vaebm.distributions.gaussian import DiagonalGaussian, at_least_float32, standard_log_prob
from vaebm.distributions.likelihood import Likelihood, LikelihoodHead
from vaebm.registry import Registry, Settings

MAX_CODE = 256  # of codes: a mixture of full covariances over more is slow to fit and fits poorly


class Inference(NamedTuple):
    """What a VAE infers from x."""

    z: Tensor  # (B, latent_dim), a reparameterised draw from q(z | x)
    kl: dict[str, Tensor]  # KL(q(z | x) || p(z)) by group of latents, each (B,), in nats
    posterior: DiagonalGaussian  # q of the codes, (B, code_dim), the first `code_dim` coordinates of z


class VAE(nn.Module, ABC):
    """The contract. `data_shape` is (C, H, W) or (dim,), without the batch."""

    data_shape: tuple[int, ...]
    latent_dim: int
    code_dim: int
    group_sizes: dict[str, int]  # how many latents each KL divergence of `infer` is of
    likelihood: LikelihoodHead

    @abstractmethod
    def infer(self, x: Tensor, generator: torch.Generator) -> Inference:
        """z ~ q(z | x), the KL divergences that the ELBO needs, and the density of the codes given x."""

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Posterior mean, (B, latent_dim): the representation of x."""

    @abstractmethod
    def decode(self, z: Tensor) -> Likelihood:
        """p(x | z)."""

    @abstractmethod
    def latent(self, eps_z: Tensor) -> Tensor:
        """T_z, (B, latent_dim) to (B, latent_dim)."""

    @abstractmethod
    def latent_noise(self, z: Tensor) -> Tensor:
        """T_z^{-1}: the noise that gives z."""

    @abstractmethod
    def log_prior(self, z: Tensor) -> Tensor:
        """log p(z), (B,), in nats."""

    @abstractmethod
    def propose(self, x: Tensor, generator: torch.Generator, draws: int | None = None) -> tuple[Tensor, Tensor]:
        """z ~ q(z | x), (B, latent_dim), with log q(z | x) - log p(z), (B,), in nats: for importance weights.

        With `draws`, so many of each x, (B draws, latent_dim), made with the same noise for every x.
        """

    def reconstruct(self, x: Tensor, generator: torch.Generator) -> tuple[Inference, Likelihood]:
        """z ~ q(z | x) and p(. | z)."""
        inference = self.infer(x, generator)
        return inference, self.decode(inference.z)

    def nets(self) -> list[nn.Module]:
        """Parts that are worth compiling."""
        return [net for net in self.children() if net is not self.likelihood]

    def decode_noise(self, eps_z: Tensor) -> tuple[Likelihood, Tensor]:
        """p(x | z) and z of noise (B, latent_dim)."""
        z = self.latent(eps_z)
        return self.decode(z), z

    def generate(self, eps_x: Tensor, eps_z: Tensor) -> tuple[Tensor, Tensor]:
        """T: noise (B, *data_shape) and (B, latent_dim) to (x, z)."""
        likelihood, z = self.decode_noise(eps_z)
        return likelihood.transport(eps_x), z

    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x, z), (B,), in nats."""
        return self.log_prior(z) + self.decode(z).log_prob(x)


class FlatVAE(VAE):
    """One level: p(z) = N(0, I), q(z | x) a diagonal Gaussian, so that z = eps_z.

    Args:
        encoder: x to (B, 2 latent_dim), mean and log standard deviation.
        decoder: z to the likelihood's raw output.
    """

    def __init__(
        self,
        data_shape: tuple[int, ...],
        latent_dim: int,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: LikelihoodHead,
    ) -> None:
        super().__init__()
        self.data_shape, self.latent_dim, self.code_dim = data_shape, latent_dim, latent_dim
        self.group_sizes = {"z": latent_dim}
        self.encoder, self.decoder, self.likelihood = encoder, decoder, likelihood

    def posterior(self, x: Tensor) -> DiagonalGaussian:
        mean, log_scale = at_least_float32(self.encoder(x)).chunk(2, dim=1)
        # A scale of e^3 is already no information, one of e^-7 all of it.
        return DiagonalGaussian(mean, log_scale.clamp(-7.0, 3.0))

    def infer(self, x: Tensor, generator: torch.Generator) -> Inference:
        posterior = self.posterior(x)
        prior = DiagonalGaussian(torch.zeros_like(posterior.mean), torch.zeros_like(posterior.mean))
        return Inference(posterior.sample(generator), {"z": posterior.kl(prior)}, posterior.first(self.code_dim))

    def propose(self, x: Tensor, generator: torch.Generator, draws: int | None = None) -> tuple[Tensor, Tensor]:
        posterior = self.posterior(x) if draws is None else self.posterior(x).repeated(draws)
        z = posterior.sample(generator, draws)
        return z, posterior.log_prob(z) - self.log_prior(z)

    def encode(self, x: Tensor) -> Tensor:
        return self.posterior(x).mean

    def decode(self, z: Tensor) -> Likelihood:
        distribution: Likelihood = self.likelihood(self.decoder(z))
        return distribution

    def latent(self, eps_z: Tensor) -> Tensor:
        return eps_z

    def latent_noise(self, z: Tensor) -> Tensor:
        return z

    def log_prior(self, z: Tensor) -> Tensor:
        return standard_log_prob(z)


class VAESettings(Settings, ABC):
    """A VAE as a recipe describes it."""

    kind: str = Field(description="which VAE")

    @abstractmethod
    def build(self, data_shape: tuple[int, ...], generator: torch.Generator) -> VAE:
        """A VAE for data of this shape, weights drawn from `generator`.

        Raises:
            InputError: it cannot have data of this shape.
        """


VAES: Registry[type[VAESettings]] = Registry("VAE")
"""VAEs by the `kind` of their settings."""

r"""The conjugate energy: a joint energy of data and latents whose latents are integrated out in closed form.

    E(x, z) = -<t(x), (z, z^2)> - log pi(z),      t(x) = (a(x), -b(x)^2),      pi = N(0, I), or a learned mixture
    E(x) = -log of the integral of exp(-E(x, z)) over z = -log e(t(x))         (distributions/exponential_family.py)

For pi = N(0, I) and in each dimension E(x) = log(1 + 2 b^2) / 2 - a^2 / (2 (1 + 2 b^2)), and p(z | x) is
N(a / (1 + 2 b^2), 1 / (1 + 2 b^2)). The latents cost nothing to sample, and E(x) trains like any other energy on x.

Unlike the other energies it is not 0 before training: a = b = 0 is a saddle, which no gradient would leave.

Wu, Esmaeili, Wick, Tristan & van de Meent, Conjugate energy-based models, ICML 2021, https://arxiv.org/abs/2106.13798
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from vaebm.data.modality import IMAGES
from vaebm.distributions.exponential_family import ConjugateBias, NaturalParameters, Posterior
from vaebm.distributions.gaussian import at_least_float32
from vaebm.energy.base import DataEnergy
from vaebm.nn.initialise import initialise
from vaebm.nn.weight_norm import WeightNormConv2d, WeightNormLinear
from vaebm.registry import Settings


class ConjugateEnergy(DataEnergy):
    """E(x) of (B, *data_shape), to (B,), with what it says of z (B, d).

    Args:
        net: x to (B, 2 d), a and b.
        bias: pi(z).
    """

    def __init__(self, net: nn.Module, bias: ConjugateBias) -> None:
        super().__init__()
        self.net, self.bias = net, bias

    def statistics(self, x: Tensor) -> NaturalParameters:
        """t(x), (B, d) each."""
        a, b = at_least_float32(self.net(x)).chunk(2, dim=1)
        return NaturalParameters(a, -b.square())

    def posterior(self, x: Tensor) -> Posterior:
        """p(z | x)."""
        return self.bias.posterior(self.statistics(x))

    def of_x(self, x: Tensor) -> Tensor:
        return -self.posterior(x).log_evidence

    def joint(self, x: Tensor, z: Tensor) -> Tensor:
        """E(x, z), (B,), in nats."""
        return -self.statistics(x).inner(z) - self.bias.log_prob(z)


class GaussianBiasSettings(Settings):
    """pi = N(0, I)."""

    kind: Literal["gaussian"] = Field("gaussian", description="N(0, I), which does not learn")

    def build(self, latent_dim: int, generator: torch.Generator) -> ConjugateBias:
        """pi(z) of this many latents."""
        return ConjugateBias(torch.zeros(1, latent_dim), torch.zeros(1, latent_dim), fixed=True)


class MixtureBiasSettings(Settings):
    """An equal mixture of Gaussians, whose means and scales learn."""

    kind: Literal["mixture"] = Field("mixture", description="an equal mixture of diagonal Gaussians, which learns")
    components: int = Field(20, ge=1, description="Gaussians in the mixture: clusters of the data")
    initial_spread: float = Field(1.0, gt=0, description="standard deviation of the means before training")

    def build(self, latent_dim: int, generator: torch.Generator) -> ConjugateBias:
        """pi(z) of this many latents, its means drawn from `generator`."""
        mean = self.initial_spread * torch.randn(self.components, latent_dim, generator=generator)
        return ConjugateBias(mean, torch.zeros_like(mean))


BiasSettings = Annotated[GaussianBiasSettings | MixtureBiasSettings, Field(discriminator="kind")]


class StatisticsSettings(Settings):
    """The network t: 3 x 3 convolutions with swish, each but the first halving the image, then linear layers."""

    widths: list[int] = Field(
        [32, 32, 64, 64], description="channels of the convolutions, for images alone; none leaves them out"
    )
    hidden: list[int] = Field([128], description="widths of the fully connected layers before the last")

    def build(self, data_shape: tuple[int, ...], latent_dim: int, generator: torch.Generator) -> nn.Module:
        """x (B, *data_shape) to (B, 2 latent_dim), weights drawn from `generator`.

        Raises:
            InputError: convolutions of what is no image.
        """
        layers: list[nn.Module] = []
        sides, channels = list(data_shape[1:]), data_shape[0]
        if self.widths:
            IMAGES.require(data_shape, "network.widths", "network.widths=[]")
        for i, width in enumerate(self.widths):
            stride = 2 if i else 1
            layers += [WeightNormConv2d(channels, width, 3, stride), nn.SiLU()]
            sides, channels = [-(-side // stride) for side in sides], width
        layers.append(nn.Flatten())
        width = channels * torch.Size(sides).numel()
        for hidden in self.hidden:
            layers += [WeightNormLinear(width, hidden), nn.SiLU()]
            width = hidden
        net = nn.Sequential(*layers, nn.Linear(width, 2 * latent_dim))
        initialise(net, generator)
        return net

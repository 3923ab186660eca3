r"""E_z by a coupling flow of splines: the code mixture, bent to where codes of data are, with a cheap, exact density.

    E_z(z) = log p(z) - log q(z),      log q(z) = log mix(f(z)) + log |det df/dz|

f composes coupling layers: half of the coordinates go through monotone rational-quadratic splines whose knots
are nets of the other half, then the halves change places. Its determinant is a product and its inverse as cheap as
itself, so q is normalised, its samples f^-1(u), u ~ mix, are exact, and a chain can afford its gradient, unlike that
of a velocity (energy/flow.py). Splines act within [-5, 5]; beyond, f is the identity. Before training f is the
identity everywhere, and q the mixture. Of a hierarchical z the first coordinates are bent, as in energy/latent.py.

Durkan, Bekasov, Murray & Papamakarios, Neural spline flows, NeurIPS 2019, https://arxiv.org/abs/1906.04032; the layers
are zuko's (Rozet et al., https://doi.org/10.5281/zenodo.7625672).
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from vaebm.distributions.gaussian import at_least_float32, standard_log_prob
from vaebm.distributions.mixture import GaussianMixture
from vaebm.energy.base import LatentEnergy, LatentEnergySettings
from vaebm.errors import InputError
from vaebm.nn.initialise import initialise

CODES_AT_ONCE = 8192


class SplineFlowEnergy(LatentEnergy):
    """log p(z) - log q(z), q the mixture bent by f^-1; the mixture is set once it has been fitted.

    Args:
        mixture: the law of f(z), on the first coordinates of z.
        layers: f; called, it gives a transform with `call_and_ladj` and `inv`.
    """

    def __init__(self, mixture: GaussianMixture, layers: nn.Module) -> None:
        super().__init__()
        self.mixture = mixture
        self.layers = layers

    def of_z(self, z: Tensor) -> Tensor:
        codes = z[:, : self.mixture.means.shape[1]]
        return standard_log_prob(codes) - self.log_prob(codes)

    def log_prob(self, codes: Tensor) -> Tensor:
        """log q of (B, d), to (B,), in nats."""
        with torch.autocast(codes.device.type, enabled=False):  # a density is never left to half precision
            source, log_volume = self.layers().call_and_ladj(at_least_float32(codes))
            log_prob: Tensor = self.mixture.log_prob(source) + log_volume
        return log_prob

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, code_dim) draws of p(z) exp(-E_z(z)), in no order; stratified, as the mixture's are."""
        source = self.mixture.sample(n, generator)
        with torch.autocast(source.device.type, enabled=False):
            return torch.cat([self.layers().inv(part) for part in source.split(CODES_AT_ONCE)])


class SplineFlowSettings(LatentEnergySettings):
    """The mixture bent by coupling layers of splines."""

    kind: Literal["spline_flow"] = Field("spline_flow", description="the mixture bent by coupling layers of splines")
    hidden: list[int] = Field([256, 256], min_length=1, description="widths of the hidden layers of each coupling")
    couplings: int = Field(6, ge=2, le=100, description="coupling layers; each moves one half of the coordinates")
    bins: int = Field(8, ge=2, description="pieces of each spline")

    def build(self, code_dim: int, components: int, generator: torch.Generator) -> SplineFlowEnergy:
        """E_z with a mixture still to be fitted and layers that are still the identity."""
        if code_dim < 2:
            raise InputError("energy.latent.kind=spline_flow couples two halves of a code: take kind=mixture for one")
        from zuko.flows import NSF  # type: ignore[import-untyped]  # only who asks for it waits for the import

        flow = NSF(code_dim, transforms=self.couplings, bins=self.bins, passes=2, hidden_features=self.hidden)
        layers: nn.Module = flow.transform
        initialise(layers, generator)
        last = [net[-1] for name, net in layers.named_modules() if name.endswith("hyper")]
        for layer in last:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        return SplineFlowEnergy(GaussianMixture.standard(components, code_dim), layers)

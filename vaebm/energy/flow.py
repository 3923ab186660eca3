r"""E_z by a flow: the code mixture, carried to where codes of data are.

    E_z(z) = log p(z) - log q(z)          q: the law of z(1), where dz/dt = v(z, t) from z(0) ~ mix;  p exp(-E_z) = q
    log q(z(1)) = log mix(z(0)) - int_0^1 div v(z(t), t) dt                     (Chen et al., Neural ODEs, NeurIPS 2018)

So q is normalised and its samples are draws of the mixture, carried. v is a net, learned by flow matching
(training/estimators/flow_matching.py) and 0 before it: then q is the mixture. Of a hierarchical z the first coordinates
are carried, as in energy/latent.py. Both lines are integrated by Heun's method in `steps` steps, one forth in time, one
back, so they agree to the order of a step squared. The divergence is exact, d products of the net's Jacobian with a
vector: it makes E_z(z) some hundred times as costly as a sample, and its gradient in z, at 64 dimensions, takes 70 MB a
code. Chains do not need it: they move z(0), whose density is the mixture's, and see z(1) (models/noise_space.py).
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import jvp, vmap
from torch.nn import functional

from vaebm.distributions.gaussian import at_least_float32, standard_log_prob
from vaebm.distributions.mixture import GaussianMixture
from vaebm.energy.base import LatentEnergy, LatentEnergySettings
from vaebm.nn.initialise import initialise

CODES_AT_ONCE = 2048
DIVERGENCES_AT_ONCE = 128  # codes; each is d rows of the net
FASTEST = 20.0  # radians that the fastest of the features of t turns from t = 0 to 1: v bends little on the way


class Velocity(nn.Module):
    """v(z, t): residual blocks whose normalised inputs are scaled and shifted by features of t. 0 before training.

    Args:
        dim: of z.
        width: of each block.
        blocks: how many.
        features: sines and cosines of t.
    """

    def __init__(self, dim: int, width: int, blocks: int, features: int = 64) -> None:
        super().__init__()
        self.features = features
        self.first = nn.Linear(dim, width)
        self.modulations = nn.ModuleList(nn.Linear(features, 2 * width) for _ in range(blocks))
        self.inner = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.outer = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.last = nn.Linear(width, dim)

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        """(B, dim) and (B,) to (B, dim)."""
        steps = torch.linspace(0.0, 1.0, self.features // 2, dtype=t.dtype, device=z.device)
        angles = t[:, None] * FASTEST**steps
        features = torch.cat([angles.sin(), angles.cos()], dim=1)
        h = self.first(z).to(z.dtype)  # an autocast rounds the blocks, not the sum that runs through them
        for modulation, inner, outer in zip(self.modulations, self.inner, self.outer, strict=True):
            scale, shift = modulation(features).chunk(2, dim=1)
            h = h + outer(functional.silu(inner(_normalised(h) * (1 + scale) + shift)))
        out: Tensor = self.last(functional.silu(_normalised(h)))
        return out.to(z.dtype)


def _normalised(h: Tensor) -> Tensor:
    """(B, width), each row divided by its root mean square (Zhang & Sennrich, NeurIPS 2019).

    Not functional.layer_norm: PyTorch silently returns wrong gradients of its forward-mode derivative.
    """
    return h * (h.square().mean(dim=1, keepdim=True) + 1e-5).rsqrt()


class FlowEnergy(LatentEnergy):
    """log p(z) - log q(z), q the mixture carried along v; the mixture is set once it has been fitted.

    Args:
        mixture: the law of z(0), on the first coordinates of z.
        velocity: v, (B, d) and (B,) to (B, d).
        steps: Heun steps from t = 0 to 1, two evaluations of v each.
    """

    carries = True

    def __init__(self, mixture: GaussianMixture, velocity: nn.Module, steps: int) -> None:
        super().__init__()
        self.mixture = mixture
        self.velocity = velocity
        self.steps = steps

    def of_z(self, z: Tensor) -> Tensor:
        codes = z[:, : self.mixture.means.shape[1]]
        return standard_log_prob(codes) - self.log_prob(codes)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, code_dim) draws of p(z) exp(-E_z(z)), in no order; stratified, as the mixture's are."""
        start = self.mixture.sample(n, generator)
        with torch.autocast(start.device.type, enabled=False):
            return torch.cat([self.carry(part) for part in start.split(CODES_AT_ONCE)])

    def carry(self, source: Tensor) -> Tensor:
        """z(1) of z(0), (B, d)."""
        z, h = source, 1.0 / self.steps
        for i in range(self.steps):
            t = z.new_full((len(z),), i * h)
            v = self.velocity(z, t)
            z = z + h / 2 * (v + self.velocity(z + h * v, t + h))
        return z

    @torch.no_grad()
    def uncarry(self, codes: Tensor) -> Tensor:
        """z(0) of z(1), (B, d), up to the order of a step squared."""
        z, h = codes, 1.0 / self.steps
        for i in range(self.steps, 0, -1):
            t = z.new_full((len(z),), i * h)
            v = self.velocity(z, t)
            z = z - h / 2 * (v + self.velocity(z - h * v, t - h))
        return z

    def log_prob(self, codes: Tensor) -> Tensor:
        """log q of (B, d), to (B,), in nats."""
        with torch.autocast(codes.device.type, enabled=False):  # a density is never left to half precision
            return torch.cat([self._log_prob(at_least_float32(part)) for part in codes.split(DIVERGENCES_AT_ONCE)])

    def _log_prob(self, z: Tensor) -> Tensor:
        h, volume = 1.0 / self.steps, z.new_zeros(len(z))
        for i in range(self.steps, 0, -1):
            t = z.new_full((len(z),), i * h)
            v, divergence = self._velocity_and_divergence(z, t)
            ahead, divergence_ahead = self._velocity_and_divergence(z - h * v, t - h)
            z = z - h / 2 * (v + ahead)
            volume = volume + h / 2 * (divergence + divergence_ahead)
        return self.mixture.log_prob(z) - volume

    def _velocity_and_divergence(self, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """v (B, d) and the sum of dv_i/dz_i (B,)."""

        def along(direction: Tensor) -> tuple[Tensor, Tensor]:
            out = jvp(lambda at: self.velocity(at, t), (z,), (direction.expand_as(z),))
            return out[0], (out[1] * direction).sum(1)

        v, diagonal = vmap(along)(torch.eye(z.shape[1], dtype=z.dtype, device=z.device))
        return v[0], diagonal.sum(0)


class FlowSettings(LatentEnergySettings):
    """The mixture carried along a learned velocity."""

    kind: Literal["flow"] = Field("flow", description="the mixture carried along a learned velocity")
    width: int = Field(512, ge=1, description="width of each residual block")
    blocks: int = Field(3, ge=1, le=100, description="residual blocks of the velocity")
    steps: int = Field(10, ge=1, description="steps of Heun's method, from the mixture to the codes")

    def build(self, code_dim: int, components: int, generator: torch.Generator) -> FlowEnergy:
        """E_z with a mixture still to be fitted and a velocity that is still 0."""
        velocity = Velocity(code_dim, self.width, self.blocks)
        initialise(velocity, generator)
        for name, weight in velocity.named_parameters():
            if name.startswith(("outer", "last")):
                nn.init.zeros_(weight)
        return FlowEnergy(GaussianMixture.standard(components, code_dim), velocity, self.steps)

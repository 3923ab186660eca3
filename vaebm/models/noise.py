"""Noise as one flat vector: eps = (eps_z, eps_x).

Samplers, mass adaptation, replay buffers and diagnostics see positions (chain, dim) only. The first `latent_dim`
coordinates are the codes' noise, the rest the pixels', row by row as in the image. A likelihood without a
differentiable generator has no pixel noise: then dim = latent_dim.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Noise:
    """The shapes behind a flat position; `pixel_shape` is None where there is no pixel noise."""

    latent_dim: int
    pixel_shape: tuple[int, ...] | None

    @property
    def dim(self) -> int:
        """Length of a position."""
        return self.latent_dim + (torch.Size(self.pixel_shape).numel() if self.pixel_shape else 0)

    def unpack(self, eps: Tensor) -> tuple[Tensor | None, Tensor]:
        """(B, dim) to views (eps_x, eps_z)."""
        eps_z = eps[:, : self.latent_dim]
        return (eps[:, self.latent_dim :].unflatten(1, self.pixel_shape) if self.pixel_shape else None), eps_z

    def standard(self, n: int, generator: torch.Generator, device: torch.device) -> Tensor:
        """(n, dim) draws from N(0, I): the VAE's own noise."""
        return torch.randn(n, self.dim, generator=generator, device=device)

    def inverse_mass(self, latent_step_scale: float, device: torch.device) -> float | Tensor:
        """(dim,), or one number for all: moves of the codes' noise are `latent_step_scale` times those of the pixels'."""
        if latent_step_scale == 1.0:
            return 1.0
        moves = torch.ones(self.dim, device=device)
        moves[: self.latent_dim] = latent_step_scale
        return moves.square()

    def with_latent(self, eps: Tensor, eps_z: Tensor) -> Tensor:
        """The position with its codes' noise replaced, or as much of it, from the first on, as `eps_z` (B, d) has."""
        return torch.cat([eps_z, eps[:, eps_z.shape[1] :]], dim=1)

    def with_scaled_pixels(self, eps: Tensor, scale: float) -> Tensor:
        """The position with its pixels' noise multiplied by `scale`."""
        if scale == 1.0:
            return eps
        return torch.cat([eps[:, : self.latent_dim], scale * eps[:, self.latent_dim :]], dim=1)

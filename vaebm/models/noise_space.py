"""Noise space: what chains move, and their target.

    eps = (eps_z, eps_x), flat: the first latent_dim coordinates are the codes' noise, the rest the pixels' noise

Samplers, mass adaptation, replay buffers and diagnostics see positions (chain, dim) only. Where the energy reads codes
alone, or the likelihood has no differentiable generator, there is no pixel noise and dim = latent_dim.

    all noise      eps moves                     target h(eps)
    carried codes  (u, eps_x) moves, eps_z = f(u) target mix(u) N(eps_x; 0, I) exp(-E'(T(f(u), eps_x)))
    fixed codes    eps_x moves, eps_z stays      target h(eps_x | eps_z) = exp(-E(T(eps))) N(eps_x; 0, I) / Z(eps_z)

Carried codes are those of a base that maps draws u of the mixture to codes by f (energy/flow.py): the push-forward of
that target is h, and nobody needs the density of f(u); E' are the terms beyond the base. f(u) is computed without a
density, so it follows h exactly for f as its steps define it.

Fixed codes leave h invariant too, but a chain never leaves its code. Started from the base they sample

    p(z) exp(-E_base(z)) h(x | z),     in proportion to h(x, z) / Z(z)

so the energy shapes x and never corrects the distribution of codes; an error in E_base is added again in every round of
training, so use few rounds. Where the energy chooses the starts (`init.importance_samples`), the codes are those of the
chosen: h(x, z) then, as closely as so many candidates come to it. The decoder runs once a chain instead of forwards and
backwards at each step.

A target is exact, or the one that the published code differentiates (`release`): it keeps the decoder's -log sigma,
that is, it leaves out the Jacobian of T, and does not leave the prior invariant.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Literal, Protocol

import torch
from torch import Tensor

from vaebm import sampling
from vaebm.distributions.gaussian import standard_log_prob
from vaebm.distributions.likelihood import Likelihood
from vaebm.energy import LatentEnergy, TotalEnergy
from vaebm.errors import InputError
from vaebm.vae import VAE

Target = Literal["exact", "release"]
CODES_AT_ONCE = 2048
TARGETS: tuple[Target, ...] = ("exact", "release")


@dataclass(frozen=True)
class Noise:
    """The shapes behind a flat position; `data_shape` is None where there is no pixel noise."""

    latent_dim: int
    data_shape: tuple[int, ...] | None

    @property
    def dim(self) -> int:
        """Length of a position."""
        return self.latent_dim + (torch.Size(self.data_shape).numel() if self.data_shape else 0)

    def unpack(self, eps: Tensor) -> tuple[Tensor | None, Tensor]:
        """(B, dim) to views (eps_x, eps_z)."""
        eps_z = eps[:, : self.latent_dim]
        return (eps[:, self.latent_dim :].unflatten(1, self.data_shape) if self.data_shape else None), eps_z

    def standard(self, n: int, generator: torch.Generator, like: Tensor) -> Tensor:
        """(n, dim) draws from N(0, I), the VAE's own noise, on the device and of the type of `like`."""
        return torch.randn(n, self.dim, generator=generator, device=like.device, dtype=like.dtype)

    def step_scales(self, latent_step_scale: float, like: Tensor) -> Tensor:
        """(dim,): the codes' noise moves `latent_step_scale` times as far as the pixels'."""
        scales = torch.ones(self.dim, device=like.device, dtype=like.dtype)
        scales[: self.latent_dim] = latent_step_scale
        return scales

    def with_latent(self, eps: Tensor, eps_z: Tensor) -> Tensor:
        """`eps` with its first d coordinates replaced by `eps_z` (B, d)."""
        return torch.cat([eps_z, eps[:, eps_z.shape[1] :]], dim=1)

    def with_scaled_pixels(self, eps: Tensor, scale: float) -> Tensor:
        """`eps` with its pixel noise multiplied by `scale`."""
        if scale == 1.0:
            return eps
        return torch.cat([eps[:, : self.latent_dim], scale * eps[:, self.latent_dim :]], dim=1)


class PulledBack(Protocol):
    """What this file needs of a model in noise space."""

    vae: VAE
    energy_net: TotalEnergy
    noise: Noise
    data_shape: tuple[int, ...]

    def noise_log_density(self, eps: Tensor) -> Tensor:
        """log h(eps), (B,)."""
        ...

    def generate(self, eps: Tensor) -> tuple[Tensor, Tensor]:
        """T: (B, dim) to x and z."""
        ...

    def decode_noise(self, eps_z: Tensor) -> tuple[Likelihood, Tensor]:
        """p(x | z), with noise where the model adds it, and z."""
        ...

    def autocast(self) -> AbstractContextManager[object]:
        """The precision of the nets."""
        ...


def release_log_density(model: PulledBack) -> sampling.LogDensity:
    """The published target: log p(z) + log N(mu + sigma eps_x; mu, sigma) - E, the clamp left out of the density."""
    _check_generator(model, "target=release")

    def target(eps: Tensor) -> Tensor:
        eps_x, eps_z = model.noise.unpack(eps)
        assert eps_x is not None
        with model.autocast():
            likelihood, z = model.decode_noise(eps_z)
            energy: Tensor = model.energy_net(likelihood.transport(eps_x), z)
        return model.vae.log_prior(z) + likelihood.transported_log_prob(eps_x) - energy

    return target


@dataclass(frozen=True, eq=False)
class Coordinates:
    """What a batch of chains moves, and its target.

    Args:
        start: (chain, moved), where the chains begin.
        target: (chain, moved) to (chain,).
        fixed: (chain, dim - moved), the coordinates of a position before those.
    """

    start: Tensor
    target: sampling.LogDensity
    fixed: Tensor

    def position(self, moved: Tensor) -> Tensor:
        """(chain, moved) to (chain, dim)."""
        return torch.cat([self.fixed, moved], dim=1)

    def full(self, state: sampling.ChainState) -> sampling.ChainState:
        """The state over full positions; fixed coordinates have score zero."""
        score = torch.cat([torch.zeros_like(self.fixed), state.score], dim=1)
        return state._replace(position=self.position(state.position), score=score)


def run_chains(
    target: sampling.LogDensity,
    start: Tensor,
    sampler: sampling.SamplerSettings,
    inverse_mass: float | Tensor,
    generator: torch.Generator,
    observer: sampling.Observer | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> sampling.Chains:
    """Chains of a sampler from `start` (chain, moved), without their history.

    Raises:
        InputError: the sampler cannot run on so few dimensions, or within so few gradients.
        KeyboardInterrupt: Ctrl-C; such short chains are of no use before their end.
    """
    try:
        chains = sampling.sample_chains(
            target,
            start,
            sampler.build(inverse_mass),
            steps=sampler.steps,
            warmup=sampler.warmup,
            gradients=sampler.gradients,
            generator=generator,
            keep_history=False,
            observer=observer,
            progress=progress,
        )
    except sampling.Unsuitable as reason:
        raise InputError(f"sampler.kind={sampler.kind}: {reason}") from None
    if chains.interrupted:
        raise KeyboardInterrupt
    return chains


class Moves(ABC):
    """Which noise chains move."""

    follows_h: bool  # whether chains that run long enough sample h(x, z)

    @abstractmethod
    def coordinates(self, eps: Tensor) -> Coordinates:
        """For chains that begin at (chain, dim); to be used while the model's weights are frozen."""

    @abstractmethod
    def inverse_mass(self) -> float | Tensor:
        """Of the moved coordinates, until a warm-up learns another: one number, or (moved,)."""


class AllNoise(Moves):
    """Chains move all noise; `latent_step_scale` is how far the codes' moves, relative to the pixels'."""

    follows_h = True

    def __init__(self, model: PulledBack, target: Target, latent_step_scale: float) -> None:
        self.model, self.latent_step_scale = model, latent_step_scale
        self.target: Callable[[Tensor], Tensor] = (
            release_log_density(model) if target == "release" else model.noise_log_density
        )

    def coordinates(self, eps: Tensor) -> Coordinates:
        return Coordinates(eps, self.target, eps[:, :0])

    def inverse_mass(self) -> float | Tensor:
        return _mass_of(self.model, self.latent_step_scale)


@dataclass(frozen=True, eq=False)
class CarriedCoordinates(Coordinates):
    """The first coordinates that move are draws of the base's mixture, which it carries to codes."""

    base: LatentEnergy

    def position(self, moved: Tensor) -> Tensor:
        return carried(self.base, moved)

    def full(self, state: sampling.ChainState) -> sampling.ChainState:
        """The state over full positions; the score stays that of what moves."""
        return state._replace(position=self.position(state.position))


@torch.no_grad()
def carried(base: LatentEnergy, moved: Tensor) -> Tensor:
    """Positions (chain, dim) of draws of the base's mixture with pixel noise, (chain, dim)."""
    d = base.mixture.means.shape[1]
    return torch.cat([torch.cat([base.carry(part) for part in moved[:, :d].split(CODES_AT_ONCE)]), moved[:, d:]], dim=1)


class CarriedCodes(Moves):
    """Chains move the pixels' noise and the draws that the base carries to codes."""

    follows_h = True

    def __init__(self, model: PulledBack, base: LatentEnergy, latent_step_scale: float) -> None:
        self.model, self.base, self.latent_step_scale = model, base, latent_step_scale

    def coordinates(self, eps: Tensor) -> CarriedCoordinates:
        d = self.base.mixture.means.shape[1]
        start = torch.cat([self.base.uncarry(eps[:, :d]), eps[:, d:]], dim=1)
        return CarriedCoordinates(start, self.target, eps[:, :0], self.base)

    def position(self, moved: Tensor) -> Tensor:
        """(chain, moved) to positions (chain, dim)."""
        return carried(self.base, moved)

    def sample_reference(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, moved) draws of the base in these coordinates."""
        like = next(self.model.vae.parameters())
        return self.model.noise.with_latent(
            self.model.noise.standard(n, generator, like), self.base.mixture.sample(n, generator)
        )

    def reference(self, moved: Tensor) -> Tensor:
        """log of the base's density in these coordinates, (chain, moved) to (chain,); it is normalised."""
        d = self.base.mixture.means.shape[1]
        return self.base.mixture.log_prob(moved[:, :d]) + standard_log_prob(moved[:, d:])

    def full_noise(self, moved: Tensor) -> Tensor:
        """As `position`, differentiable."""
        d = self.base.mixture.means.shape[1]
        return torch.cat([self.base.carry(moved[:, :d]), moved[:, d:]], dim=1)

    def target(self, moved: Tensor) -> Tensor:
        """log h in these coordinates."""
        x, z = self.model.generate(self.full_noise(moved))
        with self.model.autocast():
            energy: Tensor = self.model.energy_net.correction(x, z)
        return self.reference(moved) - energy

    def inverse_mass(self) -> float | Tensor:
        return _mass_of(self.model, self.latent_step_scale)


class FixedCodes(Moves):
    """Chains move the pixels' noise; codes stay as they were drawn."""

    follows_h = False

    def __init__(self, model: PulledBack, target: Target) -> None:
        _check_generator(model, "fix_codes=true")
        self.model, self.target = model, target

    def coordinates(self, eps: Tensor) -> Coordinates:
        model, codes, released = self.model, self.model.noise.latent_dim, self.target == "release"
        energy = model.energy_net.on_data

        @cache
        def decoded(copies: int) -> tuple[Likelihood, Tensor]:
            """Of each chain's code, once for each of its replicas, where a kernel moves several (tempering)."""
            with torch.no_grad(), model.autocast():
                return model.decode_noise(eps[:, :codes].repeat_interleave(copies, dim=0))

        def target(flat: Tensor) -> Tensor:
            likelihood, z = decoded(len(flat) // len(eps))
            eps_x = flat.unflatten(1, model.data_shape)
            with model.autocast():
                value: Tensor = energy(likelihood.transport(eps_x), z)
            return (likelihood.transported_log_prob(eps_x) if released else standard_log_prob(flat)) - value

        return Coordinates(eps[:, codes:], target, eps[:, :codes])

    def inverse_mass(self) -> float | Tensor:
        return 1.0


def _mass_of(model: PulledBack, latent_step_scale: float) -> float | Tensor:
    if latent_step_scale == 1.0 or not model.noise.latent_dim:
        return 1.0
    return model.noise.step_scales(latent_step_scale, next(model.vae.parameters())).square()


def _check_generator(model: PulledBack, setting: str) -> None:
    if model.noise.data_shape is None:
        raise InputError(
            f"{setting} moves pixel noise, and this model has none: it needs an energy on x that sees samples"
            " (energy.image, energy.input=sample) and a likelihood with a differentiable generator"
            " (vae.likelihood.kind=censored or gaussian)"
        )

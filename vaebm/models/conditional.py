"""Conditionals of a model: codes given data, data given codes, and everything given one latent.

    codes of x       z ~ h(z | x), in proportion to p(z) p(x | z) exp(-E(x, z)), by chains in the noise of z
    data of z        x ~ h(x | z), in proportion to p(x | z) exp(-E(x, z)), by chains in the noise of x
    a held latent    (x, z) ~ h(x, z | eps_i = v), by chains in all other noise

The first corrects the encoder: its chains begin at q's mean and reach the posterior, which without a term on z is that
of the VAE, since E(x) is the same for all codes of one x. Where the energy reads z, it is the posterior under both; of
a flow, chains move the draws that it carries to codes (models/noise_space.py), and nobody needs its density.

A held latent is replaced by its value wherever the density looks at it; the coordinate of the chain that it had goes on
as an N(0, 1) of its own, so that every kernel holds it without knowing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from vaebm import sampling
from vaebm.distributions.gaussian import standard_log_prob
from vaebm.errors import InputError
from vaebm.models.draws import NoiseSpaceModel
from vaebm.models.noise_space import CarriedCodes, Coordinates, FixedCodes, Moves, run_chains

POSTERIOR_STEPS, POSTERIOR_WARMUP = 20, 60


def sample_posterior(
    model: NoiseSpaceModel,
    x: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """z ~ h(z | x), (B, latent_dim), one for each x (B, *data_shape), in the model's range, in float32.

    The sampler is HMC with a warm-up, since posteriors are narrow and their widths differ.
    """
    hmc = cast(Any, sampling.KERNELS.settings(sampling.KERNELS["hmc"]))
    sampler = hmc(steps=POSTERIOR_STEPS, warmup=POSTERIOR_WARMUP)
    with full_precision(model), model.frozen():
        x = model.add_noise(x.to(model.device), generator)
        with torch.no_grad():
            start = model.vae.latent_noise(model.vae.encode(x))
        base, carrying = model.energy_net.base, None
        if base is not None and base.carries:
            carrying = CarriedCodes(model, base, 1.0)
            start = carrying.coordinates(start).start

        def target(moved: Tensor) -> Tensor:
            likelihood, z = model.decode_noise(moved if carrying is None else carrying.full_noise(moved))
            log_prior = standard_log_prob(moved) if carrying is None else carrying.reference(moved)
            energy: Tensor = (model.energy_net if carrying is None else model.energy_net.correction)(x, z)
            return log_prior + likelihood.log_prob(x) - energy

        moved = run_chains(target, start, sampler, 1.0, generator).position
        with torch.no_grad():
            return model.vae.latent(moved if carrying is None else carrying.position(moved))


def sample_data_given_codes(
    model: NoiseSpaceModel,
    z: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Noise (B, dim) of x ~ h(x | z), one for each code (B, latent_dim), by the recipe's sampler."""
    eps = model.noise.standard(len(z), generator, z)
    with torch.no_grad():
        eps = model.noise.with_latent(eps, model.vae.latent_noise(z))
    if model.noise.data_shape is None or not model.energy_net.reads_x:
        return eps
    eps = model.noise.with_scaled_pixels(eps, model.settings.init.noise_scale)
    return _conditioned(model, FixedCodes(model, model.settings.target), eps, generator)


def sample_with_held_latent(
    model: NoiseSpaceModel,
    eps: Tensor,
    latent: int,
    generator: torch.Generator,
) -> Tensor:
    """Noise (B, dim) of draws of h given that coordinate `latent` is what it is in `eps` (B, dim), where chains begin.

    The sampler is the recipe's.

    Raises:
        InputError: the latent cannot be held.
    """
    check_latent(model, latent)
    return _conditioned(model, HeldLatent(model, latent), eps, generator)


def check_latent(model: NoiseSpaceModel, latent: int) -> None:
    """InputError: there is no such latent, or a flow carries the codes, whose latents chains do not move one by one."""
    if not 0 <= latent < model.noise.latent_dim:
        raise InputError(f"there is no latent {latent}: this model has 0 to {model.noise.latent_dim - 1}")
    base = model.energy_net.base
    if base is not None and base.carries:
        raise InputError("the codes of a flow cannot be held one by one: use a model with another energy.latent.kind")


@dataclass(frozen=True, eq=False)
class _HeldCoordinates(Coordinates):
    latent: int

    def position(self, moved: Tensor) -> Tensor:
        return _with_column(moved, self.latent, self.start)


def _with_column(eps: Tensor, column: int, source: Tensor) -> Tensor:
    return torch.cat([eps[:, :column], source[:, column : column + 1], eps[:, column + 1 :]], dim=1)


class HeldLatent(Moves):
    """Chains move all noise but one latent's."""

    follows_h = False

    def __init__(self, model: NoiseSpaceModel, latent: int) -> None:
        self.model, self.latent = model, latent

    def coordinates(self, eps: Tensor) -> Coordinates:
        def target(moved: Tensor) -> Tensor:
            copies = len(moved) // len(eps)  # replicas of each chain, where a kernel moves several (tempering)
            held = _with_column(moved, self.latent, eps.repeat_interleave(copies, dim=0))
            return self.model.noise_log_density(held) - moved[:, self.latent].square() / 2

        return _HeldCoordinates(eps, target, eps[:, :0], self.latent)

    def inverse_mass(self) -> float | Tensor:
        return self.model.moves.inverse_mass()


def _conditioned(
    model: NoiseSpaceModel,
    moves: Moves,
    eps: Tensor,
    generator: torch.Generator,
) -> Tensor:
    with model.frozen():
        coordinates = moves.coordinates(eps)
        sampler, mass = model.settings.sampler, moves.inverse_mass()
        chains = run_chains(coordinates.target, coordinates.start, sampler, mass, generator)
        return coordinates.position(chains.position)


@contextmanager
def full_precision(model: NoiseSpaceModel) -> Iterator[None]:
    """Within: float32. A likelihood of a narrow posterior is a large number, whose differences eight bits lose."""
    settings = model.settings
    model.update_settings(settings.model_copy(update={"precision": "float32"}))
    try:
        yield
    finally:
        model.update_settings(settings)

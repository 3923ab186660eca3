"""Densities of models of points in the plane, on a grid, by quadrature, for maps.

    truth          log p(x), where it is known
    vae            integral over z of p(z) p(x | z)
    vae_mixture    the same with the code mixture in the place of p(z)
    vaebm          with p(z) exp(-E_z(z)) there, times exp(-E_x(x)) / Z_x

The grids are coarser than those that measure (metrics/quadrature.py), which maps do not need; `error` says by how
much log-densities may be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from vaebm.data import DataSet
from vaebm.distributions.likelihood import GaussianLikelihood
from vaebm.errors import InputError
from vaebm.metrics import Measurement, PlaneQuadrature
from vaebm.models import NoiseSpaceModel

X_POINTS, LATENT_POINTS = 301, 301


@dataclass(frozen=True, eq=False)
class Densities:
    """Log-densities (x_1, x_2) on a square grid.

    Args:
        extent: of the grid, along either axis.
        maps: by subject.
        energy: E_x + log Z_x, which is log p - log h; None without an energy on x.
        error: the largest error of a log-density, in nats.
        log_likelihoods: of held-out points, for subjects of which it was not measured.
    """

    extent: tuple[float, float]
    maps: dict[str, Tensor]
    energy: Tensor | None
    error: float
    log_likelihoods: list[Measurement]


def densities(
    model: NoiseSpaceModel, data: DataSet, extent: tuple[float, float], points: Tensor, measured: Collection[str]
) -> Densities:
    """Everything that can be mapped, and the log-likelihood of points (n, 2) where it is not `measured` yet.

    Raises:
        InputError: the model is not one whose density quadrature can give, or it has diverged; the message says which.
    """
    vae, energy = model.vae, model.energy_net
    if model.data_shape != (2,) or vae.latent_dim > 2 or not vae.likelihood.takes_noise:
        raise InputError(
            "exact densities need points in the plane, one or two latents and a Gaussian decoder; this model has"
            f" {'x'.join(map(str, model.data_shape))} values, {vae.latent_dim} latents and a"
            f" {type(vae.likelihood).__name__}"
        )
    if not model.moves.follows_h:
        raise InputError(
            "exact densities are of h(x, z), and samples whose chains leave codes alone (fix_codes) are of another law"
        )

    def decode(z: Tensor) -> tuple[Tensor, Tensor]:
        likelihood = vae.decode(z.to(model.device))
        assert isinstance(likelihood, GaussianLikelihood)
        return likelihood.gaussian.mean, likelihood.gaussian.scale

    def log_corrected_prior(z: Tensor) -> Tensor:
        log_prior = vae.log_prior(z)
        return log_prior if energy.base is None else log_prior - energy.base(None, z)

    def quadrature(log_weight: Callable[[Tensor], Tensor], corrected: bool = False) -> PlaneQuadrature:
        return PlaneQuadrature(
            decode,
            vae.latent_dim,
            lambda z: log_weight(z.to(model.device)),
            (lambda x: energy.correction(x.to(model.device), None)) if corrected else None,
            latent_points=LATENT_POINTS,
            x_range=extent,
            x_points=X_POINTS,
        )

    with model.frozen():
        found = {
            "vae": quadrature(vae.log_prior),
            "vae_mixture": quadrature(model.mixture.log_prob),
            "vaebm": quadrature(log_corrected_prior, model.corrects),
        }
        log_likelihoods = [
            q.log_likelihood(points).with_subject(key) for key, q in found.items() if key not in measured
        ]
    full = found["vaebm"]
    maps = {key: q.log_model for key, q in found.items()}
    if data.truth is not None:
        grid = torch.cartesian_prod(full.axis, full.axis)
        maps = {"truth": data.truth.log_prob(grid).reshape(len(full.axis), -1), **maps}
    tilt = None if not model.corrects else full.log_vae - full.log_model
    return Densities(extent, maps, tilt, max(q.error for q in found.values()), log_likelihoods)

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
from vaebm.errors import InputError
from vaebm.metrics import Measurement, PlaneQuadrature
from vaebm.models import VAEBM

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
    model: VAEBM, data: DataSet, extent: tuple[float, float], points: Tensor, measured: Collection[str]
) -> Densities:
    """Everything that can be mapped, and the log-likelihood of points (n, 2) where it is not `measured` yet.

    Raises:
        InputError: the model is not one whose density quadrature can give, or it has diverged; the message says which.
    """
    vae, energy = model.vae, model.energy_net
    if model.data_shape != (2,) or vae.latent_dim > 2 or model.settings.vae.likelihood.kind != "gaussian":
        raise InputError(
            "exact densities need points in the plane, one or two latents and a Gaussian decoder; this model has"
            f" {'x'.join(map(str, model.data_shape))} values, {vae.latent_dim} latents and a"
            f" {model.settings.vae.likelihood.kind} decoder"
        )
    if model.settings.latent_step_scale == 0:
        raise InputError(
            "exact densities are of h(x, z), and samples whose chains leave codes alone (latent_step_scale is 0) are of"
            " another law"
        )

    def decode(z: Tensor) -> tuple[Tensor, Tensor]:
        gaussian = vae.pixels(z.to(model.device)).gaussian
        return gaussian.mean, gaussian.scale

    def log_corrected_prior(z: Tensor) -> Tensor:
        log_prior = vae.log_prior(z)
        return log_prior if energy.latent is None else log_prior - energy.latent(None, z)

    def quadrature(log_weight: Callable[[Tensor], Tensor], image: torch.nn.Module | None = None) -> PlaneQuadrature:
        return PlaneQuadrature(
            decode,
            vae.latent_dim,
            lambda z: log_weight(z.to(model.device)),
            None if image is None else lambda x: image(x.to(model.device)),
            latent_points=LATENT_POINTS,
            x_range=extent,
            x_points=X_POINTS,
        )

    with model.frozen():
        found = {
            "vae": quadrature(vae.log_prior),
            "vae_mixture": quadrature(model.mixture.log_prob),
            "vaebm": quadrature(log_corrected_prior, energy.image),
        }
        log_likelihoods = [
            q.log_likelihood(points).with_subject(key) for key, q in found.items() if key not in measured
        ]
    full = found["vaebm"]
    maps = {key: q.log_model for key, q in found.items()}
    if data.truth is not None:
        grid = torch.cartesian_prod(full.axis, full.axis)
        maps = {"truth": data.truth.log_prob(grid).reshape(len(full.axis), -1), **maps}
    tilt = None if energy.image is None else full.log_vae - full.log_model
    return Densities(extent, maps, tilt, max(q.error for q in found.values()), log_likelihoods)

"""Quadrature of a model: what of it `metrics/quadrature.py` integrates."""

from __future__ import annotations

from torch import Tensor

from vaebm import metrics
from vaebm.distributions.likelihood import GaussianLikelihood
from vaebm.errors import InputError
from vaebm.models import NoiseSpaceModel


def plane_quadrature(model: NoiseSpaceModel, with_energy: bool) -> metrics.PlaneQuadrature:
    """Quadrature for a model of points in the plane: its VAE, or the VAE with its energy.

    Raises:
        InputError: the model is not one of points in the plane with one or two latents and a Gaussian decoder.
    """
    vae, energy = model.vae, model.energy_net
    if model.data_shape != (2,) or vae.latent_dim > 2 or not vae.likelihood.reparameterised:
        raise InputError(
            "quadrature needs points in the plane, at most two latents and a Gaussian decoder: use --only without"
            " log_likelihood"
        )

    # The grid lies on the CPU, the model where it may.
    device = model.device

    def decode(z: Tensor) -> tuple[Tensor, Tensor]:
        likelihood = vae.decode(z.to(device))
        assert isinstance(likelihood, GaussianLikelihood)
        gaussian = likelihood.gaussian
        return gaussian.mean.cpu(), gaussian.scale.cpu()

    def log_latent_weight(z: Tensor) -> Tensor:
        z = z.to(device)
        log_prior = vae.log_prior(z)
        return (log_prior - energy.base(None, z) if with_energy and energy.base is not None else log_prior).cpu()

    def image(x: Tensor) -> Tensor:
        of_x: Tensor = energy.correction(x.to(device), None)
        return of_x.cpu()

    has_energy = with_energy and model.corrects
    return metrics.PlaneQuadrature(decode, vae.latent_dim, log_latent_weight, image if has_energy else None)

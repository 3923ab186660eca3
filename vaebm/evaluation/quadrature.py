"""Quadrature of a model: what of it metrics/quadrature.py integrates.

    h(x, z) ∝ [p(z) exp(-E_z(z))] p(x | z) exp(-E_x(x))

Data lie in the plane, the decoder is Gaussian with at most two latents, and every term of the energy reads x or z, none
of them both. Terms that read z alone belong to the latents' weight, those on x to the density of the data.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from vaebm.distributions.likelihood import GaussianLikelihood
from vaebm.errors import InputError
from vaebm.metrics import PlaneQuadrature
from vaebm.models import Model, NoiseSpaceModel


def integrable(model: Model) -> bool:
    """Whether quadrature gives the density of the model's samples."""
    if not isinstance(model, NoiseSpaceModel) or model.data_shape != (2,) or not model.moves.follows_h:
        return False
    joint = [term for term in model.energy_net.terms.values() if term.reads_x and term.reads_z]
    return model.vae.latent_dim <= 2 and model.vae.likelihood.reparameterised and not joint


def plane_quadrature(
    model: Model, with_energy: bool, log_prior: Callable[[Tensor], Tensor] | None = None, **grid: Any
) -> PlaneQuadrature:
    """Quadrature of a model: its VAE, or the VAE with its energy.

    Args:
        model: on its device.
        with_energy: whether the energy is part of it.
        log_prior: of codes (K, latent_dim), to (K,), in place of the VAE's.
        **grid: in place of what `PlaneQuadrature` takes by default.

    Raises:
        InputError: the model is not `integrable`.
    """
    if not isinstance(model, NoiseSpaceModel) or not integrable(model):
        raise InputError(
            "quadrature needs points in the plane, at most two latents, a Gaussian decoder, no term of the energy that"
            " reads both x and z, and chains that move codes: use --only without log_likelihood"
        )
    vae, energy, device = model.vae, model.energy_net, model.device  # the grid lies on the CPU, the model where it may
    of_codes = [term for term in energy.terms.values() if not term.reads_x]

    def decode(z: Tensor) -> tuple[Tensor, Tensor]:
        likelihood = vae.decode(z.to(device))
        assert isinstance(likelihood, GaussianLikelihood)
        return likelihood.gaussian.mean.cpu(), likelihood.gaussian.scale.cpu()

    def log_latent_weight(z: Tensor) -> Tensor:
        z = z.to(device)
        log_weight = (log_prior or vae.log_prior)(z)
        return (log_weight - sum(term(None, z) for term in of_codes) if with_energy else log_weight).cpu()

    def energy_of_data(x: Tensor) -> Tensor:
        of_x: Tensor = energy.on_data(x.to(device), None)
        return of_x.cpu()

    tilts = with_energy and energy.reads_x
    latent_dim = max(vae.latent_dim, 1)  # a base without codes says the same of every one
    return PlaneQuadrature(decode, latent_dim, log_latent_weight, energy_of_data if tilts else None, **grid)

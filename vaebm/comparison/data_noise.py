r"""Data noise: positions in noise space that give data back, where chains start from data.

    z ~ q(z | x),   eps_z = T_z^{-1}(z),   eps_x such that T_x(z, eps_x) = x

For a Gaussian likelihood eps_x = (x - mu) / sigma. A censored value at an end says only that u = mu + sigma eps lies
beyond it: eps is drawn from N(0, 1) restricted to there, by inverting its distribution function in float64. Likelihoods
without a differentiable generator have no eps_x. Where the model adds noise, x is the data with that noise.
"""

import torch
from torch import Tensor

from vaebm.distributions.likelihood import CensoredLikelihood, GaussianLikelihood
from vaebm.models import NoiseSpaceModel

MIN_PROBABILITY = 1e-300


@torch.no_grad()
def data_noise(model: NoiseSpaceModel, x: Tensor, generator: torch.Generator) -> Tensor:
    """(B, dim) positions that give x (B, *data_shape), on the model's device."""
    with model.autocast():  # as the generator runs: otherwise x would come back only roughly
        z, x = model.vae.infer(x, generator).z, model.add_noise(x, generator)
        eps_z = model.vae.latent_noise(z)
        if model.noise.data_shape is None:
            return eps_z
        likelihood, _ = model.decode_noise(eps_z)
    assert isinstance(likelihood, GaussianLikelihood)
    mu, sigma = likelihood.gaussian.mean.double(), likelihood.gaussian.scale.double()
    eps_x = (x - mu) / sigma
    if isinstance(likelihood, CensoredLikelihood):
        uniform = torch.rand(x.shape, dtype=torch.float64, device=x.device, generator=generator)
        below = _beyond((-1.0 - mu) / sigma, uniform)
        above = -_beyond((mu - 1.0) / sigma, uniform)
        eps_x = torch.where(x <= -1.0, below, torch.where(x >= 1.0, above, eps_x))
    return torch.cat([eps_z, eps_x.flatten(1).to(eps_z)], dim=1)


def _beyond(limit: Tensor, uniform: Tensor) -> Tensor:
    """Draws from N(0, 1) below the limit."""
    probability = (torch.special.ndtr(limit) * uniform).clamp(min=MIN_PROBABILITY)
    return torch.minimum(torch.special.ndtri(probability), limit)

"""Importance-weighted bounds of log p(x), for the VAE and the same decoder with another law of its codes.

    log p(x) >= E log (1/K) sum_k w_k,      w_k = p(x | z_k) p(z_k) / q(z_k | x),   z_k ~ q(z | x)

For codes from the mixture or from E_z, p(z) is multiplied by mix(c) / p(c) or exp(-E_z(z)) / Z_z. All are lower
bounds on average, tighter with larger K, looser the more informative the codes are: compare only at equal K. The same
draws serve all of a model's subjects, so that their difference is surer than either.

Units: a Gaussian has a density of values in [-1, 1], a censored one a density between the ends and a mass at each. Nats
therefore compare only between models with the same likelihood. Bits a dimension compare further: each density is taken
times the width of the cell that 8 bits (or as many levels as the data have) leave to a value, 2 / levels.

Burda, Grosse & Salakhutdinov, Importance weighted autoencoders, ICLR 2016, https://arxiv.org/abs/1509.00519
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vaebm.data import DataSet
from vaebm.data.splits import Split
from vaebm.distributions.gaussian import standard_log_prob
from vaebm.evaluation.likelihood import mean_of
from vaebm.evaluation.metric import Given, Metric
from vaebm.evaluation.quadrature import integrable
from vaebm.evaluation.quantity import Quantity
from vaebm.metrics.measurement import Measurement
from vaebm.models import Model, NoiseSpaceModel

PROPOSALS = 100  # K
POINTS_AT_ONCE = 50
MAX_POINTS, MIN_POINTS, MAX_VALUES = 1_000, 50, 80_000_000


def bounded_rows(test: Split, data_shape: Sequence[int]) -> Tensor:
    """Indices of the test data that are looked at: fewer where they are large, a fixed random choice."""
    most = max(MIN_POINTS, min(MAX_POINTS, MAX_VALUES // (PROPOSALS * math.prod(data_shape))))
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))
    return order[:most].sort().values


class Proposals(NamedTuple):
    """For a batch of data, z ~ q(z | x), K for each.

    Args:
        x: (B K, *data_shape), each K times, with the noise that the model adds.
        z: (B K, latent_dim).
        log_weights: (B, K) float64, log p(x | z) p(z) / q(z | x).
        densities: (B,), how many of the values of x have a density instead of a mass.
    """

    x: Tensor
    z: Tensor
    log_weights: Tensor
    densities: Tensor


@torch.no_grad()
def proposals(model: NoiseSpaceModel, test: Split, rows: Tensor, seed: int) -> Iterator[Proposals]:
    """Of the test data of these indices, batch after batch; the same for one seed."""
    generator = torch.Generator(model.device).manual_seed(seed)
    for part in rows.split(POINTS_AT_ONCE):
        x = test.batch(part).x.to(model.device).repeat_interleave(PROPOSALS, 0)
        x = model.add_noise(x, generator)
        with model.frozen(), model.autocast():
            z, log_ratio = model.vae.propose(x, generator)
        likelihood = model.likelihood(z)
        log_weights = (likelihood.log_prob(x).double() - log_ratio.double()).reshape(len(part), PROPOSALS)
        yield Proposals(x, z, log_weights, likelihood.densities(x)[::PROPOSALS])


def base_tilt(model: NoiseSpaceModel, z: Tensor) -> Tensor:
    """log base(z) - log p(z) of (B K, latent_dim), to (B, K) float64, up to the base's normaliser."""
    base = model.energy_net.base
    tilt = z.new_zeros(len(z)) if base is None else -base(None, z)
    return tilt.double().reshape(-1, PROPOSALS)


class LogLikelihoodLower(Metric):
    """Of the VAE, with the mixture in the place of its prior, and of the base; the error is over data."""

    quantities = (
        Quantity(
            "log_likelihood_lower",
            "log-likelihood, at least",
            "the bound of the log-likelihood of held-out data",
            "nats",
            "higher",
        ),
    )
    needs = frozenset({"density"})

    def applies(self, subject: str, data: DataSet, model: Model) -> bool:
        if not isinstance(model, NoiseSpaceModel) or subject not in ("vae", "vae_mixture", "start"):
            return False
        base = model.energy_net.base
        slow = subject == "start" and base is not None and base.carries
        return not slow and not integrable(model)

    @torch.no_grad()
    def measure(self, given: Given) -> list[Measurement]:
        model, test, levels = given.model, given.data.test, given.data.test.levels
        assert isinstance(model, NoiseSpaceModel)
        bounds, cells = [], []
        for proposed in proposals(model, test, bounded_rows(test, given.data.shape), given.seed):
            log_weights = proposed.log_weights
            if given.subject == "vae_mixture":
                codes = proposed.z[:, : model.mixture.means.shape[1]]
                tilt = model.mixture.log_prob(codes) - standard_log_prob(codes)
                log_weights = log_weights + tilt.double().reshape(log_weights.shape)
            elif given.subject == "start":
                log_weights = log_weights + base_tilt(model, proposed.z)
            bounds.append(log_weights.logsumexp(1) - math.log(PROPOSALS))
            cells.append(proposed.densities.double() * math.log(2.0 / (levels or 2.0)))
        values, of_cells = torch.cat(bounds).cpu(), torch.cat(cells).cpu()
        base = model.energy_net.base
        if given.subject == "start" and base is not None:
            values = values - base.log_normaliser(torch.Generator(model.device).manual_seed(given.seed))
        settings: dict[str, object] = {"proposals": PROPOSALS}
        if levels is not None:
            settings["bits_per_dim"] = -float((values + of_cells).mean()) / (math.prod(given.data.shape) * math.log(2))
        return [mean_of("log_likelihood_lower", values, **settings)]

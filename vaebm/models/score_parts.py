"""Parts of a score: what a VAE and its energy say of one sample, as numbers with names.

Of a sample x, with m the mean of q(z | x), E the sum of the terms of the energy, and K draws z_k ~ q(z | x) made with
the same noise for every sample of a model:

    energy                   E(x, m), and its terms as energy_NAME
    energy_gradient          |dE(x, m) / dx|, m held, where a term reads x
    log_likelihood_lower     log (1/K) sum_k w_k,   w_k = p(x | z_k) p(z_k) / q(z_k | x)     (evaluation/importance.py)
    log_density              log (1/K) sum_k w_k exp(-E(x, z_k)): at most log h(x) + log Z on average
    log_density_gradient     |d/dx [log p(x | m) - E(x, m)]|, m held: not the gradient of log_density
    log_likelihood           log p(x | m), and the summands that the likelihood tells apart as log_likelihood_NAME
    kl                       (1/K) sum_k log q(z_k | x) / p(z_k), an estimate of KL(q(z | x) || p(z))
    reconstruction_error     |x - center of p(x | m)|^2
    code_norm                |eps|^2, eps the noise of which the prior makes m
    code_surprise            -log mix(c), c the codes of m

Where the model adds noise, x is a sample with noise, the same for all. Values are in nats, gradients' norms in nats for
each unit of x, and errors in units of x, in float32 whatever the recipe's precision. Nothing depends on what else is
scored, to the bit: a matrix product of another shape may round differently, so every batch has `ROWS_AT_ONCE` rows, the
last one filled up with zeros, and the draws of each begin from the same state of a generator. A term whose E_z costs
far more than the rest (`LatentEnergy.carries`) is left out of E.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from vaebm.distributions.gaussian import sum_over_values
from vaebm.distributions.likelihood import Likelihood
from vaebm.energy import Energy, LatentEnergy
from vaebm.models.draws import NoiseSpaceModel

PROPOSALS = 8  # K
SEED = 0
ROWS_AT_ONCE = 16

Decode = Callable[[Tensor], Likelihood]
"""z to p(x | z), with the noise that the model adds."""


def score_parts(
    model: NoiseSpaceModel, x: Tensor, noise_std: float = 0.0, advance: Callable[[int], object] | None = None
) -> dict[str, Tensor]:
    """Parts by name, each (n,) float64 on the CPU.

    Args:
        model: whose.
        x: (n, *data_shape) as models see it, n at least 1.
        noise_std: of the noise that the model adds where its energy looks.
        advance: told of rows as they are done.
    """
    batches = []
    with model.frozen(), torch.autocast(model.device.type, enabled=False):
        for rows in x.split(ROWS_AT_ONCE):
            batches.append(_of_batch(model, rows.to(model.device, model.dtype), noise_std))
            if advance is not None:
                advance(len(rows))
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def _of_batch(model: NoiseSpaceModel, x: Tensor, noise_std: float) -> dict[str, Tensor]:
    n, generator = len(x), torch.Generator(model.device).manual_seed(SEED)
    x = torch.cat([x, x.new_zeros(ROWS_AT_ONCE - n, *x.shape[1:])])
    x = x + model.add_noise(torch.zeros_like(x[:1]), generator)
    terms = {
        name: term
        for name, term in model.energy_net.terms.items()
        if not (isinstance(term, LatentEnergy) and term.carries)
    }

    def decode(z: Tensor) -> Likelihood:
        return model.vae.decode(z).with_noise(noise_std)

    with torch.no_grad():
        found = _at_mean(model, decode, x, terms) | _over_draws(model, decode, x, terms, generator)
    return {name: value.detach().double().cpu()[:n] for name, value in found.items()}


def _at_mean(model: NoiseSpaceModel, decode: Decode, x: Tensor, terms: dict[str, Energy]) -> dict[str, Tensor]:
    z = model.vae.encode(x)
    likelihood = decode(z)
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        log_likelihood, energies = likelihood.log_prob(x), {name: term(x, z) for name, term in terms.items()}
        energy = torch.stack([torch.zeros_like(log_likelihood), *energies.values()]).sum(0)
        of_likelihood, of_energy = _gradient(log_likelihood, x), _gradient(energy, x)
    reads_x = any(term.reads_x for term in terms.values())
    return {
        "energy": energy,
        **{f"energy_{name}": value for name, value in energies.items()},
        **({"energy_gradient": _norm(of_energy)} if reads_x else {}),
        "log_density_gradient": _norm(of_likelihood - of_energy),
        "log_likelihood": log_likelihood,
        **{f"log_likelihood_{name}": value for name, value in likelihood.log_prob_parts(x).items()},
        "reconstruction_error": sum_over_values((x - likelihood.center).square()),
        "code_norm": sum_over_values(model.vae.latent_noise(z).square()),
        "code_surprise": -model.mixture.log_prob(z[:, : model.mixture.means.shape[1]]),
    }


def _over_draws(
    model: NoiseSpaceModel, decode: Decode, x: Tensor, terms: dict[str, Energy], generator: torch.Generator
) -> dict[str, Tensor]:
    once = sum((term(x).double() for term in terms.values() if not term.reads_z), x.new_zeros(len(x)).double())
    z, log_ratio = model.vae.propose(x, generator, PROPOSALS)
    x = x.repeat_interleave(PROPOSALS, 0)
    log_prob = decode(z).log_prob(x)
    each = sum((term(x, z).double() for term in terms.values() if term.reads_z), torch.zeros_like(log_ratio).double())
    log_weights, each, log_ratio = (
        value.reshape(-1, PROPOSALS) for value in (log_prob.double() - log_ratio.double(), each, log_ratio)
    )
    return {
        "log_likelihood_lower": log_weights.logsumexp(1) - math.log(PROPOSALS),
        "log_density": (log_weights - each).logsumexp(1) - math.log(PROPOSALS) - once,
        "kl": log_ratio.mean(1),
    }


def _gradient(value: Tensor, x: Tensor) -> Tensor:
    """d value / dx, 0 where x is not read."""
    if not value.requires_grad:
        return torch.zeros_like(x)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    return gradient


def _norm(gradient: Tensor) -> Tensor:
    return sum_over_values(gradient.square()).sqrt()

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
from typing import NamedTuple

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
    with model.frozen(), torch.autocast(model.device.type, enabled=False), torch.no_grad():
        found = []
        for rows in x.split(ROWS_AT_ONCE):
            batch = _Batch.of(model, rows, noise_std)
            parts = _parts_at_mean(batch) | _parts_over_draws(batch)
            found.append({name: value.detach().double().cpu()[: len(rows)] for name, value in parts.items()})
            if advance is not None:
                advance(len(rows))
    return {name: torch.cat([parts[name] for parts in found]) for name in found[0]}


def density_gradient(model: NoiseSpaceModel, x: Tensor, noise_std: float = 0.0) -> Tensor:
    """d/dx [log p(x | m) - E(x, m)], m held, of x (n, *data_shape), float32 on the CPU; arguments as of `score_parts`.

    It says which values make a sample unlikely, and which way they would have to go. The part `log_density_gradient` is
    its norm.
    """
    with model.frozen(), torch.autocast(model.device.type, enabled=False), torch.no_grad():
        found = []
        for rows in x.split(ROWS_AT_ONCE):
            at = _at_mean(_Batch.of(model, rows, noise_std))
            found.append((at.of_likelihood - at.of_energy).float().cpu()[: len(rows)])
    return torch.cat(found)


class _Batch(NamedTuple):
    """`ROWS_AT_ONCE` samples x with the model's noise, the last ones zeros, and what they are looked at with."""

    model: NoiseSpaceModel
    x: Tensor
    decode: Decode
    terms: dict[str, Energy]
    generator: torch.Generator

    @classmethod
    def of(cls, model: NoiseSpaceModel, rows: Tensor, noise_std: float) -> _Batch:
        generator = torch.Generator(model.device).manual_seed(SEED)
        rows = rows.to(model.device, model.dtype)
        x = torch.cat([rows, rows.new_zeros(ROWS_AT_ONCE - len(rows), *rows.shape[1:])])
        x = x + model.add_noise(torch.zeros_like(x[:1]), generator)
        terms = {
            name: term
            for name, term in model.energy_net.terms.items()
            if not (isinstance(term, LatentEnergy) and term.carries)
        }
        return cls(model, x, lambda z: model.vae.decode(z).with_noise(noise_std), terms, generator)


class _AtMean(NamedTuple):
    """At m: the likelihood, the energies by term, and gradients in x of log p(x | m) and of their sum."""

    z: Tensor
    likelihood: Likelihood
    log_likelihood: Tensor
    energies: dict[str, Tensor]
    energy: Tensor
    of_likelihood: Tensor
    of_energy: Tensor


def _at_mean(batch: _Batch) -> _AtMean:
    z = batch.model.vae.encode(batch.x)
    likelihood = batch.decode(z)
    with torch.enable_grad():
        x = batch.x.detach().requires_grad_()
        log_likelihood, energies = likelihood.log_prob(x), {name: term(x, z) for name, term in batch.terms.items()}
        energy = torch.stack([torch.zeros_like(log_likelihood), *energies.values()]).sum(0)
        of_likelihood, of_energy = _gradient(log_likelihood, x), _gradient(energy, x)
    return _AtMean(z, likelihood, log_likelihood, energies, energy, of_likelihood, of_energy)


def _parts_at_mean(batch: _Batch) -> dict[str, Tensor]:
    at, model = _at_mean(batch), batch.model
    reads_x = any(term.reads_x for term in batch.terms.values())
    return {
        "energy": at.energy,
        **{f"energy_{name}": value for name, value in at.energies.items()},
        **({"energy_gradient": _norm(at.of_energy)} if reads_x else {}),
        "log_density_gradient": _norm(at.of_likelihood - at.of_energy),
        "log_likelihood": at.log_likelihood,
        **{f"log_likelihood_{name}": value for name, value in at.likelihood.log_prob_parts(batch.x).items()},
        "reconstruction_error": sum_over_values((batch.x - at.likelihood.center).square()),
        "code_norm": sum_over_values(model.vae.latent_noise(at.z).square()),
        "code_surprise": -model.mixture.log_prob(at.z[:, : model.mixture.means.shape[1]]),
    }


def _parts_over_draws(batch: _Batch) -> dict[str, Tensor]:
    terms, x = batch.terms.values(), batch.x
    once = sum((term(x).double() for term in terms if not term.reads_z), x.new_zeros(len(x)).double())
    z, log_ratio = batch.model.vae.propose(x, batch.generator, PROPOSALS)
    x = x.repeat_interleave(PROPOSALS, 0)
    log_prob = batch.decode(z).log_prob(x)
    each = sum((term(x, z).double() for term in terms if term.reads_z), torch.zeros_like(log_ratio).double())
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

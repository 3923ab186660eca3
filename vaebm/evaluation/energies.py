"""Energies: what the energy adds to the base, of samples and of held-out data.

    E(x, z) less the term that the base carries, in nats; low = likely. Of data z is the posterior mean.

Where its mean over samples is that over data, the energy cannot tell the two apart any more.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vaebm.models import CHAINS_AT_ONCE, Model, NoiseSpaceModel


def energies_of_draws(model: Model, eps: Tensor) -> Tensor | None:
    """Of noise (n, dim), (n,) on the CPU; None where there is no energy beyond the base."""
    if not isinstance(model, NoiseSpaceModel) or not model.corrects:
        return None
    return -model.log_weights(eps).float().cpu()


@torch.no_grad()
def energies_of_data(model: Model, x: Tensor, seed: int) -> Tensor | None:
    """Of data (n, *data_shape) in the model's range, (n,) on the CPU; with the noise that the model adds to data."""
    if not isinstance(model, NoiseSpaceModel) or not model.corrects:
        return None
    generator = torch.Generator(model.device).manual_seed(seed)
    energies = []
    with model.frozen(), model.autocast():
        for part in x.split(CHAINS_AT_ONCE):
            noisy = model.add_noise(part.to(model.device), generator)
            z = model.vae.encode(noisy) if model.energy_net.correction.reads_z else None
            energies.append(model.energy_over_base(noisy, z).float().cpu())
    return torch.cat(energies)

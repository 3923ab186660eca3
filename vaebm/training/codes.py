"""Codes of data: draws z ~ q(z | x) for training data x. Mixture and E_z are fitted to them."""

from __future__ import annotations

import torch
from torch import Tensor

from vaebm.training.loop import Training
from vaebm.vae import fit_code_mixture

ROWS_AT_ONCE = 512


def set_code_mixture(training: Training) -> None:
    """Fits the mixture to codes of data, and gives it to the model and to the terms that are built on it."""
    model, engine = training.model, training.engine
    settings = model.settings.code_mixture
    codes = codes_of_data(training, settings.codes, engine.generator)
    mixture = fit_code_mixture(codes, settings, training.seed, training.progress)
    model.set_mixture(mixture.to(engine.device))
    engine.synchronise(model)


@torch.no_grad()
def codes_of_data(training: Training, n: int, generator: torch.Generator) -> Tensor:
    """(n, code_dim): codes of randomly chosen data; each point is taken equally often, several times in a small set."""
    model, data = training.model, training.data
    order = torch.randperm(len(data), generator=generator, device=generator.device)
    order = order.repeat(-(-n // len(data)))[:n]
    codes = []
    with training.progress.task("codes of data", n, "codes") as task, model.frozen(), model.autocast():
        for part in order.split(ROWS_AT_ONCE):
            codes.append(model.vae.infer(data.batch(part, generator).x, generator).z[:, : model.vae.code_dim])
            task.advance(len(part))
    return torch.cat(codes)

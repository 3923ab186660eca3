"""Negatives: samples (x-, z-) of the model while an energy learns, to be held against data (x+, z+).

They are exact draws of the base, or the ends of chains on h. Chains run in noise space on frozen, folded nets; only
what the energy reads of them leaves. If the energy is not finite at the start, chains are not run and `stuck_fraction`
is 1. A chain is stuck, too, where it met values that are not finite, or where its accept step takes nothing.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from vaebm import sampling
from vaebm.models import NoiseSpaceModel
from vaebm.progress import silent
from vaebm.sampling.kernel import NotFinite
from vaebm.sampling.resampling import effective_sample_size
from vaebm.training.stage import Training

STUCK = 0.01  # mean acceptance of a chain that does not move
FAR = 2.0  # scale of a chain that has left the base, whose scale is 1


class Pair(NamedTuple):
    """Data or samples (x, z): (B, *data_shape) and (B, latent_dim), or None for what the energy does not read."""

    x: Tensor | None
    z: Tensor | None

    @property
    def rows(self) -> int:
        """B."""
        return next(len(value) for value in self if value is not None)

    def joined(self, other: "Pair") -> "Pair":
        """The rows of both, this one's first."""
        return Pair(*(None if a is None or b is None else torch.cat([a, b]) for a, b in zip(self, other, strict=True)))

    def rows_at(self, rows: slice) -> "Pair":
        """Some of the rows, one after another."""
        return Pair(*(None if value is None else value[rows] for value in self))

    def chosen(self, index: Tensor) -> "Pair":
        """The rows of these indices."""
        return Pair(*(None if value is None else value[index] for value in self))


@torch.no_grad()
def decoded(model: NoiseSpaceModel, position: Tensor) -> Pair:
    """What the correction reads of positions (B, dim)."""
    energy = model.energy_net.correction
    if not energy.reads_x:  # the decoder stays out of it
        return Pair(None, model.vae.latent(model.noise.unpack(position)[1]))
    x, z = model.generate(position)
    return Pair(x, z if energy.reads_z else None)


def base_samples(training: Training, n: int) -> Pair:
    """n exact draws of the base."""
    return decoded(training.model, training.model.sample_base(n, training.engine.generator))


def proposal_ess(negative: Tensor) -> float:
    """Effective sample size of the base's samples (B,) under their importance weights, as a fraction of B."""
    return float(effective_sample_size(-negative.detach())) / negative.shape[0]


def start(training: Training, n: int) -> Tensor:
    """(n, dim) positions where chains begin; the base's, where the energy is not finite and can choose none of them."""
    model, generator = training.model, training.engine.generator
    try:
        position: Tensor = model.start(n, generator)
    except ValueError:
        position = model.sample_base(n, generator)
    return position


def moved(
    training: Training, position: Tensor, sampler: sampling.SamplerSettings | None, task: str = ""
) -> tuple[Tensor, dict[str, float]]:
    """Where chains end that begin at positions (B, dim), and figures of them for the log and the divergence monitor.

    The sampler is the recipe's unless given; `task` is how progress calls it, empty for work too short to be shown.
    """
    model, generator = training.model, training.engine.generator
    sampler = sampler or model.settings.sampler
    if training.sampler_pace < 1.0 and (step_size := vars(sampler).get("step_size")) is not None:
        sampler = sampler.model_copy(update={"step_size": training.sampler_pace * step_size})
    begun = _scale(position)
    gradients = len(position) * model.gradients_per_chain(sampler)
    with (training.progress if task else silent()).task(task, gradients, "gradients") as shown:
        try:
            runs = list(model.chains_in_batches(position, generator, sampler, shown.advance))
        except NotFinite:
            return position, {"acceptance": 0.0, "stuck_fraction": 1.0, "chain_start": begun}
    acceptance = torch.cat([run.acceptance for run in runs])
    stuck = torch.cat([run.diverged | (run.acceptance < STUCK if run.kernel.adjusted else False) for run in runs])
    ends = torch.cat([run.position for run in runs])
    figures = {"acceptance": float(acceptance.mean()), "stuck_fraction": float(stuck.float().mean())}
    far = float((ends.square().mean(1) > FAR**2).float().mean())
    diversity = float(ends.var(0, correction=0).mean().sqrt())  # 1 under the base; less where chains are alike
    figures |= {"far_fraction": far, "chain_diversity": diversity}
    return ends, {**figures, "chain_start": begun, "chain_end": _scale(ends)}


def _scale(position: Tensor) -> float:
    """Root mean square of the coordinates of chains, which is 1 under the base."""
    return float(position.double().square().mean().sqrt())

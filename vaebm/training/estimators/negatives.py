"""Negatives: samples (x-, z-) of the model while an energy learns, to be held against data (x+, z+).

    base_samples     exact draws of the base, fresh each time
    ChainSamples     short chains on h, fresh or from a replay buffer
    Pool             many chains kept in equilibrium under the energy as it was, moved on between rounds

Chains run in noise space on frozen, folded nets; only what the energy reads of them leaves. If the energy is not finite
at the start, chains are not run and `stuck_fraction` is 1, which stops training.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vaebm import sampling
from vaebm.models import CHAINS_AT_ONCE, NoiseSpaceModel
from vaebm.sampling.kernel import NotFinite
from vaebm.sampling.resampling import effective_sample_size
from vaebm.training.checkpoint import Tree
from vaebm.training.loop import Training
from vaebm.training.schedule import ramp

Figures = dict[str, float]


class Pair(NamedTuple):
    """Data or samples (x, z): (B, *data_shape) and (B, latent_dim), or None for what the energy does not read."""

    x: Tensor | None
    z: Tensor | None

    @property
    def rows(self) -> int:
        """B."""
        return next(len(value) for value in self if value is not None)

    def joined(self, other: Pair) -> Pair:
        """The rows of both, this one's first."""
        return Pair(*(None if a is None or b is None else torch.cat([a, b]) for a, b in zip(self, other, strict=True)))

    def chosen(self, index: Tensor) -> Pair:
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


def start(model: NoiseSpaceModel, n: int, generator: torch.Generator) -> Tensor:
    """(n, dim) positions where chains begin; the base's, where the energy is not finite and can choose none of them."""
    try:
        return model.start(n, generator)
    except ValueError:
        return model.sample_base(n, generator)


def moved(
    training: Training,
    position: Tensor,
    sampler: sampling.SamplerSettings,
    advance: Callable[[int], None] | None = None,
) -> tuple[Tensor, Figures]:
    """Where chains from positions (B, dim) end, their mean acceptance and the fraction that met non-finite values."""
    try:
        runs = list(training.model.chains_in_batches(position, training.engine.generator, sampler, advance))
    except NotFinite:
        return position, {"acceptance": 0.0, "stuck_fraction": 1.0}
    acceptance = torch.cat([run.acceptance for run in runs])
    diverged = torch.cat([run.diverged for run in runs])
    figures = {"acceptance": float(acceptance.mean()), "stuck_fraction": float(diverged.float().mean())}
    return torch.cat([run.position for run in runs]), figures


class ChainSamples:
    """Short chains, with persistent starts where `buffer` is given.

    Args:
        sampler: kernel and steps of each chain.
        buffer: capacity; 0 starts every chain afresh.
        replay_prob: probability with which a chain starts from the buffer, once the ramp is over.
        ramp_iterations: length of the ramp from 0.
    """

    def __init__(
        self,
        training: Training,
        sampler: sampling.SamplerSettings,
        buffer: int,
        replay_prob: float,
        ramp_iterations: int,
    ) -> None:
        self.training, self.sampler = training, sampler
        self.buffer = sampling.ReplayBuffer(buffer) if buffer else None
        self.replay_prob, self.ramp_iterations = replay_prob, ramp_iterations

    def draw(self, n: int, iteration: int) -> tuple[Pair, Figures]:
        """n samples, and the figures of their chains."""
        model, generator = self.training.model, self.training.engine.generator

        def fresh(count: int) -> Tensor:
            return start(model, count, generator)

        if self.buffer is None:
            position, figures = moved(self.training, fresh(n), self.sampler)
        else:
            replay_prob = self.replay_prob * ramp(iteration, 0, self.ramp_iterations)
            begun = self.buffer.draw(n, replay_prob, fresh, generator)
            position, figures = moved(self.training, begun.position, self.sampler)
            self.buffer.put(position, begun.slots)
        return decoded(model, position), figures

    def state_dict(self) -> Tree:
        """The waiting positions."""
        return {"buffer": {} if self.buffer is None else self.buffer.state_dict()}

    def load_state_dict(self, state: Tree) -> None:
        """From a checkpoint."""
        if self.buffer is not None:
            device = self.training.engine.device
            self.buffer.load_state_dict({name: value.to(device) for name, value in state["buffer"].items()})


class Pool:
    """Chains in equilibrium under the model of the last call of `equilibrate`.

    Args:
        chains: how many.
        sampler: the kernel; its `steps` are what every chain moves on between rounds.
        restart_fraction: fraction of the chains that begin anew each round.
        restart_steps: steps of those, and of all in the first round.
    """

    def __init__(
        self,
        training: Training,
        chains: int,
        sampler: sampling.SamplerSettings,
        restart_fraction: float,
        restart_steps: int,
    ) -> None:
        self.training, self.sampler = training, sampler
        self.chains = training.engine.share(chains)
        self.restarts = max(1, round(restart_fraction * self.chains))
        self.restart_steps = restart_steps
        self.position: Tensor | None = None

    def equilibrate(self) -> Figures:
        """Moves the chains on under the model as it is now."""
        model, generator = self.training.model, self.training.engine.generator
        if self.position is None:
            self.position, figures = self._run(start(model, self.chains, generator), self.restart_steps)
        else:
            order = torch.randperm(self.chains, generator=generator, device=self.position.device)
            kept = self.position[order[self.restarts :]]
            fresh, figures = self._run(start(model, self.restarts, generator), self.restart_steps)
            if len(kept):
                kept, of_kept = self._run(kept, self.sampler.steps)
                figures = of_kept if figures["stuck_fraction"] < 1.0 else figures
            self.position = torch.cat([fresh, kept])
        with model.frozen():
            first, *rest = (decoded(model, part) for part in self.position.split(CHAINS_AT_ONCE))
        self.samples = functools.reduce(Pair.joined, rest, first)
        return figures

    def draw(self, n: int) -> Pair:
        """Samples of n distinct chains."""
        assert self.position is not None
        generator = self.training.engine.generator
        return self.samples.chosen(torch.randperm(self.chains, generator=generator, device=self.position.device)[:n])

    def state_dict(self) -> Tree:
        """Positions and samples."""
        return {} if self.position is None else {"position": self.position, "samples": self.samples._asdict()}

    def load_state_dict(self, state: Tree) -> None:
        """From a checkpoint."""
        if "position" in state:
            device = self.training.engine.device
            self.position = state["position"].to(device)
            parts = state["samples"]
            self.samples = Pair(*(None if parts[name] is None else parts[name].to(device) for name in Pair._fields))

    def _run(self, position: Tensor, steps: int) -> tuple[Tensor, Figures]:
        sampler = self.sampler.model_copy(update={"steps": steps})
        with self.training.progress.task("chains", len(position) * (steps + sampler.warmup), "chain steps") as task:
            return moved(self.training, position, sampler, task.advance)

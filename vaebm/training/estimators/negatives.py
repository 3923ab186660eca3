"""Where samples of the model come from while an energy learns: x- for the contrast with data x+.

    StartSamples     exact draws of the start's proposal (VAE, or VAE with the mixture), fresh each time
    ChainSamples     short chains on h, fresh or from a replay buffer whose reuse probability ramps up (the paper's)
    Pool             many chains kept in equilibrium under the energy as it was, moved on between rounds

All of it runs in noise space on frozen, folded nets; only the decoded samples leave. Where the energy has run away so
far that chains cannot even start, they stay at their starts and count as stuck, which the guard takes for what it is.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from vaebm import sampling
from vaebm.models import CHAINS_AT_ONCE, NoiseSpaceModel
from vaebm.sampling.kernel import evaluate
from vaebm.training.checkpoint import Tree
from vaebm.training.loop import Training
from vaebm.training.schedule import ramp

STUCK = {"acceptance": 0.0, "stuck_fraction": 1.0}  # figures of chains that cannot start


def _can_start(model: NoiseSpaceModel, position: Tensor) -> bool:
    with model.frozen():
        for part in position.split(CHAINS_AT_ONCE):
            coordinates = model.moves.coordinates(part)
            log_density, score = evaluate(coordinates.target, coordinates.start)
            if not (bool(log_density.isfinite().all()) and bool(score.isfinite().all())):
                return False
    return True


def _start(model: NoiseSpaceModel, n: int, generator: torch.Generator) -> Tensor:
    try:
        return model.start(n, generator)
    except ValueError:  # no energy to choose by: its weights are not finite
        return model.sample_base(n, generator)


class Pair(NamedTuple):
    """Data or samples (x, z): (B, *data_shape) and (B, latent_dim), or None for what the energy does not read."""

    x: Tensor | None
    z: Tensor | None

    @property
    def rows(self) -> int:
        """B."""
        return next(len(value) for value in (self.x, self.z) if value is not None)

    def joined(self, other: Pair) -> Pair:
        """The rows of both, this one's first."""
        return Pair(*(None if a is None or b is None else torch.cat([a, b]) for a, b in zip(self, other, strict=True)))

    def chosen(self, index: Tensor) -> Pair:
        """Some of the rows."""
        return Pair(*(None if value is None else value[index] for value in self))


class Negatives(NamedTuple):
    """Samples (x-, z-), and what their chains did: mean acceptance, the share that met non-finite values."""

    pair: Pair
    figures: dict[str, float]


@torch.no_grad()
def decoded(model: NoiseSpaceModel, position: Tensor) -> Pair:
    """What the correction reads of positions (B, dim)."""
    energy = model.energy_net.correction
    if not energy.reads_x:  # the decoder stays out of it
        return Pair(None, model.vae.latent(model.noise.unpack(position)[1]))
    x, z = model.generate(position)
    return Pair(x, z if energy.reads_z else None)


class StartSamples:
    """Exact draws of the start's proposal."""

    def __init__(self, training: Training) -> None:
        self.training = training

    @torch.no_grad()
    def draw(self, n: int, iteration: int) -> Negatives:
        """n samples."""
        model = self.training.model
        return Negatives(decoded(model, model.sample_base(n, self.training.engine.generator)), {})

    def state_dict(self) -> Tree:
        """Nothing is kept."""
        return {}

    def load_state_dict(self, state: Tree) -> None:
        """Nothing was kept."""


class ChainSamples:
    """Short chains, with persistent starts where `buffer` is given.

    Args:
        sampler: kernel and steps of each chain.
        buffer: capacity; 0 starts every chain afresh.
        reuse: probability with which a chain starts from the buffer, once the ramp is over.
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

    def draw(self, n: int, iteration: int) -> Negatives:
        """n samples."""
        model, generator = self.training.model, self.training.engine.generator

        def fresh(count: int) -> Tensor:
            return _start(model, count, generator)

        if self.buffer is None:
            position, figures = self._moved(fresh(n))
        else:
            start = self.buffer.draw(n, self.replay_prob * ramp(iteration, 0, self.ramp_iterations), fresh, generator)
            position, figures = self._moved(start.position)
            self.buffer.put(position, start.slots)
        return Negatives(decoded(model, position), figures)

    def _moved(self, position: Tensor) -> tuple[Tensor, dict[str, float]]:
        model = self.training.model
        try:
            chains = model.chains(position, self.training.engine.generator, self.sampler)
        except ValueError:
            if _can_start(model, position):
                raise
            return position, STUCK
        figures = {
            "acceptance": float(chains.acceptance.mean()),
            "stuck_fraction": float(chains.diverged.float().mean()),
        }
        return chains.position, figures

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
        restart_fraction: share of the chains that begin anew each round.
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

    def equilibrate(self) -> dict[str, float]:
        """Moves the chains on under the model as it is now."""
        model, generator = self.training.model, self.training.engine.generator
        if self.position is None:
            self.position, figures = self._run(_start(model, self.chains, generator), self.restart_steps)
        else:
            order = torch.randperm(self.chains, generator=generator, device=self.position.device)
            kept = self.position[order[self.restarts :]]
            fresh, figures = self._run(_start(model, self.restarts, generator), self.restart_steps)
            if len(kept):
                kept, moved = self._run(kept, self.sampler.steps)
                figures = moved if figures["stuck_fraction"] < 1.0 else figures
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

    def _run(self, position: Tensor, steps: int) -> tuple[Tensor, dict[str, float]]:
        model, generator = self.training.model, self.training.engine.generator
        sampler = self.sampler.model_copy(update={"steps": steps})
        gradients = len(position) * model.gradients_per_chain(sampler)
        with self.training.progress.task("chains", gradients, "gradients") as task:
            try:
                runs = list(model.chains_in_batches(position, generator, sampler, task.advance))
            except ValueError:
                if _can_start(model, position):
                    raise
                return position, STUCK
        acceptance = torch.cat([run.acceptance for run in runs])
        diverged = torch.cat([run.diverged for run in runs])
        figures = {"acceptance": float(acceptance.mean()), "stuck_fraction": float(diverged.float().mean())}
        return torch.cat([run.position for run in runs]), figures

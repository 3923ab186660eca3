"""Chain records: some chains of a model, as they look at chosen steps, from where they begin to where they end.

The sampler is the recipe's, and an observer looks at its positions; warm-up steps count, since chains move in them too.
So what is recorded is what `vaebm sample` does, whatever the kernel.
"""

import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import TypeAdapter
from torch import Tensor

from vaebm.data import modality_of
from vaebm.energy import MixtureEnergy
from vaebm.evaluation.stored_draws import load_record, packed, require, require_packed, save_record, unpacked
from vaebm.models import NoiseSpaceModel
from vaebm.progress import Progress
from vaebm.sampling import SamplerSettings
from vaebm.wording import counted

SEED = 0
FRAMES = 16
POINT_CHAINS = 2_000
MIN_CHAINS, MAX_CHAINS = 4, 36  # of images that are kept
MAX_VALUES = 1 << 22  # of all kept images together, 4 MB
MIN_RUN = 16  # chains that run, whatever is kept of them: a warm-up learns from all

Start = Literal["prior", "base", "mixture", "latent_energy", "chosen"]
"""What chains begin at: N(0, I), the code mixture, E_z's own codes, or proposals that the energy chose among."""


@dataclass(frozen=True)
class ChainRun:
    """What is known of the chains that were recorded.

    Steps count those of the warm-up, from 0, the start; `acceptance` is the mean after it, `diverged` the share of
    chains that met a value which is not finite; `refusal` says why there are no chains, and is "" where there are.
    """

    chains: int
    steps: list[int]
    warmup: int
    sampler: str
    adjusted: bool
    start: Start
    moves_codes: bool
    moves_data: bool
    dim: int
    acceptance: float = 0.0
    diverged: float = 0.0
    seconds: float = 0.0
    refusal: str = ""


@dataclass(frozen=True, eq=False)
class ChainRecord:
    """Chains at chosen steps: `x` is (step, chain, *data_shape) in the model's range, empty where none could run."""

    run: ChainRun
    x: Tensor

    @property
    def total(self) -> int:
        """Steps of each chain."""
        return self.run.steps[-1]

    def at(self, wanted: list[int]) -> list[tuple[int, Tensor]]:
        """Steps and data (chain, *data_shape), of those of `wanted` that were kept."""
        return [(step, x) for step, x in zip(self.run.steps, self.x, strict=True) if step in wanted]

    def save(self, path: Path, model_sha256: str) -> None:
        steps = [packed(x) for x in self.x]
        stored = torch.stack(steps) if steps else self.x
        save_record(path, model_sha256, {"x": stored}, {"run": asdict(self.run)})

    @classmethod
    def load(cls, path: Path, data_shape: tuple[int, ...], model_sha256: str) -> "ChainRecord | None":
        """From a file; None where it is not there, damaged, or of other weights or data."""

        def read(tensors: dict[str, Tensor], about: dict[str, Any]) -> ChainRecord:
            run, x = TypeAdapter(ChainRun).validate_python(about["run"]), tensors["x"]
            require(x.ndim > 2 and len(x) == len(run.steps) and run.steps == sorted(run.steps), "steps")
            require(bool(run.refusal) or x.numel() > 0, "no chains")
            if x.numel():
                require_packed(x.flatten(0, 1), data_shape)
            return cls(run, unpacked(x))

        return load_record(path, model_sha256, read)


def record_chains(model: NoiseSpaceModel, progress: Progress) -> ChainRecord:
    """Runs the recipe's sampler; chains whose density is not finite at the start are refused in words."""
    sampler, noise, moves_codes = model.settings.sampler, model.noise, model.moves.follows_h
    total = sampler.steps + sampler.warmup
    wanted = {*milestones(total), *animation_steps(total)}
    kept = _chains_kept(model.data_shape, len(wanted))
    count = max(kept, MIN_RUN)
    run = ChainRun(
        chains=count,
        steps=[],
        warmup=sampler.warmup,
        sampler=sampler_label(sampler),
        adjusted=model.kernel().adjusted,
        start=_start_of(model),
        moves_codes=moves_codes,
        moves_data=noise.data_shape is not None,
        dim=noise.dim - (0 if moves_codes else noise.latent_dim),
    )
    generator, show = torch.Generator(model.device).manual_seed(SEED), model.show_of(model.subjects[0])
    seen: dict[int, Tensor] = {}

    def keep(step: int, eps: Tensor) -> None:
        pixels = torch.Generator(model.device).manual_seed(SEED)  # the same noise each time, where it is not in eps
        seen[step] = packed(model.render(eps[:kept], show, pixels).cpu())

    def observe(step: int, eps: Tensor) -> None:
        if (step := step + sampler.warmup) in wanted:
            keep(step, eps)

    try:
        # Resampled starts stand in the order of their proposals, copies of one side by side: shuffled, they are fair.
        order = torch.randperm(count, generator=generator, device=model.device)
        start = model.start(count, generator)[order]
        keep(0, start)
        began, done = time.perf_counter(), 0
        with progress.task("chains", total, "steps") as task:

            def advance(steps: int, _total: int) -> None:
                nonlocal done
                done = steps
                task.advance(1)

            chains = model.chains(start, generator, progress=advance, observer=observe)
        seconds = time.perf_counter() - began
        keep(done, chains.position)  # a budget of gradients may end before the last step
    except ValueError as reason:  # a model whose density is not finite: the report says so and shows the rest
        return ChainRecord(replace(run, refusal=str(reason)), torch.empty(0, 0, *model.data_shape))
    steps = sorted(seen)
    acceptance, diverged = float(chains.acceptance.mean()), float(chains.diverged.float().mean())
    run = replace(run, steps=steps, acceptance=acceptance, diverged=diverged, seconds=seconds)
    return ChainRecord(run, unpacked(torch.stack([seen[step] for step in steps])))


def sampler_label(sampler: SamplerSettings) -> str:
    """'60 steps of Langevin', with the warm-up where there is one."""
    warmup = f" after a warm-up of {sampler.warmup}" if sampler.warmup else ""
    return f"{counted(sampler.steps, 'step')} of {sampler.builds.label}{warmup}"


def milestones(total: int) -> list[int]:
    """0, 1, 2, 5, 10, 20, 50, ... and the last step.

    >>> milestones(60)
    [0, 1, 2, 5, 10, 20, 50, 60]
    """
    steps = [0, *(digit * 10**power for power in range(len(str(total))) for digit in (1, 2, 5))]
    return [step for step in steps if step < 0.85 * total] + [total]


def animation_steps(total: int, frames: int = FRAMES) -> list[int]:
    """Steps of an animation, denser at the beginning, where chains move most.

    >>> animation_steps(60, 4)
    [0, 7, 27, 60]
    """
    return sorted({round(total * (frame / (frames - 1)) ** 2) for frame in range(frames)})


def _start_of(model: NoiseSpaceModel) -> Start:
    base = model.energy_net.base
    if model.settings.init.importance_samples > 1 and model.corrects:
        return "chosen"
    if base is None:
        return "prior" if model.vae.latent_dim else "base"
    return "mixture" if isinstance(base, MixtureEnergy) and base.correction is None else "latent_energy"


def _chains_kept(data_shape: tuple[int, ...], steps: int) -> int:
    if not modality_of(data_shape).pictured:
        return POINT_CHAINS
    return max(MIN_CHAINS, min(MAX_CHAINS, MAX_VALUES // (steps * math.prod(data_shape))))

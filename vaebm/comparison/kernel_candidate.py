"""A kernel as a candidate: chains that run until a budget of gradient evaluations is spent.

*Learning.* A pilot of a few chains learns the kernel's numbers by its own warm-up, for a small fraction of all
gradients; its cost is shared by all samples. The mass is then set back to 1, the unit of noise, in which coordinates
already have one scale, and the step size is learned again for it: a recipe can then say all the numbers.

*Chains.* All kernels start at the same draws of the base. Positions on the way are kept at the fractions `MARKS` of the
gradients. The candidate `recipe` is the recipe's own sampler: its kernel, learned only if the recipe has a warm-up, and
its start, where each proposal counts as a gradient.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, cast

import torch
from torch import Tensor

from vaebm import sampling
from vaebm.comparison.candidate import Advance, Candidate, SamplerRun, Setup
from vaebm.comparison.mixing import Mixing, TestFunctions, between_starts
from vaebm.models import CHAINS_AT_ONCE, NoiseSpaceModel
from vaebm.sampling import KERNELS, Chains, ChainState, Kernel, LogDensity, SamplerSettings, StepInfo

PILOT_FRACTION = 0.1  # of all gradients
MAX_PILOT_CHAINS = 128
MIN_PILOT_CHAINS, MIN_PILOT_GRADIENTS = 8, 40
FIRST_WARMUP = 0.75  # of the pilot's gradients, before the mass is set back
STEP_SIZE_STEPS = 19  # a warm-up of fewer than 20 steps learns the step size alone
MARKS = (0.05, 0.125, 0.25, 0.5)  # of the gradients, where the samples are scored on the way
GRADIENTS_PER_RUNG = 25  # with more rungs each replica of a ladder gets too few


def kernel_candidates(model: NoiseSpaceModel) -> list[Candidate]:
    """All registered kernels, after the recipe's own sampler where that is not one of them."""
    sampler = model.settings.sampler
    found: list[Candidate] = []
    if sampler.warmup == 0 or start_cost(model):
        label = "the recipe's own sampler"
        found.append(
            KernelCandidate("recipe", label, lambda _: model.kernel(sampler), learns=sampler.warmup > 0, own_start=True)
        )
    for name, kernel in KERNELS.items():

        def default(gradients: int, kernel: type[Kernel] = kernel) -> Kernel:
            settings = KERNELS.settings(kernel)
            suited = {"betas": short_ladder(gradients), "split": model.noise.latent_dim}
            own = {name: value for name, value in suited.items() if name in settings.model_fields}
            return cast(SamplerSettings, settings(**own)).build()

        found.append(KernelCandidate(name, kernel.label, default))
    return found


def short_ladder(gradients: int) -> tuple[float, ...]:
    """Inverse temperatures of as many rungs as the gradients allow, 8 at most."""
    rungs = min(max(gradients // GRADIENTS_PER_RUNG, 2), 8)
    return tuple(round(0.01 ** (k / (rungs - 1)), 4) for k in range(rungs))


def start_cost(model: NoiseSpaceModel) -> int:
    """Energies that the recipe's own start evaluates for a chain."""
    proposals = model.settings.init.importance_samples
    return proposals if proposals > 1 and model.corrects else 0


@dataclass(eq=False)
class KernelCandidate(Candidate):
    """Chains of the kernel that `make` gives for a number of gradients a sample.

    A pilot `learns` its numbers; with `own_start` chains begin as the recipe says instead of where all others do.
    """

    name: str
    label: str
    make: Callable[[int], Kernel]
    learns: bool = True
    own_start: bool = False

    def evaluations(self, setup: Setup) -> int:
        return setup.gradients * (len(setup.start) + len(setup.probes))

    def run(self, setup: Setup, advance: Advance) -> SamplerRun | None:
        cost = start_cost(setup.model) if self.own_start else 0
        if cost >= setup.gradients:
            return None
        began = time.perf_counter()
        generator = setup.generator(self.name)
        start = setup.model.start(len(setup.start), generator) if cost else setup.start
        kernel, pilot, learning = self._learn(setup, start, generator, advance)
        spent = cost + math.ceil(pilot)
        left = setup.gradients - spent
        if left < 1 + kernel.within(1).gradients_per_step:
            return None
        marks = [mark for f in MARKS if (mark := max(1, round(f * setup.gradients))) < left]
        trails = [
            run_chains(kernel, setup.target, part, generator, Trail(advance, marks), gradients=left)
            for part in start.split(CHAINS_AT_ONCE)
        ]
        seconds = time.perf_counter() - began
        end = torch.cat([trail.chains.position for trail in trails])
        probe, mixing = self._mixing(setup, kernel, left, start, generator, advance)
        said = overrides(probe.chains.kernel, max(1, probe.chains.steps), setup.model.settings.sampler)
        if not self.own_start and start_cost(setup.model):
            said.append("init.importance_samples=1")
        return SamplerRun(
            _joined(trails, spent),
            float(torch.cat([trail.chains.acceptance for trail in trails]).mean()),
            mixing,
            seconds,
            moved=float((end != start).any(dim=1).double().mean()),
            settings={
                "steps": probe.chains.steps,
                **numbers(probe.chains.kernel),
                **learning,
                "start_cost": cost,
                "diverged": float(torch.cat([trail.chains.diverged for trail in trails]).double().mean()),
            },
            overrides=said,
        )

    def _learn(
        self, setup: Setup, start: Tensor, generator: torch.Generator, advance: Advance
    ) -> tuple[Kernel, float, dict[str, Any]]:
        kernel, n = self.make(setup.gradients), len(start)
        if not self.learns:
            return kernel, 0.0, {}
        most = PILOT_FRACTION * setup.gradients * n
        chains = int(min(MAX_PILOT_CHAINS, n, max(MIN_PILOT_CHAINS, most / (2 * setup.gradients))))
        gradients = int(max(MIN_PILOT_GRADIENTS, min(most / chains, 4 * setup.gradients)))
        kernel, spent = learn(kernel, setup.target, start[:chains], gradients, generator, advance)
        return kernel, spent * chains / n, {"pilot_chains": chains, "pilot_gradients": spent}

    def _mixing(
        self, setup: Setup, kernel: Kernel, left: int, start: Tensor, generator: torch.Generator, advance: Advance
    ) -> "tuple[Trail, Mixing | None]":
        half = len(setup.probes) // 2
        probes = torch.cat([start[-half:], setup.probes[half:]])
        trail = Trail(advance, functions=setup.functions)
        run_chains(kernel, setup.target, probes, generator, trail, gradients=left)
        if not trail.history:
            return trail, None
        history, energies = torch.stack(trail.history), torch.stack(trail.energies)
        return trail, between_starts(history, energies, setup.functions, trail.gradients / trail.chains.steps)


@dataclass(eq=False)
class Trail:
    """Observes chains that spend a budget.

    Positions (chain, dim) are `marked` at the first step at which so many gradients are spent. Where `functions` are
    given, `history` (chain, function) and `energies` (chain,), minus the log-density, are recorded after each step.
    """

    advance: Advance
    waiting: Sequence[int] = ()  # marks that are not reached yet
    functions: TestFunctions | None = None
    spent: int = 1
    marked: list[tuple[int, Tensor]] = field(default_factory=list)
    history: list[Tensor] = field(default_factory=list)
    energies: list[Tensor] = field(default_factory=list)
    chains: Chains = field(init=False)

    @property
    def gradients(self) -> int:
        """Spent by a chain that was not stopped."""
        return int(self.chains.gradients.max())

    def __call__(self, step: int, state: ChainState, info: StepInfo) -> None:
        self.spent += info.gradients
        self.advance(info.gradients * len(state.position))
        if self.waiting and self.spent >= self.waiting[0]:
            self.marked.append((self.spent, state.position.clone()))
            self.waiting = [mark for mark in self.waiting if mark > self.spent]
        if self.functions is not None:
            self.history.append(self.functions(state.position))
            self.energies.append(-state.log_density)


def run_chains(
    kernel: Kernel, target: LogDensity, position: Tensor, generator: torch.Generator, trail: Trail, **length: Any
) -> Trail:
    """Runs chains at `position` (chain, dim); `length` says how long, as in `sample_chains`."""
    chains = sampling.sample_chains(
        target, position, kernel, generator=generator, keep_history=False, observer=trail, **length
    )
    if chains.interrupted:
        raise KeyboardInterrupt
    trail.chains = chains
    return trail


def learn(
    kernel: Kernel, target: LogDensity, position: Tensor, gradients: int, generator: torch.Generator, advance: Advance
) -> tuple[Kernel, int]:
    """The kernel with numbers learned from a pilot at `position`, and the gradients that each pilot chain spent."""
    first = int(FIRST_WARMUP * gradients)
    pilot = run_chains(kernel, target, position, generator, Trail(advance), steps=0, warmup=first, gradients=first)
    kernel, spent = with_unit_mass(pilot.chains.kernel), pilot.gradients
    steps = min(STEP_SIZE_STEPS, int((gradients - spent) / kernel.gradients_per_step))
    if steps == 0:
        return kernel, spent
    # Without a bound, which would shorten the trajectories that have just been learned.
    pilot = run_chains(kernel, target, position, generator, Trail(advance), steps=0, warmup=steps)
    return with_unit_mass(pilot.chains.kernel), spent + pilot.gradients


def with_unit_mass(kernel: Kernel) -> Kernel:
    """The kernel, and those inside it, with mass 1."""
    changes: dict[str, Any] = {}
    for name in (one.name for one in fields(kernel)):
        if name == "inverse_mass":
            changes[name] = 1.0
        elif isinstance(value := getattr(kernel, name), Kernel):
            changes[name] = with_unit_mass(value)
    return replace(kernel, **changes)


def numbers(kernel: Kernel) -> dict[str, Any]:
    """A kernel's numbers as JSON, without the mass, which is 1."""

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.tolist()
        if isinstance(value, Kernel):
            return value.kind
        return list(value) if isinstance(value, tuple) else value

    values = {one.name: plain(getattr(kernel, one.name)) for one in fields(kernel)}
    return {name: value for name, value in values.items() if name != "inverse_mass" and value is not None}


def overrides(kernel: Kernel, steps: int, recipe: SamplerSettings) -> list[str]:
    """Overrides of a recipe with this sampler that make it run the kernel for so many steps.

    Numbers that no recipe can say, such as a ladder's step sizes, are learned anew by a short warm-up.
    """
    settings = KERNELS.settings(type(kernel))
    known = recipe.model_dump(mode="json") if recipe.kind == kernel.kind else settings().model_dump(mode="json")
    learned = numbers(kernel)
    unsaid = learned.keys() - settings.model_fields.keys()
    said = {"kind": kernel.kind, "steps": steps, "warmup": STEP_SIZE_STEPS if unsaid else 0}
    wanted = {**learned, "gradients": None}
    said |= {name: wanted[name] for name in settings.model_fields if name in wanted and wanted[name] != known[name]}
    return [f"sampler.{name}={_written(value)}" for name, value in said.items()]


def _written(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    if value is None:
        return "null"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _joined(trails: list[Trail], before: int) -> list[tuple[int, Tensor]]:
    """All batches of chains together: gradients spent on a sample, `before` the chains included, and positions."""
    ends = [[*trail.marked, (trail.gradients, trail.chains.position)] for trail in trails]
    fewest = min(len(looks) for looks in ends)  # trajectories of random length may pass over a mark
    together = [looks[: fewest - 1] + looks[-1:] for looks in ends]
    return [
        (before + round(sum(spent for spent, _ in look) / len(look)), torch.cat([position for _, position in look]))
        for look in zip(*together, strict=True)
    ]

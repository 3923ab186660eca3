"""Candidates: each spends its budget and no more, and a recipe can repeat what it did."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from vaebm.comparison import mixing
from vaebm.comparison.candidate import Setup
from vaebm.comparison.kernel_candidate import (
    KernelCandidate,
    Trail,
    kernel_candidates,
    learn,
    numbers,
    overrides,
    run_chains,
)
from vaebm.comparison.particles import ImportanceCandidate, SMCCandidate
from vaebm.comparison.run import candidates
from vaebm.comparison.scorer import mean_energy
from vaebm.experiment.recipe import load_recipe
from vaebm.experiment.run_directory import Run
from vaebm.models import in_noise_space
from vaebm.sampling import HMC, KERNELS, MALA, ChainState, Kernel, Langevin, LogDensity, StepInfo
from vaebm.sampling.kernel import evaluate, number
from vaebm.sampling.metropolis import metropolis
from vaebm.sampling.tempering import Tempering


def standard(x: Tensor) -> Tensor:
    return -0.5 * x.square().sum(dim=1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def nothing(_: int) -> None:
    pass


class Counting:
    """A standard Gaussian in three dimensions, in place of a model: counts the rows at which it is evaluated."""

    device = torch.device("cpu")
    corrects = True
    noise = SimpleNamespace(latent_dim=1)

    def __init__(self) -> None:
        self.rows = 0
        self.settings = SimpleNamespace(
            init=SimpleNamespace(importance_samples=1), sampler=load_recipe("gaussians25").sampler
        )

    def noise_log_density(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        return standard(x)


def setup_of(model: Any, n: int = 64, gradients: int = 60, dim: int = 3) -> Setup:
    start = torch.randn(n, dim, generator=generator())
    functions = mixing.TestFunctions(dim, lambda _: {}, generator())
    return Setup(model, start, start[:8], gradients, functions, 0)


# Budgets


@pytest.mark.parametrize("gradients", [50, 200])
@pytest.mark.parametrize("name", list(KERNELS))
def test_a_kernel_spends_its_budget_pilot_included_and_no_more(name: str, gradients: int) -> None:
    model: Any = Counting()
    setup = setup_of(model, gradients=gradients)
    candidate = next(found for found in kernel_candidates(model) if found.name == name)
    reported = 0

    def advance(evaluations: int) -> None:
        nonlocal reported
        reported += evaluations

    found = candidate.run(setup, advance)
    assert found is not None
    dearest = {"tempering": 8, "block_gibbs": 4}.get(name, 2)  # gradients of a step that no longer fits
    assert gradients - dearest < found.samples[-1][0] <= gradients
    assert [spent for spent, _ in found.samples] == sorted({spent for spent, _ in found.samples})
    assert model.rows / (len(setup.start) + len(setup.probes)) <= gradients + 1
    pilots = found.settings["pilot_chains"]
    assert reported <= model.rows <= reported + 72 + 2 * pilots + 72 * dearest  # starts, and steps that did not fit
    assert found.moved > 0.9


def test_trajectories_end_exactly_with_the_budget() -> None:
    for gradients in (7, 30, 41):
        trail = run_chains(
            HMC(), standard, torch.randn(4, 2, generator=generator()), generator(), Trail(nothing), gradients=gradients
        )
        assert trail.gradients == trail.spent == gradients


def test_positions_are_kept_at_the_marks() -> None:
    trail = Trail(nothing, [5, 20], mixing.TestFunctions(3, lambda _: {}, generator()))
    run_chains(MALA(), standard, torch.randn(6, 3, generator=generator()), generator(), trail, gradients=41)
    assert [spent for spent, _ in trail.marked] == [5, 20]
    for spent, position in trail.marked:
        assert torch.equal(trail.history[spent - 2], position)
    assert torch.equal(trail.energies[-1], -standard(trail.chains.position))
    assert len(trail.history) == 40


def test_too_small_a_budget_leaves_a_candidate_out() -> None:
    model: Any = Counting()
    model.settings.init.importance_samples = 30
    by_name = {found.name: found for found in kernel_candidates(model)}
    assert by_name["recipe"].run(setup_of(model, gradients=30), nothing) is None
    assert (
        KernelCandidate("mala", "MALA", lambda _: MALA(), learns=False).run(setup_of(model, gradients=1), nothing)
        is None
    )
    assert SMCCandidate().run(setup_of(Gaussian(), n=64, gradients=3), nothing) is None


def test_chains_that_never_move_are_known() -> None:
    stuck = KernelCandidate("mala", "MALA", lambda _: MALA(step_size=1e6), learns=False)
    model: Any = Counting()
    found = stuck.run(setup_of(model), nothing)
    assert found is not None
    assert found.moved == 0
    assert found.mixing is not None
    assert math.isnan(found.mixing.ess_per_gradient)


def test_an_unadjusted_chain_that_leaves_the_finite_numbers_stops_there() -> None:
    def cliff(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] > 0.5, torch.nan, 0.0) + standard(x)

    trail = run_chains(Langevin(step_size=0.5), cliff, torch.zeros(200, 1), generator(), Trail(nothing), gradients=60)
    assert float(trail.chains.diverged.double().mean()) > 0.5
    assert bool((trail.chains.position <= 0.5).all())


def test_ctrl_c_ends_the_candidate() -> None:
    def interrupting(_: int) -> None:
        raise KeyboardInterrupt

    model: Any = Counting()
    with pytest.raises(KeyboardInterrupt):
        KernelCandidate("mala", "MALA", lambda _: MALA(), learns=False).run(setup_of(model), interrupting)


# Learning


@pytest.mark.parametrize("name", list(KERNELS))
def test_a_pilot_learns_numbers_for_unit_mass(name: str) -> None:
    scale = torch.tensor([1.0, 0.2])
    begin = scale * torch.randn(64, 2, generator=generator())
    kernel, spent = learn(KERNELS[name](), lambda x: standard(x / scale), begin, 300, generator(), nothing)
    inner: list[Any] = [getattr(kernel, part) for part in ("kernel", "first", "second") if hasattr(kernel, part)] or [
        kernel
    ]
    assert all(part.inverse_mass == 1.0 for part in inner)
    assert 150 < spent <= 330
    chains = run_chains(
        kernel, lambda x: standard(x / scale), begin, generator(1), Trail(nothing), gradients=400
    ).chains
    assert float(chains.acceptance.mean()) == pytest.approx(inner[0].desired_acceptance(2), abs=0.17)


def test_the_mass_of_inner_kernels_is_set_back_too() -> None:
    kernel = replace(Tempering(), kernel=MALA(inverse_mass=torch.ones(2)))
    learned, _ = learn(kernel, standard, torch.randn(32, 2, generator=generator()), 100, generator(), nothing)
    assert isinstance(learned, Tempering)
    assert learned.kernel.inverse_mass == 1.0


# What a recipe can say


@pytest.mark.parametrize("name", list(KERNELS))
def test_overrides_repeat_the_kernel(name: str) -> None:
    model: Any = Counting()
    setup = setup_of(model, gradients=200)
    candidate = next(found for found in kernel_candidates(model) if found.name == name)
    found = candidate.run(setup, nothing)
    assert found is not None
    recipe = load_recipe("gaussians25", found.overrides)
    assert recipe.sampler.kind == name
    assert recipe.sampler.steps == found.settings["steps"]
    built = numbers(recipe.sampler.build())
    for key in type(recipe.sampler).model_fields:
        if key in built and not isinstance(built[key], str):
            assert built[key] == pytest.approx(found.settings[key], rel=1e-3), key
    assert recipe.sampler.warmup == (
        19 if name in ("tempering", "block_gibbs") else 0
    )  # several step sizes no recipe can say


def test_overrides_undo_what_the_recipe_says_otherwise() -> None:
    recipe = load_recipe("gaussians25", ["sampler.kind=hmc", "sampler.jitter=0.5", "sampler.gradients=99"])
    said = overrides(HMC(step_size=0.25), 7, recipe.sampler)
    assert "sampler.jitter=0.3" in said
    assert "sampler.gradients=null" in said
    assert "sampler.num_leapfrog_steps" not in " ".join(said)


# A new kernel


@dataclass(frozen=True, eq=False)
class RandomWalk(Kernel):
    """Metropolis' own algorithm."""

    kind: ClassVar[str] = "random_walk"
    label: ClassVar[str] = "a random walk"
    adjusted: ClassVar[bool] = True

    width: float = number(0.5, "standard deviation of a step", gt=0)

    def step(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> tuple[ChainState, StepInfo]:
        position = state.position + self.width * torch.randn(state.position.shape, generator=generator)
        log_density, score = evaluate(target, position)
        return metropolis(state, ChainState(position, log_density, score), log_density - state.log_density, generator)


@pytest.fixture
def registered() -> Iterator[None]:
    KERNELS.register(RandomWalk)
    yield
    del KERNELS["random_walk"]


@pytest.mark.usefixtures("registered")
def test_a_registered_kernel_is_a_candidate() -> None:
    model: Any = Counting()
    candidate = candidates(model)["random_walk"]
    assert candidate.label == "a random walk"
    found = candidate.run(setup_of(model), nothing)
    assert found is not None
    assert found.samples[-1][0] == 60
    assert found.settings["width"] == 0.5
    assert "sampler.kind=random_walk" in found.overrides


# Importance sampling and SMC


class Gaussian(Counting):
    """N(0, I) tilted by E = x_1^2 / 2 + 1, with N(0, I) for its base: log Z = -1 - log(2) / 2."""

    log_z = -1 - math.log(2) / 2

    def sample_base(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.randn(n, 3, generator=generator)

    def base_log_density(self, x: Tensor) -> Tensor:
        return standard(x) - 1.5 * math.log(2 * math.pi)

    def log_weights(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        return -0.5 * x[:, 0].square() - 1

    def noise_log_density(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        return self.base_log_density(x) - 0.5 * x[:, 0].square() - 1


@pytest.mark.parametrize("candidate", [ImportanceCandidate(), SMCCandidate()])
def test_particles_give_the_target_and_its_normaliser(candidate: ImportanceCandidate | SMCCandidate) -> None:
    model: Any = Gaussian()
    n = 2000
    found = candidate.run(setup_of(model, n=n, gradients=100), nothing)
    assert found is not None
    assert found.samples[-1][0] <= 100
    assert model.rows <= 102 * n
    x = found.samples[-1][1]
    assert len(x) == n
    assert float(x[:, 0].var()) == pytest.approx(0.5, abs=5 * 0.5 * math.sqrt(2 / n))
    assert float(x[:, 1].var()) == pytest.approx(1.0, abs=5 * math.sqrt(2 / n))
    assert found.log_z is not None
    assert 0 < found.log_z.stderr < 0.02
    assert found.log_z.value == pytest.approx(model.log_z, abs=4 * found.log_z.stderr)
    assert found.mixing is not None
    assert found.mixing.rhat < 1.01


def test_importance_gives_the_model(points: Run) -> None:
    model = in_noise_space(points.model())
    n = 2000
    with model.frozen(), torch.no_grad():
        start = model.sample_base(n, generator(3))
        functions = mixing.TestFunctions(model.noise.dim, lambda _: {}, generator())
        found = ImportanceCandidate().run(Setup(model, start, start[:8], 30, functions, 0), nothing)
        exact = model.sample_base(60_000, generator(9))
        log_weights = (model.noise_log_density(exact) - model.base_log_density(exact)).double()
        assert found.log_z is not None
        wanted = float(log_weights.logsumexp(0)) - math.log(len(exact))
        error = float(log_weights.exp().std()) / math.sqrt(len(exact))
        assert found.log_z.value == pytest.approx(wanted, abs=4 * math.hypot(found.log_z.stderr, error))
        mean = mean_energy(model, 40_000, generator(4))
        assert mean is not None
        energies = -model.log_weights(found.samples[-1][1])
        error = math.hypot(float(energies.std()) / math.sqrt(n), mean[1])
        assert float(energies.mean()) == pytest.approx(mean[0], abs=4 * error)
    assert [gradients for gradients, _ in found.samples] == [2, 4, 8, 15, 30]


def test_a_mean_energy_needs_weights_that_count() -> None:
    model: Any = Gaussian()
    mean = mean_energy(model, 40_000, generator())
    assert mean is not None
    assert mean[0] == pytest.approx(1.25, abs=4 * mean[1])
    model.log_weights = lambda x: 40 * x[:, 0]
    assert mean_energy(model, 4_000, generator()) is None

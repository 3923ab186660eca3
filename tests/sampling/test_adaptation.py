"""Adaptation: the goal is met, the mass is the variance, the trajectory is of the right length, the ladder is even."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from tests.densities import Banana, DoubleWell, GaussianGrid, IllConditioned
from vaebm import sampling
from vaebm.sampling.adaptation.dual_averaging import DualAveraging
from vaebm.sampling.adaptation.ladder import equal_swaps
from vaebm.sampling.adaptation.mass import Variance
from vaebm.sampling.adaptation.trajectory import TrajectoryKernel
from vaebm.sampling.adaptation.warmup import Tunable, pooled_acceptance, tolerated_acceptance, window_ends
from vaebm.sampling.diagnostics import integrated_time
from vaebm.sampling.hmc import HMC
from vaebm.sampling.kernel import ChainState, StepInfo
from vaebm.sampling.langevin import MALA
from vaebm.sampling.mclmc import MCLMC
from vaebm.sampling.tempering import Tempering

TUNABLE = [name for name in sampling.KERNELS if name not in ("tempering", "block_gibbs")]


@pytest.mark.parametrize("name", TUNABLE)
@pytest.mark.parametrize("target", [IllConditioned(20, 100.0), DoubleWell(2), Banana()], ids=lambda t: type(t).__name__)
def test_acceptance_meets_its_goal(name: str, target: IllConditioned | DoubleWell | Banana) -> None:
    generator = torch.Generator().manual_seed(0)
    trajectories = name in ("hmc", "adjusted_mclmc")
    chains = sampling.sample_chains(
        target.log_prob,
        target.sample(200, generator),
        sampling.KERNELS[name](),
        steps=20 if trajectories else 60,
        warmup=100 if trajectories else 250,
        generator=generator,
        keep_history=False,
    )
    kernel: Tunable = chains.kernel  # type: ignore[assignment]
    assert abs(float(chains.acceptance.mean()) - kernel.desired_acceptance(target.dim)) < 0.05


@pytest.mark.parametrize("name", TUNABLE)
def test_mass_becomes_the_variance(name: str) -> None:
    target, generator = IllConditioned(10, 1000.0), torch.Generator().manual_seed(1)
    trajectories = name in ("hmc", "adjusted_mclmc")
    chains = sampling.sample_chains(
        target.log_prob,
        torch.randn(100, 10, generator=generator),
        sampling.KERNELS[name](),
        steps=1,
        warmup=100 if trajectories else 400,
        generator=generator,
    )
    kernel: Tunable = chains.kernel  # type: ignore[assignment]
    assert isinstance(kernel.inverse_mass, Tensor)
    assert ((kernel.inverse_mass / target.variance).log().abs() < 0.5).all()
    assert isinstance(kernel.step_size, float)


def test_trajectories_grow_to_about_a_quarter_period() -> None:
    target, generator = IllConditioned(30, 1.0), torch.Generator().manual_seed(2)
    chains = sampling.sample_chains(
        target.log_prob,
        target.sample(100, generator),
        HMC(num_leapfrog_steps=40),
        steps=1,
        warmup=200,
        generator=generator,
    )
    kernel = chains.kernel
    assert isinstance(kernel, HMC)
    assert 1.0 < float(kernel.step_size) * kernel.num_leapfrog_steps < 1.8  # pi / 2 is a quarter period


def test_decoherence_follows_the_autocorrelation() -> None:
    # L = 0.4 h tau by definition, tau being that of the chain that has the decoherence length from which it starts.
    target, generator = IllConditioned(30, 1.0), torch.Generator().manual_seed(3)
    learner = MCLMC(decoherence=20.0).warm_up(300)
    state = MCLMC().init(target.sample(50, generator), target.log_prob)
    history, last = [], learner.ends[-2:]  # type: ignore[attr-defined]
    for step in range(300):
        state, _ = learner.step(state, target.log_prob, generator)
        if last[0] <= step < last[1]:
            history.append(state.position)
        if step == last[1] - 1:
            step_size = float(learner.kernel.step_size)  # type: ignore[attr-defined]
    kernel = learner.finish()
    assert isinstance(kernel, MCLMC)
    tau = float(integrated_time(torch.stack(history)).mean())
    assert kernel.decoherence == pytest.approx(0.4 * step_size * tau / math.sqrt(30), rel=0.02)
    assert 0.6 < kernel.decoherence < 1.2


def test_dual_averaging_finds_the_goal() -> None:
    steps = torch.tensor([1e-3, 5.0])
    averaging = DualAveraging(steps, 0.7)
    assert torch.allclose(averaging.average, steps)
    for _ in range(400):
        steps = averaging.update(torch.exp(-steps))
    assert torch.allclose(torch.exp(-averaging.average), torch.tensor(0.7), atol=0.02)


def test_running_variance_is_that_of_all_positions() -> None:
    history = torch.randn(7, 11, 3, generator=torch.Generator().manual_seed(4)) * torch.tensor([1.0, 5.0, 0.1]) + 3
    variance = Variance()
    for position in history:
        variance.update(position)
    everything = history.flatten(0, 1)
    assert variance.mean is not None
    assert torch.allclose(variance.mean, everything.mean(dim=0), rtol=1e-4)
    exact = everything.var(dim=0)
    before = torch.tensor([2.0, 3.0, 4.0])
    found = variance.inverse_mass(before)
    assert found is not None
    assert torch.allclose(found, exact ** (77 / 82) * before ** (5 / 82), rtol=1e-4)


def test_no_mass_from_too_little() -> None:
    variance = Variance()
    assert variance.inverse_mass(1.0) is None
    variance.update(torch.zeros(4, 2))
    assert variance.inverse_mass(1.0) is None
    variance.update(torch.zeros(20, 2))
    assert variance.inverse_mass(1.0) is None


def test_a_coordinate_that_did_not_move_keeps_its_mass() -> None:
    variance = Variance()
    variance.update(torch.stack([torch.arange(20.0), torch.zeros(20)], dim=1))
    found = variance.inverse_mass(torch.tensor([1.0, 7.0]))
    assert found is not None
    assert float(found[1]) == 7.0
    assert float(found[0]) > 10


@pytest.mark.parametrize("steps", [0, 5, 19, 20, 33, 100, 400, 1000])
def test_windows_double_and_fill_the_middle(steps: int) -> None:
    ends = window_ends(steps)
    if steps < 20:
        assert ends == []
        return
    assert ends[0] == round(0.15 * steps)
    assert ends[-1] == round(0.9 * steps)
    lengths = [b - a for a, b in pairwise(ends)]
    assert all(b >= 2 * a for a, b in pairwise(lengths))


def test_tolerated_acceptance_is_the_mean_over_gaussian_errors() -> None:
    error = 0.03 * torch.randn(200_000, generator=torch.Generator().manual_seed(5)) * math.sqrt(50)
    error = error + (0.03**2 * 50) / 2
    assert tolerated_acceptance(0.03**2, 50) == pytest.approx(float((-error).clamp(max=0).exp().mean()), abs=1e-3)


def test_a_step_size_for_each_chain_is_kept_without_and_refused_with_a_warm_up() -> None:
    generator = torch.Generator().manual_seed(8)
    kernel = MALA(step_size=torch.tensor([[0.1], [0.2]]))
    chains = sampling.sample_chains(Banana().log_prob, torch.zeros(2, 2), kernel, steps=2, generator=generator)
    assert chains.kernel is kernel
    with pytest.raises(ValueError, match="a warm-up learns one for all chains"):
        sampling.sample_chains(Banana().log_prob, torch.zeros(2, 2), kernel, steps=2, warmup=2, generator=generator)


def test_a_stuck_chain_rules_the_early_phase() -> None:
    acceptance = torch.tensor([0.9] * 99 + [0.0])
    info = StepInfo(acceptance, acceptance > 0, acceptance < 0)
    assert float(pooled_acceptance(info, 0.8, early=True)) < 0.1
    assert float(pooled_acceptance(info, 0.8)) == pytest.approx(0.891)


def test_chains_in_a_steep_place_are_not_left_behind() -> None:
    def quartic(x: Tensor) -> Tensor:
        return -x.pow(4).sum(dim=1)

    generator = torch.Generator().manual_seed(6)
    begin = torch.cat([torch.randn(95, 2, generator=generator), torch.full((5, 2), 20.0)])
    chains = sampling.sample_chains(quartic, begin, MALA(), steps=100, warmup=200, generator=generator)
    assert (chains.position.abs() < 3).all()


@pytest.mark.parametrize("name", ["mala", "hmc"])
def test_scales_that_are_far_apart_are_learned(name: str) -> None:
    def run(scale: Tensor) -> tuple[Tunable, float]:
        begin = scale * torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
        chains = sampling.sample_chains(
            lambda x: -(x / scale).square().sum(dim=1) / 2,
            begin,
            sampling.KERNELS[name](),
            steps=400,
            warmup=400,
            generator=torch.Generator().manual_seed(1),
        )
        found = sampling.diagnose(chains, generator=torch.Generator().manual_seed(2))
        assert (found.rhat < 1.03).all()
        return chains.kernel, float(found.ess_bulk.min())  # type: ignore[return-value]

    scale = torch.tensor([0.01, 100.0])
    kernel, ess = run(scale)
    assert ((torch.as_tensor(kernel.inverse_mass) / scale.square()).log().abs() < 0.5).all()
    assert ess > 0.6 * run(torch.ones(2))[1]


def exponential(x: Tensor) -> Tensor:
    return torch.where((x > 0).all(dim=1), -x.sum(dim=1), -torch.inf)


def box(x: Tensor) -> Tensor:
    return torch.where((x.abs() < 1).all(dim=1), 0 * x.sum(dim=1), -torch.inf)


@pytest.mark.parametrize("name", ["hmc", "adjusted_mclmc"])
@pytest.mark.parametrize("target", [exponential, box], ids=lambda t: t.__name__)
def test_walls_do_not_make_steps_tiny_and_trajectories_long(name: str, target: sampling.LogDensity) -> None:
    generator = torch.Generator().manual_seed(1)
    begin = 0.1 + 0.8 * torch.rand(20, 2, generator=generator)
    chains = sampling.sample_chains(target, begin, sampling.KERNELS[name](), steps=200, warmup=300, generator=generator)
    kernel = chains.kernel
    assert isinstance(kernel, TrajectoryKernel)
    assert float(kernel.step_size) > 0.1
    assert kernel.num_leapfrog_steps < 16
    found = sampling.diagnose(chains, generator=generator)
    assert found.ess_per_gradient > 0.005


@pytest.mark.parametrize("name", [name for name in TUNABLE if name != "mala"])
def test_chains_arrive_from_afar(name: str) -> None:
    generator = torch.Generator().manual_seed(1)
    begin = 1e4 + torch.randn(4, 2, generator=generator)
    chains = sampling.sample_chains(
        lambda x: -x.square().sum(dim=1) / 2,
        begin,
        sampling.KERNELS[name](),
        steps=100,
        warmup=400,
        generator=generator,
    )
    assert (chains.position.norm(dim=1) < 6).all()


def test_a_decoherence_length_that_cannot_be_measured_is_kept() -> None:
    generator = torch.Generator().manual_seed(1)
    learner = MCLMC(decoherence=3.0).warm_up(20)
    state = ChainState(torch.zeros(2, 2), torch.zeros(2), torch.zeros(2, 2))
    for _ in range(20):
        _, _ = learner.step(state, lambda x: 0 * x.sum(dim=1), generator)
    learner.seen = [torch.zeros(2, 2)] * 8  # type: ignore[attr-defined]
    learner.done = learner.ends[-1]  # type: ignore[attr-defined]
    learner.close_window()  # type: ignore[attr-defined]
    kernel = learner.finish()
    assert isinstance(kernel, MCLMC)
    assert math.isfinite(kernel.decoherence)


def test_divergences_are_not_hidden_from_the_step_size() -> None:
    def cliff(x: Tensor) -> Tensor:
        return torch.where(x.norm(dim=1) > 3, torch.nan, -x.square().sum(dim=1) / 2)

    def step_size(target: sampling.LogDensity) -> float:
        generator = torch.Generator().manual_seed(2)
        begin = 0.5 * torch.randn(50, 2, generator=generator)
        chains = sampling.sample_chains(target, begin, MCLMC(), steps=1, warmup=200, generator=generator)
        return float(getattr(chains.kernel, "step_size"))  # noqa: B009

    assert step_size(cliff) < 1.1 * step_size(lambda x: -x.square().sum(dim=1) / 2)


@pytest.mark.parametrize("name", TUNABLE)
@pytest.mark.parametrize("factor", [1e-6, 1e3])
def test_the_step_size_rises_and_falls_from_wherever_it_starts(name: str, factor: float) -> None:
    def learned(scale: float) -> float:
        generator = torch.Generator().manual_seed(3)
        kernel: Tunable = sampling.KERNELS[name]()  # type: ignore[assignment]
        chains = sampling.sample_chains(
            lambda x: -x.square().sum(dim=1) / 2,
            torch.randn(50, 4, generator=generator),
            replace(kernel, step_size=scale * kernel.step_size),
            steps=1,
            warmup=100,
            generator=generator,
        )
        return float(getattr(chains.kernel, "step_size"))  # noqa: B009

    assert learned(factor) == pytest.approx(learned(1.0), rel=0.5)


@pytest.mark.parametrize("name", list(sampling.KERNELS))
def test_the_kernel_that_is_reported_is_the_one_that_ran(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = sampling.KERNELS[name]
    ran: list[object] = []
    step = kind.step

    def spy(self: object, *arguments: object) -> object:
        ran.append(self)
        return step(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(kind, "step", spy)
    chains = sampling.sample_chains(
        Banana().log_prob, torch.zeros(8, 2), kind(), steps=5, warmup=40, generator=torch.Generator().manual_seed(0)
    )
    assert all(kernel is chains.kernel for kernel in ran[-5:])


def test_the_ladder_becomes_even() -> None:
    generator = torch.Generator().manual_seed(7)
    target = GaussianGrid(side=2, scale=0.1)
    kernel = Tempering(betas=(1.0, 0.9, 0.8, 0.02, 0.01))
    chains = sampling.sample_chains(
        target.log_prob, target.sample(200, generator), kernel, steps=60, warmup=150, generator=generator
    )
    assert isinstance(chains.kernel, Tempering)
    exchange = chains.kernel.exchange(chains.state)
    assert exchange.swap_rates.shape == (4,)
    assert float(exchange.swap_rates.max() - exchange.swap_rates.min()) < 0.12
    assert exchange.round_trips.sum() > 200
    assert (chains.kernel.betas[0], chains.kernel.betas[-1]) == (1.0, 0.01)


def test_equal_swaps_keep_an_even_ladder() -> None:
    betas = (1.0, 0.3, 0.1)
    assert equal_swaps(betas, torch.tensor([0.5, 0.5])) == pytest.approx(betas)
    moved = equal_swaps(betas, torch.tensor([0.1, 0.9]))
    assert 0.3 < moved[1] < 1.0


def test_block_gibbs_learns_a_step_size_and_a_mass_for_either_block() -> None:
    scale = torch.tensor([10.0, 0.1, 0.2])
    begin = scale * torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    chains = sampling.sample_chains(
        lambda x: -0.5 * (x / scale).square().sum(1),
        begin,
        sampling.BlockGibbs(1),
        steps=100,
        warmup=300,
        generator=torch.Generator().manual_seed(1),
    )
    kernel = chains.kernel
    assert isinstance(kernel, sampling.BlockGibbs)
    learned = torch.cat([torch.as_tensor(half.inverse_mass) for half in (kernel.first, kernel.second)])  # type: ignore[attr-defined]
    torch.testing.assert_close(learned, scale.square(), rtol=0.6, atol=0)
    assert float(chains.acceptance.mean()) == pytest.approx(0.574, abs=0.1)  # the goal of MALA in either block

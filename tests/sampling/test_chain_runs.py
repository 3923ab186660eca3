"""Runs: what they leave, how they end, and what they refuse."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from vaebm import sampling
from vaebm.sampling.kernel import evaluate
from vaebm.sampling.langevin import MALA, Langevin

NAMES = list(sampling.KERNELS)


def gaussian(x: Tensor) -> Tensor:
    return -x.square().sum(dim=1) / 2


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_counts(name: str, generator: torch.Generator) -> None:
    kernel = sampling.KERNELS[name]()
    calls = []

    def counted(x: Tensor) -> Tensor:
        calls.append(len(x))
        return gaussian(x)

    seen: list[tuple[int, int]] = []
    position = torch.randn(5, 3, generator=generator)
    chains = sampling.sample_chains(
        counted,
        position,
        kernel,
        steps=7,
        warmup=4,
        generator=generator,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert chains.history is not None
    assert chains.log_density_history is not None
    assert chains.history.shape == (7, 5, 3)
    assert torch.equal(chains.history[-1], chains.position)
    assert torch.equal(chains.log_density_history[-1], chains.log_density)
    assert torch.allclose(chains.log_density, gaussian(chains.position), atol=1e-5)
    assert chains.acceptance.shape == chains.diverged.shape == (5,)
    assert ((chains.acceptance >= 0) & (chains.acceptance <= 1)).all()
    assert chains.gradients.tolist() == [sum(calls) // 5] * 5
    assert seen == [(k, 11) for k in range(1, 12)]
    assert not chains.interrupted
    assert chains.steps == 7


@pytest.mark.parametrize("name", NAMES)
def test_the_generator_decides_alone(name: str) -> None:
    position = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    ends = []
    for _ in range(2):
        before = torch.get_rng_state()
        chains = sampling.sample_chains(
            gaussian, position, sampling.KERNELS[name](), steps=5, warmup=25, generator=torch.Generator().manual_seed(2)
        )
        assert torch.equal(before, torch.get_rng_state())
        ends.append(chains.position)
        torch.rand(3, generator=torch.default_generator)
    assert torch.equal(*ends)
    assert torch.equal(position, torch.randn(4, 3, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("name", NAMES)
def test_a_run_goes_on_as_if_it_had_never_stopped(name: str) -> None:
    kernel, once, twice = sampling.KERNELS[name](), *(torch.Generator().manual_seed(3) for _ in range(2))
    position = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    whole = sampling.sample_chains(gaussian, position, kernel, steps=6, warmup=25, generator=once)
    first = sampling.sample_chains(gaussian, position, kernel, steps=3, warmup=25, generator=twice)
    second = sampling.sample_chains(gaussian, first.state, first.kernel, steps=3, generator=twice)
    assert whole.history is not None
    assert first.history is not None
    assert second.history is not None
    assert torch.equal(whole.history, torch.cat([first.history, second.history]))
    assert torch.equal(whole.gradients, first.gradients + second.gradients)


def test_without_history_nothing_is_kept(generator: torch.Generator) -> None:
    chains = sampling.sample_chains(
        gaussian, torch.zeros(3, 2), MALA(), steps=5, generator=generator, keep_history=False
    )
    assert chains.history is None
    assert chains.log_density_history is None


@pytest.mark.parametrize("stop_at", [2, 8])
def test_an_interrupt_loses_nothing(stop_at: int, generator: torch.Generator) -> None:
    def stop(done: int, total: int) -> None:
        if done == stop_at:
            raise KeyboardInterrupt

    chains = sampling.sample_chains(
        gaussian, torch.zeros(3, 2), MALA(), steps=10, warmup=4, generator=generator, progress=stop
    )
    assert chains.interrupted
    assert chains.steps == max(0, stop_at - 4)
    assert chains.history is not None
    assert len(chains.history) == chains.steps
    assert chains.acceptance.isnan().all() == (chains.steps == 0)


class Cliff:
    """A Gaussian that is nan beyond a wall, in some chains."""

    def __init__(self, wall: float) -> None:
        self.wall = wall

    def __call__(self, x: Tensor) -> Tensor:
        return torch.where(x[:, 0] > self.wall, torch.nan, gaussian(x))


@pytest.mark.parametrize("name", ["mala", "hmc", "adjusted_mclmc"])
def test_adjusted_kernels_reject_what_is_not_finite_and_count_it(name: str, generator: torch.Generator) -> None:
    kernel = sampling.KERNELS[name](step_size=0.5)  # type: ignore[call-arg]
    chains = sampling.sample_chains(Cliff(1.0), -torch.ones(64, 2), kernel, steps=30, generator=generator)
    assert chains.history is not None
    assert chains.divergences.sum() > 64
    assert (chains.history[:, :, 0] <= 1.0).all()
    assert (chains.history[-1] != chains.history[-8]).any()


@pytest.mark.parametrize("name", ["langevin", "underdamped", "mclmc"])
def test_unadjusted_kernels_stop_where_it_is_not_finite(name: str, generator: torch.Generator) -> None:
    kernel = sampling.KERNELS[name](step_size=0.5)  # type: ignore[call-arg]
    chains = sampling.sample_chains(Cliff(0.5), -torch.ones(64, 2), kernel, steps=30, generator=generator)
    assert chains.history is not None
    assert 0 < chains.diverged.sum() < 64
    assert (chains.divergences <= 1).all()
    assert (chains.history[:, :, 0] <= 0.5).all()
    path = torch.cat([-torch.ones(1, 64, 2), chains.history])
    still = (path[1:] == path[:-1]).all(dim=2)
    # Once still, still to the end, and only the chains that say so.
    assert (still[:-1] <= still[1:]).all()
    assert torch.equal(still[-1], chains.diverged)
    assert torch.equal(chains.gradients, 31 - (still.sum(dim=0) - 1).clamp(min=0))


def refusals() -> Iterator[tuple[str, object, Tensor]]:
    yield "has to give one log-density a chain", lambda x: x.sum(), torch.zeros(4, 2)
    yield "has to give one log-density a chain", lambda x: x, torch.zeros(4, 2)
    yield "does not depend on the position", lambda x: torch.zeros(4), torch.zeros(4, 2)
    yield "does not depend on the position", lambda x: gaussian(x.detach()), torch.zeros(4, 2)
    other = torch.ones(4, requires_grad=True)
    yield "does not depend on the position", lambda x: 2 * other, torch.zeros(4, 2)
    yield (
        r"log-density is not finite at the start in 2 of 4 chains \(1, 3\)",
        lambda x: x.log().sum(dim=1),
        torch.tensor([[1.0], [-1.0], [2.0], [0.0]]),
    )
    yield (
        r"score is not finite at the start in 1 of 2 chains \(0\)",
        lambda x: x.sqrt().sum(dim=1),
        torch.tensor([[0.0], [1.0]]),
    )
    yield r"position is not finite at the start in 1 of 2 chains \(1\)", gaussian, torch.tensor([[0.0], [torch.inf]])
    yield "floating-point", gaussian, torch.zeros(4)
    yield "floating-point", gaussian, torch.zeros(4, 2, dtype=torch.int64)


@pytest.mark.parametrize(("message", "target", "position"), list(refusals()))
def test_refusals_at_the_start(message: str, target: object, position: Tensor, generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match=message):
        sampling.sample_chains(target, position, MALA(), steps=1, generator=generator)  # type: ignore[arg-type]


def test_more_than_ten_chains_are_not_all_listed(generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match=r"20 of 20 chains \(0, 1, .*9, \.\.\.\)"):
        MALA().init(torch.full((20, 1), -1.0), lambda x: x.log().sum(dim=1))


def test_negative_counts_are_refused(generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match="steps is -1"):
        sampling.sample_chains(gaussian, torch.zeros(2, 2), MALA(), steps=-1, generator=generator)


def test_no_weight_gets_a_gradient_and_no_grad_does_not_matter(generator: torch.Generator) -> None:
    weight = torch.ones(2, requires_grad=True)

    def target(x: Tensor) -> Tensor:
        return -(weight * x.square()).sum(dim=1)

    with torch.no_grad():
        chains = sampling.sample_chains(target, torch.zeros(3, 2), MALA(), steps=2, generator=generator)
    assert weight.grad is None
    assert not chains.position.requires_grad


def test_a_target_under_autocast_gives_position_typed_results() -> None:
    layer = torch.nn.Linear(3, 8).requires_grad_(False)

    def target(x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return -layer(x).sum(dim=1)

    log_density, score = evaluate(target, torch.zeros(4, 3))
    assert log_density.dtype == score.dtype == torch.float32


def test_a_target_never_sees_what_is_not_finite(generator: torch.Generator) -> None:
    normal = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(2), torch.ones(2)), 1)
    kernel = sampling.KERNELS["hmc"](step_size=1e20, num_leapfrog_steps=5)  # type: ignore[call-arg]
    chains = sampling.sample_chains(normal.log_prob, torch.ones(3, 2), kernel, steps=2, generator=generator)
    assert chains.diverged.all()
    assert torch.equal(chains.position, torch.ones(3, 2))


def test_without_noise_langevin_climbs(generator: torch.Generator) -> None:
    kernel = Langevin(step_size=0.5, noise_scale=0.0)
    chains = sampling.sample_chains(gaussian, torch.ones(3, 2), kernel, steps=20, generator=generator)
    assert torch.allclose(chains.position, torch.full((3, 2), 0.75**20), atol=1e-6)
    assert chains.acceptance.isfinite().all()


def test_a_score_that_shares_its_memory_is_not_written_to(generator: torch.Generator) -> None:
    # The gradient of a plain sum is one number expanded over all coordinates.
    chains = sampling.sample_chains(lambda x: x.sum(dim=1), torch.zeros(8, 3), Langevin(), steps=3, generator=generator)
    assert torch.equal(chains.state.score, torch.ones(8, 3))


def test_thinning_keeps_every_nth_step_of_the_same_chains() -> None:
    runs = [
        sampling.sample_chains(
            gaussian, torch.zeros(3, 2), MALA(), steps=11, thinning=k, generator=torch.Generator().manual_seed(1)
        )
        for k in (1, 4)
    ]
    whole, thinned = (run.history for run in runs)
    assert whole is not None
    assert thinned is not None
    assert torch.equal(thinned, whole[3::4])
    assert [run.steps for run in runs] == [11, 11]
    assert torch.equal(runs[0].position, runs[1].position)


@pytest.mark.parametrize("name", NAMES)
def test_an_observer_sees_every_step_and_does_not_change_the_chains(name: str) -> None:
    def run(observer: sampling.Observer | None) -> sampling.Chains:
        return sampling.sample_chains(
            gaussian,
            torch.ones(4, 3),
            sampling.KERNELS[name](),
            steps=5,
            warmup=3,
            generator=torch.Generator().manual_seed(2),
            observer=observer,
        )

    seen: list[tuple[int, Tensor, int]] = []
    chains = run(lambda step, state, info: seen.append((step, state.position, info.gradients)))
    assert [step for step, _, _ in seen] == list(range(-2, 6))
    assert chains.history is not None
    assert torch.equal(torch.stack([position for step, position, _ in seen if step > 0]), chains.history)
    assert chains.gradients.tolist() == [1 + sum(gradients for _, _, gradients in seen)] * 4
    assert torch.equal(run(None).position, chains.position)


@pytest.mark.parametrize("name", NAMES)
def test_inference_mode_does_not_matter(name: str) -> None:
    def run() -> Tensor:
        position = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
        generator = torch.Generator().manual_seed(2)
        chains = sampling.sample_chains(
            gaussian, position, sampling.KERNELS[name](), steps=5, warmup=25, generator=generator
        )
        return chains.position

    with torch.inference_mode():
        inside = run()
    assert torch.equal(inside, run())


@pytest.mark.parametrize("name", NAMES)
def test_a_target_in_double_precision_keeps_it(name: str) -> None:
    def raised(x: Tensor) -> Tensor:
        return gaussian(x.double()) + 1e8

    def run(target: sampling.LogDensity) -> Tensor:
        position = torch.randn(300, 2, generator=torch.Generator().manual_seed(1))
        generator = torch.Generator().manual_seed(2)
        chains = sampling.sample_chains(
            target, position, sampling.KERNELS[name](), steps=20, warmup=30, generator=generator
        )
        assert chains.position.dtype == torch.float32
        return chains.position

    # A constant changes no difference of log-densities, hence no chain, up to the rounding of 1e8 in double precision.
    assert torch.allclose(run(raised), run(lambda x: gaussian(x.double())), atol=1e-3)


def test_it_is_said_when_rounding_hides_differences(generator: torch.Generator) -> None:
    with pytest.warns(UserWarning, match="float64"):
        sampling.sample_chains(lambda x: gaussian(x) + 1e8, torch.zeros(3, 2), MALA(), steps=2, generator=generator)


@pytest.mark.parametrize(
    ("word", "change"),
    [
        ("ndarray", {"position": torch.zeros(2, 2).numpy()}),
        ("KERNELS", {"kernel": "hmc"}),
        ("KERNELS", {"kernel": MALA}),
        ("thinning", {"thinning": 0}),
    ],
)
def test_what_is_no_chain_and_no_kernel_is_named(
    word: str, change: dict[str, object], generator: torch.Generator
) -> None:
    given = {"position": torch.zeros(2, 2), "kernel": MALA(), "steps": 2, "generator": generator, **change}
    with pytest.raises(ValueError, match=word):
        sampling.sample_chains(gaussian, **given)  # type: ignore[arg-type]


def test_moves_out_of_the_support_are_no_divergences(generator: torch.Generator) -> None:
    def half(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] > 0, gaussian(x), -torch.inf)

    refused = 0

    def observe(_step: int, _state: sampling.ChainState, info: sampling.StepInfo) -> None:
        nonlocal refused
        assert info.outside is not None
        refused += int(info.outside.sum())

    chains = sampling.sample_chains(half, torch.ones(64, 2), MALA(1.0), steps=30, generator=generator, observer=observe)
    assert refused > 64
    assert not chains.diverged.any()

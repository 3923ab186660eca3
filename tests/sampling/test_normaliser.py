"""log Z by AIS and SMC: within its stated error, bracketed by forward and reverse, over 20 seeds."""

import math

import pytest
import torch
from torch import Tensor

from tests.densities import Banana, DoubleWell, GaussianGrid, IllConditioned
from vaebm import sampling
from vaebm.sampling import annealing, normaliser
from vaebm.sampling.annealing import AnnealingStage, next_beta, subdivide
from vaebm.sampling.hmc import HMC
from vaebm.sampling.langevin import Langevin

LOG_Z = 3.0
CASES = {
    "ill_conditioned": (IllConditioned(4, 20.0), 1.0),
    "double_well": (DoubleWell(2), 1.5),
    "grid": (GaussianGrid(side=2, spacing=1.0, scale=0.3), 1.2),
}


def reference(dim: int, scale: float) -> torch.distributions.Distribution:
    return torch.distributions.Independent(torch.distributions.Normal(torch.zeros(dim), torch.full((dim,), scale)), 1)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", ["smc", "ais"])
def test_twenty_seeds(method: str, case: str) -> None:
    target, scale = CASES[case]
    start = reference(target.dim, scale)
    scores = []
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        particles = 300 if method == "smc" else 100
        estimate = sampling.log_normaliser(
            lambda x: target.log_prob(x) + LOG_Z,
            start,
            method=method,
            particles=particles,
            generator=generator,  # type: ignore[arg-type]
        )
        assert estimate.lower < LOG_Z < estimate.upper
        assert 0 < estimate.stderr < 0.3
        scores.append((estimate.value - LOG_Z) / estimate.stderr)
    scores = torch.tensor(scores)
    # One in 20 beyond 4 has a chance of 1e-3; their spread is 1 within the error of 20 draws.
    assert scores.abs().max() < 4
    assert scores.square().mean() < 2.3


@pytest.mark.parametrize("method", ["smc", "ais"])
def test_exact_samples_make_the_bracket_rigorous_and_samples_are_the_target(method: str) -> None:
    target, generator = DoubleWell(2), torch.Generator().manual_seed(0)
    estimate = sampling.log_normaliser(
        target.log_prob,
        reference(2, 1.5),
        method=method,  # type: ignore[arg-type]
        particles=1000,
        generator=generator,
        samples=target.sample(1000, generator),
    )
    assert estimate.lower < 0 < estimate.upper
    assert estimate.upper - estimate.lower < 0.7
    assert estimate.position.shape == (1024, 2)
    assert 100 < estimate.ess <= 1024
    assert estimate.gradients > 50
    error = (target.variance / min(estimate.ess, 500)).sqrt()
    assert ((estimate.position.mean(dim=0)).abs() < 4 * error).all()
    assert ((estimate.position.var(dim=0) / target.variance - 1).abs() < 0.3).all()


def test_smc_gives_equally_weighted_samples_of_all_modes() -> None:
    target = GaussianGrid()
    estimate = sampling.log_normaliser(
        target.log_prob, reference(2, 2.0), particles=2000, generator=torch.Generator().manual_seed(0)
    )
    assert estimate.lower < 0 < estimate.upper
    distance, mode = torch.cdist(estimate.position, target.modes).min(dim=1)
    fraction = mode.bincount(minlength=25) / len(mode)
    assert (distance < 0.15).double().mean() > 0.97  # 98.9 % of the target
    # Descendants of one particle stay together, so the masses spread more than those of independent draws.
    assert (fraction > 0.01).all()
    assert (fraction - 1 / 25).abs().sum() / 2 < 0.15


def test_groups_outside_a_small_support_count_nothing() -> None:
    def corner(x: Tensor) -> Tensor:
        return torch.where((x > 1.5).all(dim=1), -x.square().sum(dim=1) / 2 - math.log(2 * math.pi), -torch.inf)

    tail = float(torch.special.ndtr(torch.tensor(-1.5, dtype=torch.float64)))
    estimate = sampling.log_normaliser(
        corner, reference(2, 1.0), particles=8000, generator=torch.Generator().manual_seed(0)
    )
    assert abs(estimate.value - 2 * math.log(tail)) < 4 * estimate.stderr
    assert (estimate.position > 1.5).all()


def test_a_bounded_target_counts_only_its_support() -> None:
    # The half plane of a standard Gaussian in the plane: Z = 1/2.
    def half(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] > 0, -x.square().sum(dim=1) / 2 - math.log(2 * math.pi), -torch.inf)

    estimate = sampling.log_normaliser(
        half, reference(2, 1.0), particles=1000, generator=torch.Generator().manual_seed(0)
    )
    assert abs(estimate.value - math.log(0.5)) < 4 * estimate.stderr
    assert (estimate.position[:, 0] > 0).all()


def test_next_beta_keeps_the_effective_share() -> None:
    phi = torch.randn(5000, generator=torch.Generator().manual_seed(0)) * 30
    beta = next_beta(0.2, phi)
    weights = ((beta - 0.2) * phi.double()).softmax(dim=0)
    assert float(1 / weights.square().sum()) / 5000 == pytest.approx(0.7, abs=1e-3)
    assert next_beta(0.99, phi / 100) == 1.0
    assert [stage.beta for stage in subdivide([AnnealingStage(0.4, HMC()), AnnealingStage(1.0, HMC())], 2)] == [
        0.2,
        0.4,
        0.7,
        1.0,
    ]


def gaussian(x: Tensor) -> Tensor:
    return -x.square().sum(dim=1) / 2


def far(x: Tensor) -> Tensor:
    return torch.where(x[:, 0] > 1000, gaussian(x), -torch.inf)


def test_inference_mode_does_not_matter() -> None:
    def run() -> sampling.LogNormaliser:
        return sampling.log_normaliser(
            gaussian, reference(2, 2.0), particles=100, generator=torch.Generator().manual_seed(0)
        )

    with torch.inference_mode():
        inside = run()
    assert inside[:5] == run()[:5]


def test_a_narrow_target_is_reached() -> None:
    seen: list[tuple[int, int]] = []
    estimate = sampling.log_normaliser(
        lambda x: -1e10 * x.square().sum(dim=1),
        reference(2, 2.0),
        particles=100,
        generator=torch.Generator().manual_seed(0),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert estimate.lower < math.log(math.pi / 1e10) < estimate.upper
    assert seen == sorted(seen)
    assert seen[-1] == (1000, 1000)


def test_a_path_always_advances_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < next_beta(0.0, torch.tensor([0.0, -1e300], dtype=torch.float64)) < 1e-200
    assert next_beta(0.5, torch.tensor([0.0, -1e300], dtype=torch.float64)) == math.nextafter(0.5, 1)
    monkeypatch.setattr(annealing, "MAX_STAGES", 3)
    with pytest.raises(ValueError, match="too far"):
        sampling.log_normaliser(
            lambda x: -1e10 * x.square().sum(dim=1),
            reference(2, 2.0),
            particles=100,
            generator=torch.Generator().manual_seed(0),
        )


def test_the_ends_of_a_bracket_never_cross(monkeypatch: pytest.MonkeyPatch) -> None:
    means = iter([(2.0, 0.1), (-1.0, 0.1)])
    monkeypatch.setattr(normaliser, "_mean", lambda weights, by_group: next(means))
    estimate = sampling.log_normaliser(
        gaussian, reference(2, 2.0), particles=100, generator=torch.Generator().manual_seed(0)
    )
    # Forward 2 and reverse 1, in nats, each give or take four errors of 0.1.
    assert (estimate.lower, estimate.upper) == pytest.approx((0.6, 2.4))


@pytest.mark.parametrize(
    ("word", "change"),
    [
        ("target gave shape", {"target": lambda x: -x.square().sum() / 2}),
        ("Independent", {"reference": torch.distributions.Normal(torch.zeros(2), torch.ones(2))}),
        ("support", {"target": far}),
        ("samples", {"samples": torch.randn(20, 2, generator=torch.Generator().manual_seed(0))}),
        ("Tempering", {"kernel": sampling.KERNELS["tempering"]()}),
        ("in-place", {"target": lambda x: -x.sub_(1).square().sum(dim=1) / 2}),
    ],
)
def test_mistakes_are_named(word: str, change: dict[str, object]) -> None:
    given = {"target": gaussian, "reference": reference(2, 2.0), "particles": 1000, **change}
    with pytest.raises((ValueError, RuntimeError), match=word):
        sampling.log_normaliser(**given, generator=torch.Generator().manual_seed(0))  # type: ignore[arg-type]


def test_refusals() -> None:
    generator = torch.Generator().manual_seed(0)
    target, start = Banana(), reference(2, 1.0)
    with pytest.raises(ValueError, match="method is 'is'"):
        sampling.log_normaliser(target.log_prob, start, method="is", generator=generator)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="particles is 20"):
        sampling.log_normaliser(target.log_prob, start, particles=20, generator=generator)
    with pytest.raises(ValueError, match="Langevin is unadjusted"):
        sampling.log_normaliser(target.log_prob, start, generator=generator, kernel=Langevin())
    with pytest.raises(ValueError, match="nan or infinite for"):
        sampling.log_normaliser(lambda x: x.sum(dim=1).log(), start, generator=generator)

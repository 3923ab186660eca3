"""The estimators of the energy's gradient, on Gaussians where the optimum is known.

The reference is N(0, 1), data are N(m, v), E(x) = a + b x + c x^2: at the optimum exp(-E) is the ratio of the two, so
that c = (1 / v - 1) / 2, b = -m / v, a = (log v + m^2 / v) / 2, and Z = 1.
"""

import math
from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import Tensor

from vaebm.training.estimators.contrast import INDISTINGUISHABLE, Contrast
from vaebm.training.estimators.contrastive_divergence import contrastive_divergence
from vaebm.training.estimators.density_ratio import density_ratio
from vaebm.training.estimators.importance import importance_likelihood
from vaebm.training.estimators.ratio_rounds import ratio_to_old

LEVEL = 1e-4  # of a whole test, shared among its statistics
MEAN, VARIANCE = 0.6, 0.5
OPTIMUM = torch.tensor(
    [(math.log(VARIANCE) + MEAN**2 / VARIANCE) / 2, -MEAN / VARIANCE, (1 / VARIANCE - 1) / 2], dtype=torch.float64
)


def features(x: Tensor) -> Tensor:
    return torch.stack([torch.ones_like(x), x, x.square()], 1)


def data(n: int, generator: torch.Generator) -> Tensor:
    return MEAN + math.sqrt(VARIANCE) * torch.randn(n, dtype=torch.float64, generator=generator)


def reference(n: int, generator: torch.Generator) -> Tensor:
    return torch.randn(n, dtype=torch.float64, generator=generator)


def to_optimum(positive: Tensor, negative: Tensor, x: Tensor, y: Tensor) -> Contrast:
    """Against the model so far, which is optimal up to the level that nobody knows, so that nothing else is missing."""
    old = [features(points) @ OPTIMUM + 3.7 for points in (x, y)]
    return ratio_to_old(positive, negative, *old, torch.zeros((), dtype=torch.float64))


ESTIMATORS: dict[str, tuple[Callable[[Tensor, Tensor, Tensor, Tensor], Contrast], Callable[..., Tensor]]] = {
    "contrastive_divergence": (lambda p, n, x, y: contrastive_divergence(p, n), data),
    "density_ratio": (lambda p, n, x, y: density_ratio(p, n), reference),
    "ratio_to_old": (to_optimum, data),
    "importance_likelihood": (lambda p, n, x, y: importance_likelihood(p, n), reference),
}


def gradients(name: str, theta: Tensor, batches: int, size: int, seed: int = 0) -> Tensor:
    """(batches, 3): gradients of the loss in (a, b, c), on independent batches."""
    estimator, negatives = ESTIMATORS[name]
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(batches):
        x, y = data(size, generator), negatives(size, generator)
        leaf = theta.clone().requires_grad_()
        loss = estimator(features(x) @ leaf, features(y) @ leaf, x, y).loss
        found.append(torch.autograd.grad(loss, leaf)[0])
    return torch.stack(found)


def in_errors(values: Tensor) -> Tensor:
    return values.mean(0) / (values.std(0) / math.sqrt(len(values))).clamp(min=1e-12)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_at_the_optimum_the_gradient_vanishes_in_expectation(name: str) -> None:
    # Batches so large that the bias of importance weights that are normalised by themselves, of order 1 / size, is
    # below the standard error.
    found = gradients(name, OPTIMUM, batches=60, size=4000)
    assert in_errors(found).abs().max() < stats.t.isf(LEVEL / (2 * 3), 59)


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != "contrastive_divergence"])
def test_the_loss_rises_away_from_the_optimum(name: str) -> None:
    # Contrastive divergence's negatives would move with the energy: its loss means nothing, only its gradient does.
    for direction in torch.eye(3, dtype=torch.float64)[1:]:
        for sign in (-1.0, 1.0):
            found = gradients(name, OPTIMUM + 0.2 * sign * direction, batches=40, size=1000) @ (sign * direction)
            assert in_errors(found[:, None]).item() > 5


def test_the_density_ratios_optimum_is_normalised() -> None:
    generator = torch.Generator().manual_seed(1)
    weights = torch.exp(-features(reference(100_000, generator)) @ OPTIMUM)
    assert abs(in_errors(weights[:, None] - 1).item()) < stats.norm.isf(LEVEL / 2)
    # And it alone of the estimators fixes the constant.
    shifted = OPTIMUM + torch.tensor([0.2, 0.0, 0.0], dtype=torch.float64)
    assert in_errors(gradients("density_ratio", shifted, 40, 1000))[0] > 5


def test_where_data_and_samples_are_one_the_logistic_loss_is_log_four() -> None:
    zero = torch.zeros(10)
    assert float(density_ratio(zero, zero).loss) == pytest.approx(INDISTINGUISHABLE)
    shifted = ratio_to_old(zero + 5, zero + 5, zero, zero, torch.zeros(()))
    assert float(shifted.loss) == pytest.approx(INDISTINGUISHABLE)


def test_the_gap_is_how_much_more_energy_samples_have() -> None:
    positive, negative = torch.tensor([1.0, 2.0]), torch.tensor([4.0, 5.0, 9.0])
    for contrast in (
        contrastive_divergence(positive, negative),
        density_ratio(positive, negative),
        ratio_to_old(positive, negative, positive, negative, torch.zeros(())),
        importance_likelihood(positive, negative),
    ):
        assert float(contrast.gap) == pytest.approx(4.5)
        assert not contrast.gap.requires_grad


# The ratio to the old model


def energies(seed: int = 0, positives: int = 7, negatives: int = 7) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, dtype=torch.float64, generator=generator) for n in (positives, negatives)]


@pytest.mark.parametrize("counts", [(7, 7), (4, 9)])
def test_at_the_old_energy_its_gradient_is_half_of_contrastive_divergences(counts: tuple[int, int]) -> None:
    positive, negative = (e.requires_grad_() for e in energies(0, *counts))
    whole = torch.autograd.grad(contrastive_divergence(positive, negative).loss, (positive, negative))
    ratio = ratio_to_old(positive, negative, positive.detach() + 2.0, negative.detach() + 2.0, torch.zeros(()))
    half = torch.autograd.grad(ratio.loss, (positive, negative))
    for a, b in zip(half, whole, strict=True):
        torch.testing.assert_close(a, b / 2)


def test_a_level_of_the_energies_is_not_seen() -> None:
    """A large net loses its level within a few steps, and the loss with it, if the loss sees it."""
    (positive, negative), old, constant = energies(), energies(1), torch.tensor(0.3, dtype=torch.float64)
    loss = ratio_to_old(positive, negative, *old, constant).loss
    torch.testing.assert_close(ratio_to_old(positive + 9, negative + 9, *old, constant).loss, loss)
    torch.testing.assert_close(ratio_to_old(positive, negative, old[0] - 5, old[1] - 5, constant).loss, loss)


def test_its_gradient_is_its_slope() -> None:
    old = energies(1)
    leaves = [e.requires_grad_() for e in (*energies(), torch.tensor(0.4, dtype=torch.float64))]
    assert torch.autograd.gradcheck(lambda p, n, c: ratio_to_old(p, n, *old, c).loss, leaves)


def test_away_from_the_old_model_its_optimum_is_the_ratio() -> None:
    """Data N(MEAN, VARIANCE), old model N(0, 1) with E_old = 0: the optimum is OPTIMUM, and log Z = 0.

    The level of the batch alone, without the constant, would find another: there, the gradient at OPTIMUM is not 0.
    """
    levels = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    y = torch.distributions.Normal(0.0, 1.0).icdf(levels)  # equally likely points: expectations, not draws
    x, zero = MEAN + math.sqrt(VARIANCE) * y, torch.zeros(4000, dtype=torch.float64)
    slopes = torch.tensor([0.0, 0.0], dtype=torch.float64, requires_grad=True)  # (b, c) of the energy, without a
    constant = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([slopes, constant], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = ratio_to_old(features(x)[:, 1:] @ slopes, features(y)[:, 1:] @ slopes, zero, zero, constant).loss
        loss.backward()
        return loss

    optimizer.step(closure)
    assert torch.allclose(slopes.detach(), OPTIMUM[1:], atol=5e-3)
    logits = [-(features(points)[:, 1:] @ slopes).detach() for points in (x, y)]
    level = 0.5 * float(logits[0].mean() + logits[1].mean()) + float(constant.detach())
    assert level == pytest.approx(float(OPTIMUM[0]), abs=5e-3)
    assert abs(float(constant.detach())) > 0.02  # what the level alone would have missed


# The importance-weighted likelihood


@pytest.mark.parametrize("theta", [(0.0, -0.5, 0.2), (3.0, -1.2, 0.5), (0.0, 0.3, -0.1)])
def test_it_is_the_gain_of_log_likelihood(theta: tuple[float, float, float]) -> None:
    """Closed form: E_data[log h - log reference] = -E_data[E] - log Z, Z = exp(b^2 / (4 c + 2) - a) / sqrt(1 + 2 c)."""
    a, b, c = theta
    log_z = b**2 / (2 * (1 + 2 * c)) - a - math.log(1 + 2 * c) / 2
    gain = -(a + b * MEAN + c * (VARIANCE + MEAN**2)) - log_z
    generator = torch.Generator().manual_seed(2)
    coefficients = torch.tensor(theta, dtype=torch.float64)
    losses = torch.stack(
        [
            importance_likelihood(
                features(data(5000, generator)) @ coefficients, features(reference(5000, generator)) @ coefficients
            ).loss
            for _ in range(60)
        ]
    )
    error = float(losses.std()) / math.sqrt(60)
    assert abs(float(losses.mean()) + gain) < stats.t.isf(LEVEL / 2, 59) * error


def test_it_does_not_see_a_constant_nor_overflow() -> None:
    positive, negative = energies()
    loss = importance_likelihood(positive, negative).loss
    torch.testing.assert_close(importance_likelihood(positive + 1e4, negative + 1e4).loss, loss, rtol=1e-6, atol=1e-6)
    assert importance_likelihood(positive.float() + 1e5, negative.float() - 1e5).loss.isfinite()

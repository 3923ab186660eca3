"""The gain on the validation split, in closed form on Gaussians, and the weights that are kept for it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from vaebm.data import Split
from vaebm.energy import DataEnergy, TotalEnergy
from vaebm.experiment.recipe import Recipe, load_recipe, validate
from vaebm.experiment.train import build_model
from vaebm.progress import silent
from vaebm.training.engine import Engine
from vaebm.training.estimators.base import Estimator
from vaebm.training.estimators.validation import Validation
from vaebm.training.optimizer import ExponentialAverage
from vaebm.training.stage import Training
from vaebm.training.vae import VAEStage, VAEStageSettings
from vaebm.vae.objectives.elbo import elbo

VARIANCE = 0.5  # of validation data about 0, in each of two coordinates


class Quadratic(DataEnergy):
    """a |x|^2 / 2 + 5: the constant is nothing to the gain."""

    def __init__(self, a: float) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a))

    def of_x(self, x: Tensor) -> Tensor:
        return 0.5 * self.a * x.square().sum(1) + 5.0


def recipe(**phase: object) -> Recipe:
    return validate(
        {
            "data": {"kind": "gaussians", "side": 2, "train_size": 100, "test_size": 100, "validation": 50},
            "vae": {"kind": "mlp", "latent_dim": 2, "hidden": [4], "likelihood": {"kind": "gaussian"}},
            "energy": {"image": {"kind": "mlp", "hidden": [4]}},
            "energy_stage": {
                "batch_size": 16,
                "phases": {"ratio": {"kind": "density_ratio", "iterations": 6, **phase}},
            },
        },
        "test",
    )


def work(engine: Engine, validation: Split | None) -> Training:
    model = build_model(recipe(), recipe().data.load(), torch.device("cpu"))
    return Training(model, recipe().data.load().train, engine, silent(), 0, validation)


def standard_base(training: Training) -> float:
    """Makes the decoder's density one Gaussian about 0, and returns its variance."""
    with torch.no_grad():
        for parameter in training.model.vae.parameters():
            parameter.zero_()
    likelihood = training.model.vae.decode(torch.zeros(1, 2))
    return float(likelihood.gaussian.scale.square().flatten()[0].detach())


@pytest.mark.parametrize("a", [0.0, 0.6, -0.3])
def test_the_gain_is_the_closed_form(engine: Engine, a: float) -> None:
    generator = torch.Generator().manual_seed(0)
    training = work(engine, Split(VARIANCE**0.5 * torch.randn(2000, 2, generator=generator)))
    variance = standard_base(training)
    energy = TotalEnergy({"image": Quadratic(a)})
    figures = Validation(training, energy).measure(ExponentialAverage(energy, 0.0))
    expected = -a * VARIANCE + math.log(1 + a * variance)  # log Z = -log(1 + a v), of two coordinates
    assert figures["validation_gain"] == pytest.approx(expected, abs=0.05)
    assert 0 < figures["validation_share"] <= 1 + 1e-6


def test_the_best_weights_are_kept(engine: Engine) -> None:
    generator = torch.Generator().manual_seed(0)
    training = work(engine, Split(VARIANCE**0.5 * torch.randn(500, 2, generator=generator)))
    best = 1 / VARIANCE - 1 / standard_base(training)
    energy = TotalEnergy({"image": Quadratic(0.0)})
    validation, average = Validation(training, energy), ExponentialAverage(energy, 0.0)
    term = energy.terms["image"]
    for a in (0.0, best, best + 1.0):
        term.a.data.fill_(a)  # type: ignore[union-attr,operator]
        validation.measure(average)
    resumed = Validation(training, energy)
    resumed.best.load_state_dict(validation.best.state_dict())
    resumed.measure(average)
    for kept in (validation, resumed):
        term.a.data.fill_(9.0)  # type: ignore[union-attr,operator]
        kept.best.restore()
        assert float(term.a) == pytest.approx(best)  # type: ignore[arg-type]


def test_measurements_are_the_same_whenever_they_are_begun(engine: Engine) -> None:
    training = work(engine, recipe().data.load().validation)
    before = engine.generator.get_state()
    energy = TotalEnergy({"image": Quadratic(0.2)})
    first = Validation(training, energy).measure(ExponentialAverage(energy, 0.0))
    assert torch.equal(engine.generator.get_state(), before)  # training draws the same with it as without
    torch.randn(3, generator=engine.generator)
    assert Validation(training, energy).measure(ExponentialAverage(energy, 0.0)) == first


def phase(training: Training, **settings: object) -> Estimator:
    stage = recipe(**settings).training_settings().stages(training)[-1]
    assert isinstance(stage, Estimator)
    return stage


def test_a_phase_measures_at_intervals(engine: Engine) -> None:
    stage = phase(work(engine, recipe().data.load().validation), validate_every=2)
    stage.begin()
    measured = ["validation_gain" in stage.step(iteration) for iteration in range(6)]
    stage.end()
    assert measured == [False, True] * 3


def test_without_a_validation_split_it_says_so_once_and_runs(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    training, said = work(engine, None), []
    monkeypatch.setattr(training.progress, "say", said.append, raising=False)
    stage = phase(training, validate_every=2)
    stage.begin()
    assert not any("validation_gain" in stage.step(iteration) for iteration in range(6))
    stage.end()
    assert len(said) == 1
    assert "validation" in said[0]


def vae_stage(training: Training, **settings: object) -> VAEStage:
    return VAEStage(training, VAEStageSettings(iterations=40, batch_size=50, learning_rate=1e-2, **settings))


def bound(training: Training, split: Split) -> float:
    """As the stage measures it."""
    x, generator = split.all(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        return float(elbo(training.model.vae, x, generator).value.mean())


def test_the_vae_keeps_the_weights_with_the_best_bound(engine: Engine) -> None:
    validation = recipe().data.load().validation
    training = work(engine, validation)
    stage = vae_stage(training, validate_every=3, kl_warmup_iterations=0, ema_decay=0.0)
    stage.begin()
    measured = {}
    for iteration in range(40):
        if iteration == 30:  # from here on it is worse, and a checkpoint lies between
            for parameter in training.model.vae.parameters():
                parameter.data.add_(1.0)
            stage.load_state_dict(stage.state_dict())
        if "validation_elbo" in (figures := stage.step(iteration)):
            measured[iteration + 1] = figures["validation_elbo"]
    stage.end()
    assert list(measured) == [*range(3, 40, 3), 40]
    assert max(measured.values()) == measured[30] > measured[40] + 0.1
    assert bound(training, validation) == pytest.approx(measured[30], rel=1e-5)


def test_measuring_the_bound_changes_no_draw(engine: Engine) -> None:
    ends = []
    for every in (0, 2):
        engine.generator.manual_seed(0)
        training = work(engine, recipe().data.load().validation)
        stage = vae_stage(training, validate_every=every)
        stage.begin()
        for iteration in range(5):
            stage.step(iteration)
        ends.append([p.clone() for p in training.model.vae.parameters()])
    for one, other in zip(*ends, strict=True):
        assert torch.equal(one, other)


def test_a_vae_without_a_validation_split_says_so(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    training, said = work(engine, None), []
    monkeypatch.setattr(training.progress, "say", said.append, raising=False)
    stage = vae_stage(training, validate_every=2)
    stage.begin()
    assert "validation_elbo" not in stage.step(1)
    assert len(said) == 1
    assert "no validation split" in said[0]


def test_the_digits_choose_by_validation() -> None:
    made = load_recipe("digits")
    assert made.energy_stage.phases["ratio"].validate_every > 0
    assert made.data.validation > 0

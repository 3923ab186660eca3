"""Estimators of the energy: what all of them share.

The gradient of the log-likelihood of h(x, z) = p(x, z) exp(-E(x, z)) / Z in the energy's weights is

    d log h = E_h[dE] - E_data[dE],      data (x, z): x from the data, z ~ q(z | x)

An estimator is a stage that follows it, or a gradient with the same zero, with the VAE frozen. Most hold data against
samples (contrast.py) that come from the base or from chains (negatives.py). The terms that read codes alone and have
exact samples are learned before, from codes (latent.py).

A new estimator is a file with a settings class, a stage class, and one line: `ESTIMATORS.register(ToyEstimator)`.

The learning rate rises and falls to 0 within each phase.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from vaebm.energy import TotalEnergy
from vaebm.errors import Step
from vaebm.nn.weight_norm import initialise_from_data
from vaebm.registry import Registry, Settings
from vaebm.training.checkpoint import Tree
from vaebm.training.estimators.drift import EVERY, Drift
from vaebm.training.estimators.negatives import Pair
from vaebm.training.estimators.validation import Validation
from vaebm.training.optimizer import LearningStage, Optimizer, rise_and_fall
from vaebm.training.stage import Training

Decay = Annotated[float, Field(ge=0, lt=1)]


class PhaseDefaults(Settings):
    """What holds for every phase that does not say otherwise."""

    learning_rate: float = Field(3e-4, gt=0, description="rate of phases that do not name their own")
    batch_size: int = Field(96, ge=1, description="data points in a batch of phases that do not name their own")


class EstimatorSettings(Settings):
    """What every estimator has."""

    kind: str = Field(description="the estimator")
    batch_size: int | None = Field(None, ge=1, description="data points in a batch; null: the stage's")
    learning_rate: float | None = Field(None, gt=0, description="the highest rate; null: the stage's")
    betas: tuple[Decay, Decay] = Field((0.9, 0.99), description="decays of Adam's first and second moment")
    warmup_iterations: int = Field(
        20, ge=0, description="iterations over which the learning rate rises; then it falls to 0"
    )
    clip_norm: float = Field(5.0, gt=0, description="gradients of a larger norm are scaled down to it")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="decay of the moving average of weights; 0 for none")
    weight_decay: float = Field(
        0.0, ge=0, description="what each step takes off the weights, as a fraction of them times the learning rate"
    )
    validate_every: int = Field(
        0,
        ge=0,
        description="iterations between two measurements of the gain on the validation split, whose best weights are"
        " kept; 0: none",
    )
    spectral: float = Field(0.0, ge=0, description="weight of the sum of the layers' largest singular values")


class IteratedSettings(EstimatorSettings):
    """An estimator that runs for a number of iterations."""

    iterations: int = Field(1500, ge=1, description="steps of the optimizer")


class Estimator(LearningStage):
    """A phase of the energy's training, which learns the terms of `energy` together.

    Recipes and logs know it by `name`; what `settings` leave out `defaults` say. Settings that do not suit the model
    are refused.
    """

    settings_type: ClassVar[type[EstimatorSettings]]
    settings: Any  # of `settings_type`, with `iterations`
    validation: Validation | None = None
    drift: Drift | None = None  # where nothing in the loss tells of a rate that throws the energy about

    def __init__(
        self,
        name: str,
        training: Training,
        energy: TotalEnergy,
        settings: EstimatorSettings,
        defaults: PhaseDefaults,
    ) -> None:
        self.name, self.training, self.energy, self.settings = name, training, energy, settings
        self.batch_size = settings.batch_size or defaults.batch_size
        self.learning_rate = settings.learning_rate or defaults.learning_rate
        self.iterations = self.settings.iterations
        self.path = f"energy_stage.phases.{name}"
        self.check()

    def setting(self, step: Step) -> str:
        has_sampler = getattr(self.settings, "sampler", None) is not None
        return "sampler.step_size" if step == "step_size" and not has_sampler else super().setting(step)

    def check(self) -> None:  # most settings suit every model
        """Raises an InputError where the settings do not suit the model."""

    @abstractmethod
    def step(self, iteration: int) -> dict[str, float]: ...

    def begin(self) -> None:
        initialise_from_data(self.energy, *self.data())
        self.training.engine.synchronise(self.energy)  # each process saw a batch of its own
        self.prepare()
        if self.settings.validate_every and self.validation is None:
            self.training.progress.say(
                f"The data have no validation split, so {self.name} runs its {self.iterations:,} iterations and keeps"
                " the last weights."
            )

    def prepare(self) -> None:
        s = self.settings
        self.optimizer = Optimizer(
            self.energy,
            self.training.engine,
            self.learning_rate,
            s.betas,
            s.clip_norm,
            s.ema_decay,
            weight_decay=s.weight_decay,
        )
        self.spectral = self.spectral_norms(self.energy) if s.spectral else None
        if s.validate_every and self.training.validation is not None:
            self.validation = Validation(self.training, self.energy)

    @torch.no_grad()
    def data(self) -> Pair:
        """A batch of data (x, z), z ~ q(z | x), with the noise that the energy sees; what it does not read is None."""
        t, z = self.training, None
        x = t.batch(self.batch_size).x
        if self.energy.reads_z:
            with t.model.autocast():
                z = t.model.vae.infer(x, t.engine.generator).z
        return Pair(t.model.add_noise(x, t.engine.generator) if self.energy.reads_x else None, z)

    def learn(self, losses: Tensor | Iterable[Tensor], iteration: int) -> dict[str, float]:
        """One step on a loss, or the sum of several, and the spectral penalty; returns figures for the log."""
        before = self.drift.energies() if self.drift is not None and iteration % EVERY == 0 else None
        figures = {"loss": 0.0}

        def told() -> Iterator[Tensor]:
            for loss in [losses] if isinstance(losses, Tensor) else losses:
                figures["loss"] += float(loss.detach())
                yield loss
            if self.spectral is not None:
                penalty = self.settings.spectral * self.spectral()
                figures["loss"] += float(penalty.detach())
                yield penalty

        figures["gradient_norm"] = self.optimizer.step(told(), self.rate(iteration))
        if self.drift is not None and before is not None:
            figures |= self.drift.since(before)
        if self.validation is not None and (iteration + 1) % self.settings.validate_every == 0:
            figures |= self.validation.measure(self.optimizer.ema)
        return figures

    def end(self) -> None:
        super().end()
        if self.validation is not None:
            self.validation.best.restore()

    def take_best(self, state: Tree) -> None:
        if self.validation is not None:
            self.validation.best.load_state_dict(state["validation"])
            self.validation.best.restore()

    def state_dict(self) -> Tree:
        return {**super().state_dict(), "validation": self.validation and self.validation.best.state_dict()}

    def load_state_dict(self, state: Tree) -> None:
        super().load_state_dict(state)
        if self.validation is not None:
            self.validation.best.load_state_dict(state["validation"])

    def rate(self, iteration: int) -> float:
        """The learning rate at an iteration, as a fraction of the highest."""
        return rise_and_fall(iteration, self.iterations, self.settings.warmup_iterations)


ESTIMATORS: Registry[type[Estimator]] = Registry("estimator", lambda estimator: estimator.settings_type)
"""Estimators by the `kind` of their settings."""

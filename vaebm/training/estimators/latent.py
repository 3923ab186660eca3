"""Stage 2a: what a term on codes with exact samples learns, from codes of data; no decoder in the loop.

Which estimator learns a term is decided by the term's class: `LATENT_ESTIMATORS[FlowEnergy] = FlowMatching`. A term
without weights has nothing to learn.
"""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from vaebm.energy import LatentEnergy
from vaebm.errors import InputError
from vaebm.registry import Settings
from vaebm.training.memory import rows_of_parts
from vaebm.training.optimizer import LearningStage, Optimizer, rise_and_fall
from vaebm.training.stage import Training
from vaebm.training.vae import codes_of_data


class LatentStageSettings(Settings):
    """How the term on codes is trained."""

    iterations: int = Field(1500, ge=1, description="steps of the optimizer")
    batch_size: int = Field(256, ge=1, description="codes in a batch")
    learning_rate: float = Field(5e-4, gt=0, description="the highest rate; it falls linearly to 0")
    warmup_iterations: int = Field(20, ge=0, description="iterations over which the learning rate rises")
    clip_norm: float = Field(5.0, gt=0, description="gradients of a larger norm are scaled down to it")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="decay of the moving average of weights; 0 for none")
    codes: int = Field(200_000, ge=100, description="draws from q(z | x), made once, at most as many as needed")


class LatentEstimator(LearningStage):
    """Trains a term on codes."""

    name = "latent_energy"
    path = "energy_stage.latent"
    energy: Any  # of the class that the estimator is registered for

    def __init__(self, training: Training, settings: LatentStageSettings, energy: LatentEnergy) -> None:
        self.training, self.settings, self.energy = training, settings, energy
        self.iterations, self.batch_size = settings.iterations, settings.batch_size

    def prepare(self) -> None:
        s, engine = self.settings, self.training.engine
        self.optimizer = Optimizer(self.energy, engine, s.learning_rate, (0.9, 0.99), s.clip_norm, s.ema_decay)
        self.codes = codes_of_data(self.training, min(s.codes, self.iterations * s.batch_size), self.on_device())

    def on_device(self) -> torch.Generator:
        """A generator on the engine's device that is the same before and after a resume."""
        return torch.Generator(self.training.engine.device).manual_seed(self.training.seed)

    def step(self, iteration: int) -> dict[str, float]:
        s, t = self.settings, self.training
        n, generator = t.engine.per_process(s.batch_size), t.engine.generator
        chosen = torch.randint(len(self.codes), (n,), generator=generator, device=self.codes.device)
        figures = {"loss": 0.0}

        def losses() -> Iterator[Tensor]:
            for rows, share in rows_of_parts(n, self.parts):
                with t.model.autocast():
                    loss, said = self.loss(chosen[rows], generator)
                for name, value in {"loss": float(loss.detach()), **said}.items():
                    figures[name] = figures.get(name, 0.0) + share * value
                yield share * loss

        norm = self.optimizer.step(losses(), rise_and_fall(iteration, s.iterations, s.warmup_iterations))
        return {**figures, "gradient_norm": norm}

    @abstractmethod
    def loss(self, chosen: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The loss on the codes of these indices (B,), a scalar, and figures for the log."""


LATENT_ESTIMATORS: dict[type[LatentEnergy], type[LatentEstimator]] = {}
"""By the class of the term that they train."""


def latent_stages(training: Training, settings: LatentStageSettings) -> list[LatentEstimator]:
    """The stages of the terms on codes that have something to learn.

    Raises:
        InputError: no estimator is registered for a term that has weights.
    """
    stages = []
    for term in training.model.energy_net.terms.values():
        if isinstance(term, LatentEnergy) and any(p.requires_grad for p in term.parameters()):
            known = [kind for kind in type(term).__mro__ if kind in LATENT_ESTIMATORS]
            if not known:
                raise InputError(
                    f"no estimator learns a {type(term).__name__}: enter one in LATENT_ESTIMATORS"
                    " (vaebm/training/estimators/latent.py)"
                )
            stages.append(LATENT_ESTIMATORS[known[0]](training, settings, term))
    return stages

"""What a VAE minimises.

    class ToyObjective(Objective):        loss(vae, batch, generator, warmup) -> loss, figures
    class ToySettings(ObjectiveSettings): kind, its numbers, build
    OBJECTIVES.register(ToySettings)      and a recipe may say  vae_stage.objective: {kind: toy}

Every objective is given w(t), which rises from 0 to 1 as the stage's schedule says (`kl_zero_iterations`,
`kl_warmup_iterations`): a VAE that pays for its codes in full from the start can collapse.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from vaebm.data import Batch
from vaebm.registry import Registry, Settings
from vaebm.vae.base import VAE


class Objective(ABC):
    """The contract. It may have nets and optimizers of its own, which each process trains in `loss` on its batches."""

    sums_rows: ClassVar[bool] = False  # whether the loss of a batch is the sum of those of its rows

    @abstractmethod
    def loss(
        self, vae: VAE, batch: Batch, generator: torch.Generator, warmup: float
    ) -> tuple[Tensor, dict[str, float]]:
        """What the VAE, in training mode, minimises on a batch; `generator` is on the data's device.

        Returns:
            Nats for each data point (B,), or their mean, a scalar; and figures for the log, those of `ELBO.figures`
            among them where the objective knows them.
        """

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs of it: nested dicts and lists of tensors and plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027  # most objectives have no state
        """From a checkpoint."""


class ObjectiveSettings(Settings, ABC):
    """An objective as a recipe describes it."""

    kind: str = Field(description="the objective")

    @abstractmethod
    def build(self, vae: VAE, generator: torch.Generator) -> Objective:
        """The objective for a VAE, on its device; weights of its own are drawn from `generator`, on the CPU."""


OBJECTIVES: Registry[type[ObjectiveSettings]] = Registry("objective", default="elbo")
"""Objectives by kind; a recipe that names none means the ELBO."""

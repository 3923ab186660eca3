"""Stage 2a: the learned part of E_z, as a density ratio of codes to the mixture; no decoder in the loop.

    z+ ~ q(z | x) for data x,   z- ~ mix(z),   minimise  mean softplus(net(z+)) + mean softplus(-net(z-))

At the optimum mix(z) exp(-net(z)) is the aggregate posterior, the density that codes of real data have, as far as the
net's bound lets it; the mixture's components are then weighed anew (energy/latent.py).
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field

from vaebm.energy import MixtureEnergy
from vaebm.hybrid.contrast import INDISTINGUISHABLE, density_ratio
from vaebm.training.checkpoint import Tree
from vaebm.training.codes import codes_of_data
from vaebm.training.descent import Descent
from vaebm.training.loop import Stage, Training
from vaebm.training.schedules import rise_and_fall


class LatentStageSettings(BaseModel):
    """How the learned part of E_z is trained."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    iterations: int = Field(1500, ge=1)
    batch_size: int = Field(256, ge=1)
    learning_rate: float = Field(5e-4, gt=0)
    warmup_iterations: int = Field(20, ge=0)
    clip_norm: float = Field(5.0, gt=0)
    average: float = Field(0.99, ge=0, lt=1)
    codes: int = Field(200_000, ge=100, description="draws from q(z | x), made once, at most as many as needed")


class LatentStage(Stage):
    """Trains the correction of `model.energy_net.latent`."""

    name = "latent_energy"

    def __init__(self, training: Training, settings: LatentStageSettings, energy: MixtureEnergy) -> None:
        self.training, self.settings, self.energy = training, settings, energy
        self.iterations = settings.iterations

    def begin(self) -> None:
        s = self.settings
        self.descent = Descent(self.energy, self.training.engine, s.learning_rate, (0.9, 0.99), s.clip_norm, s.average)
        of_codes = torch.Generator(self.training.engine.device).manual_seed(self.training.seed)  # a resumed run's too
        self.codes = codes_of_data(self.training, min(s.codes, self.iterations * s.batch_size), of_codes)

    def step(self, iteration: int) -> dict[str, float]:
        s, t = self.settings, self.training
        n, generator = t.engine.share(s.batch_size), t.engine.generator
        positive = self.codes[torch.randint(len(self.codes), (n,), generator=generator, device=self.codes.device)]
        negative = self.energy.mixture.sample(n, generator)
        with t.model.autocast():
            energies = self.energy.net(torch.cat([positive, negative]))
        loss, gap = density_ratio(*energies.chunk(2))
        norm = self.descent.step(loss, rise_and_fall(iteration, s.iterations, s.warmup_iterations))
        excess = float(loss.detach()) - INDISTINGUISHABLE
        return {"loss": float(loss.detach()), "gap": float(gap), "ratio_excess": excess, "gradient_norm": norm}

    def end(self) -> None:
        self.descent.average.replace_weights()
        t = self.training
        self.energy.calibrate(len(self.codes), torch.Generator(t.engine.device).manual_seed(t.seed))
        t.engine.synchronise(t.model)

    def state_dict(self) -> Tree:
        return self.descent.state_dict()

    def load_state_dict(self, state: Tree) -> None:
        self.begin()
        self.descent.load_state_dict(state)

"""Stage 2a: the learned part of E_z, from codes of data; no decoder in the loop.

A correction (energy/latent.py) is learned as a density ratio of codes to the mixture,

    z+ ~ q(z | x) for data x,   z- ~ mix(z),   minimise  mean softplus(net(z+)) + mean softplus(-net(z-))

At the optimum mix(z) exp(-net(z)) is the aggregate posterior, the density that codes of real data have, as far as the
net's bound lets it; the mixture's components are then weighed anew.

A flow (energy/flow.py) is learned by flow matching (Lipman et al., ICLR 2023), from the mixture instead of noise,

    z1 ~ q(z | x),   k ~ pi_k N_k(z1) / mix(z1),   z0 ~ N_k,   t ~ U(0, 1),   z_t = (1 - t) z0 + t z1
    minimise  mean |v(z_t, t) - (z1 - z0)|^2 / d

At the optimum z(1) has the law of z1, whatever joins z0 to z1 as long as z0 has the law of the mixture (Tong et al.,
TMLR 2024): it has, up to the error of the fit, whose weights are means of such responsibilities. A z0 of the component
that z1 belongs to leaves v little to do: it is learned several times as fast as from noise (docs/studies/images.md).
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from vaebm.energy import FlowEnergy, LatentEnergy, MixtureEnergy
from vaebm.training.checkpoint import Tree
from vaebm.training.codes import codes_of_data
from vaebm.training.estimators.contrast import INDISTINGUISHABLE, density_ratio
from vaebm.training.loop import Stage, Training
from vaebm.training.optimizer import Optimizer
from vaebm.training.schedule import rise_and_fall

CODES_AT_ONCE = 8192


class LatentStageSettings(BaseModel):
    """How the learned part of E_z is trained."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    iterations: int = Field(1500, ge=1, description="training steps, one batch each")
    batch_size: int = Field(256, ge=1, description="codes in each step, over all processes")
    learning_rate: float = Field(5e-4, gt=0, description="at its highest; it falls linearly to 0")
    warmup_iterations: int = Field(20, ge=0, description="iterations over which the learning rate rises")
    clip_norm: float = Field(5.0, gt=0, description="largest norm of a gradient; larger ones are scaled down")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="decay of the moving average of weights; 0 for none")
    codes: int = Field(200_000, ge=100, description="draws from q(z | x), made once, at most as many as needed")


class LatentStage(Stage):
    """Trains what a term on the codes learns."""

    name = "latent_energy"

    def __init__(self, training: Training, settings: LatentStageSettings, energy: LatentEnergy) -> None:
        self.training, self.settings, self.energy = training, settings, energy
        self.iterations = settings.iterations

    def begin(self) -> None:
        s = self.settings
        self.optimizer = Optimizer(
            self.energy, self.training.engine, s.learning_rate, (0.9, 0.99), s.clip_norm, s.ema_decay
        )
        of_codes = torch.Generator(self.training.engine.device).manual_seed(self.training.seed)  # a resumed run's too
        self.codes = codes_of_data(self.training, min(s.codes, self.iterations * s.batch_size), of_codes)

    def step(self, iteration: int) -> dict[str, float]:
        s, t = self.settings, self.training
        n, generator = t.engine.share(s.batch_size), t.engine.generator
        chosen = torch.randint(len(self.codes), (n,), generator=generator, device=self.codes.device)
        with t.model.autocast():
            loss, figures = self._loss(chosen, generator)
        norm = self.optimizer.step(loss, rise_and_fall(iteration, s.iterations, s.warmup_iterations))
        return {"loss": float(loss.detach()), **figures, "gradient_norm": norm}

    @abstractmethod
    def _loss(self, chosen: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The loss on these codes, a scalar, and figures for the log."""

    def end(self) -> None:
        self.optimizer.average.replace_weights()

    def state_dict(self) -> Tree:
        return self.optimizer.state_dict()

    def load_state_dict(self, state: Tree) -> None:
        self.begin()
        self.optimizer.load_state_dict(state)


class CorrectionStage(LatentStage):
    """Trains the net of a correction."""

    energy: MixtureEnergy

    def _loss(self, chosen: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        negative = self.energy.mixture.sample(len(chosen), generator)
        loss, gap = density_ratio(*self.energy.net(torch.cat([self.codes[chosen], negative])).chunk(2))
        return loss, {"gap": float(gap), "ratio_excess": float(loss.detach()) - INDISTINGUISHABLE}

    def end(self) -> None:
        super().end()
        t = self.training
        self.energy.calibrate(len(self.codes), torch.Generator(t.engine.device).manual_seed(t.seed))
        t.engine.synchronise(t.model)


class FlowStage(LatentStage):
    """Trains the velocity of a flow."""

    energy: FlowEnergy

    def begin(self) -> None:
        super().begin()
        of_components = torch.Generator(self.codes.device).manual_seed(self.training.seed)
        self.components = torch.cat(
            [
                torch.multinomial(self.energy.mixture.log_joint(part).softmax(1), 1, generator=of_components)
                for part in self.codes.split(CODES_AT_ONCE)
            ]
        ).squeeze(1)

    def _loss(self, chosen: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        z1, z0 = self.codes[chosen], self.energy.mixture.sample_of(self.components[chosen], generator)
        t = torch.rand(len(chosen), generator=generator, device=z1.device)
        z_t = torch.lerp(z0, z1, t[:, None])
        return (self.energy.velocity(z_t, t) - (z1 - z0)).square().mean(), {}


def latent_stages(training: Training, settings: LatentStageSettings) -> list[LatentStage]:
    """The stages of the terms on codes that have something to learn."""
    stages: list[LatentStage] = []
    for term in training.model.energy_net.terms.values():
        if isinstance(term, FlowEnergy):
            stages.append(FlowStage(training, settings, term))
        elif isinstance(term, MixtureEnergy) and term.correction is not None:
            stages.append(CorrectionStage(training, settings, term))
    return stages

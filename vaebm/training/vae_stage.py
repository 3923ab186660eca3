"""Stage 1: the VAE maximises its ELBO; then the mixture is fitted to its codes.

    L = -( E_q[log p(x | z)] - w(t) KL ) / D     per value of x, so that clipping and rates mean the same for any size
    w(t) = 0 for a while, then linearly up to `kl_weight`

A VAE whose KL weight is 1 from the start can collapse: it becomes the best single Gaussian and never uses its codes.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from vaebm.training.checkpoint import Tree
from vaebm.training.descent import Descent
from vaebm.training.loop import Stage, Training
from vaebm.training.schedules import ramp, rise_and_fall
from vaebm.vae import CodeMixtureSettings, elbo, fit_code_mixture


class VAEStageSettings(BaseModel):
    """How the VAE is trained."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    iterations: int = Field(4000, ge=1)
    batch_size: int = Field(128, ge=1)
    learning_rate: float = Field(1e-3, gt=0, description="of Adam, at its highest; it falls linearly to 0")
    warmup_iterations: int = Field(100, ge=0, description="iterations over which the learning rate rises")
    kl_weight: float = Field(1.0, ge=0, description="1 for the ELBO")
    kl_zero_iterations: int = Field(0, ge=0, description="iterations with KL weight 0")
    kl_warmup_iterations: int = Field(500, ge=0, description="iterations over which the KL weight then rises")
    clip_norm: float = Field(5.0, gt=0)
    average: float = Field(0.999, ge=0, lt=1, description="decay of the moving average of weights; 0 for none")


class VAEStage(Stage):
    """Trains `model.vae`, then sets `model.mixture`."""

    name = "vae"

    def __init__(self, training: Training, settings: VAEStageSettings, mixture: CodeMixtureSettings) -> None:
        self.training, self.settings, self.mixture = training, settings, mixture
        self.iterations = settings.iterations
        self._values = torch.Size(training.model.data_shape).numel()

    def begin(self) -> None:
        s = self.settings
        self.descent = Descent(
            self.training.model.vae, self.training.engine, s.learning_rate, (0.9, 0.999), s.clip_norm, s.average
        )

    def step(self, iteration: int) -> dict[str, float]:
        s, t = self.settings, self.training
        kl_weight = s.kl_weight * ramp(iteration, s.kl_zero_iterations, s.kl_warmup_iterations)
        x = t.batch(s.batch_size)
        with t.model.autocast():
            bound = elbo(t.model.vae, x, t.engine.generator, kl_weight)
        loss = -bound.value.mean() / self._values
        norm = self.descent.step(loss, rise_and_fall(iteration, s.iterations, s.warmup_iterations))
        kl = {f"kl_{group}": float(value.detach().mean()) for group, value in bound.kl.items()}
        log_likelihood = float(bound.log_likelihood.detach().mean())
        return {
            "loss": float(loss.detach()),
            "elbo": log_likelihood - sum(kl.values()),
            "log_likelihood": log_likelihood,
            **kl,
            "kl_weight": kl_weight,
            "gradient_norm": norm,
        }

    def end(self) -> None:
        self.descent.average.replace_weights()
        t = self.training
        t.model.set_mixture(fit_code_mixture(self._codes(), self.mixture, t.seed).to(t.engine.device))
        t.engine.synchronise(t.model)

    def state_dict(self) -> Tree:
        return self.descent.state_dict()

    def load_state_dict(self, state: Tree) -> None:
        self.begin()
        self.descent.load_state_dict(state)

    @torch.no_grad()
    def _codes(self) -> Tensor:
        t = self.training
        rows, generator = len(t.data), t.engine.generator
        order = torch.randperm(rows, generator=generator, device=t.engine.device)
        order = order.repeat(-(-self.mixture.codes // rows))[: self.mixture.codes]  # small sets: several draws a point
        with t.model.autocast():
            return torch.cat([t.model.vae.infer(t.data.batch(part), generator).z for part in order.split(512)])

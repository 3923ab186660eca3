"""Stage 1: the VAE maximises its ELBO; then the mixture is fitted to its codes.

    L = -( E_q[log p(x | z)] - w(t) KL ) / D     per value of x, so that clipping and rates mean the same for any size
    w(t) = 0 for a while, then linearly up to `kl_weight`; while it rises, groups are balanced (vae/elbo.py)
    + spectral / D * sum over normalised layers of the largest singular value       (Vahdat & Kautz 2020, Section 3.2)

Normalised layers start from the first batch; statistics of batch normalisation are estimated anew for the averaged
weights at the end.

A VAE whose KL weight is 1 from the start can collapse: it becomes the best single Gaussian and never uses its codes.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field

from vaebm.nn.batch_norm import recalibrate
from vaebm.nn.spectral import SpectralNorms
from vaebm.nn.weight_norm import initialising_from_data, weight_norm_layers
from vaebm.training.checkpoint import Tree
from vaebm.training.codes import set_code_mixture
from vaebm.training.loop import Stage, Training
from vaebm.training.optimizer import Optimizer, OptimizerKind
from vaebm.training.schedule import ramp, rise_and_fall
from vaebm.vae import elbo

RECALIBRATION_BATCHES = 50


class VAEStageSettings(BaseModel):
    """How the VAE is trained."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    iterations: int = Field(4000, ge=1, description="training steps, one batch each")
    batch_size: int = Field(128, ge=1, description="data points in each step, over all processes")
    optimizer: OptimizerKind = Field("adam", description="Adam, or Adamax as for the published NVAE")
    learning_rate: float = Field(1e-3, gt=0, description="at its highest; it falls linearly to 0")
    warmup_iterations: int = Field(100, ge=0, description="iterations over which the learning rate rises")
    kl_weight: float = Field(1.0, ge=0, description="1 for the ELBO")
    kl_zero_iterations: int = Field(0, ge=0, description="iterations with KL weight 0")
    kl_warmup_iterations: int = Field(500, ge=0, description="iterations over which the KL weight then rises")
    kl_balancing: bool = Field(True, description="between groups of latents, while the KL weight rises")
    spectral: float = Field(0.0, ge=0, description="weight of the sum of the layers' largest singular values, in nats")
    clip_norm: float = Field(5.0, gt=0, description="largest norm of a gradient; larger ones are scaled down")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="decay of the moving average of weights; 0 for none")


class VAEStage(Stage):
    """Trains `model.vae`, then sets `model.mixture`."""

    name = "vae"

    def __init__(self, training: Training, settings: VAEStageSettings) -> None:
        self.training, self.settings = training, settings
        self.iterations = settings.iterations
        self._values = torch.Size(training.model.data_shape).numel()

    def begin(self) -> None:
        t, vae = self.training, self.training.model.vae
        if weight_norm_layers(vae):
            with initialising_from_data(vae):
                self._reconstruct()
            t.engine.synchronise(vae)  # each process saw a batch of its own
        self._prepare()

    def _prepare(self) -> None:
        s, t = self.settings, self.training
        vae = t.model.vae.train()
        self.optimizer = Optimizer(vae, t.engine, s.learning_rate, (0.9, 0.999), s.clip_norm, s.ema_decay, s.optimizer)
        seed = torch.Generator().manual_seed(t.seed)
        self.spectral = SpectralNorms(vae, seed).to(t.engine.device) if s.spectral else None

    def step(self, iteration: int) -> dict[str, float]:
        s, t = self.settings, self.training
        risen = ramp(iteration, s.kl_zero_iterations, s.kl_warmup_iterations)
        kl_weight = s.kl_weight * risen
        x = t.batch(s.batch_size).x
        with t.model.autocast():
            bound = elbo(t.model.vae, x, t.engine.generator, kl_weight, balanced=s.kl_balancing and risen < 1.0)
        loss = -bound.value.mean() / self._values
        if self.spectral is not None:
            loss = loss + s.spectral / self._values * self.spectral()
        norm = self.optimizer.step(loss, rise_and_fall(iteration, s.iterations, s.warmup_iterations))
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
        self.optimizer.average.replace_weights()
        t = self.training
        with t.model.autocast():
            recalibrate(t.model.vae, self._reconstruct, RECALIBRATION_BATCHES)
        t.model.vae.eval()
        t.engine.synchronise(t.model)  # the statistics too
        set_code_mixture(t)

    def state_dict(self) -> Tree:
        spectral = {} if self.spectral is None else self.spectral.state_dict()
        return {"descent": self.optimizer.state_dict(), "spectral": spectral}

    def load_state_dict(self, state: Tree) -> None:
        self._prepare()
        self.optimizer.load_state_dict(state["descent"])
        if self.spectral is not None:
            self.spectral.load_state_dict(state["spectral"])

    def _reconstruct(self) -> object:
        t = self.training
        return t.model.vae.reconstruct(t.batch(self.settings.batch_size).x, t.engine.generator)

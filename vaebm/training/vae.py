"""Stage 1: the VAE minimises its objective; then the mixture is fitted to its codes.

    L = objective(w(t)) / D     per value of x, so that clipping and rates mean the same for any size
        + spectral / D * sum over normalised layers of the largest singular value
    w(t) = 0 for a while, then linearly up to 1

The spectral term is that of Vahdat & Kautz, NVAE, NeurIPS 2020, Section 3.2, https://arxiv.org/abs/2007.03898.
Normalised layers start from the first batch; statistics of batch normalisation are estimated anew for the averaged
weights at the end.

A VAE whose KL weight is 1 from the start can collapse: it becomes the best single Gaussian and never uses its codes.

A few hundred images are learned by heart: the bound of held-out ones falls while that of the training images still
rises. With `validate_every` the bound is measured on the validation split, each time with the same draws, and the
averaged weights at which it was highest are the VAE.

Of a VAE trained elsewhere (vae/external.py) its likelihood is fitted to data instead:

    maximise  mean log p(x | z),   z ~ q(z | x),   over the scale and the adapter alone
"""

from collections.abc import Iterator
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from vaebm.data import Batch, Split
from vaebm.nn.batch_norm import recalibrate
from vaebm.nn.weight_norm import initialising_from_data, weight_norm_layers
from vaebm.registry import Settings
from vaebm.training.best_weights import BestWeights
from vaebm.training.checkpoint import Tree
from vaebm.training.memory import rows_of_parts
from vaebm.training.optimizer import LearningStage, Optimizer, OptimizerKind, ramp, rise_and_fall
from vaebm.training.stage import Training
from vaebm.vae import fit_code_mixture
from vaebm.vae.external import ExternalVAE
from vaebm.vae.objectives import OBJECTIVES, ELBOSettings, ObjectiveSettings
from vaebm.vae.objectives.elbo import elbo

ROWS_AT_ONCE = 512
VALIDATED = 2000  # points of the validation split, at most


def set_code_mixture(training: Training) -> None:
    """Fits the mixture to codes of data, and gives it to the model and to the terms that are built on it."""
    model, engine = training.model, training.engine
    settings = model.settings.code_mixture
    codes = codes_of_data(training, settings.codes, engine.generator)
    mixture = fit_code_mixture(codes, settings, training.seed, training.progress)
    model.set_mixture(mixture.to(engine.device))
    engine.synchronise(model)


@torch.no_grad()
def codes_of_data(training: Training, n: int, generator: torch.Generator) -> Tensor:
    """(n, code_dim): codes of randomly chosen data; each point is taken equally often, several times in a small set."""
    model, data = training.model, training.data
    order = torch.randperm(len(data), generator=generator, device=generator.device)
    order = order.repeat(-(-n // len(data)))[:n]
    codes = []
    with training.progress.task("codes of data", n, "codes") as task, model.frozen(), model.autocast():
        for part in order.split(ROWS_AT_ONCE):
            codes.append(model.vae.infer(data.batch(part, generator).x, generator).z[:, : model.vae.code_dim])
            task.advance(len(part))
    return torch.cat(codes)


RECALIBRATION_BATCHES = 50


class VAEStageSettings(Settings):
    """How the VAE is trained."""

    iterations: int = Field(4000, ge=1, description="steps of the optimizer")
    batch_size: int = Field(128, ge=1, description="data points in a batch")
    optimizer: OptimizerKind = Field("adam", description="Adam, or Adamax as published for the NVAE")
    learning_rate: float = Field(1e-3, gt=0, description="the highest rate; it falls linearly to 0")
    warmup_iterations: int = Field(100, ge=0, description="iterations over which the learning rate rises")
    objective: Annotated[ObjectiveSettings, OBJECTIVES] = Field(ELBOSettings(), description="what the VAE minimises")
    kl_zero_iterations: int = Field(0, ge=0, description="iterations with KL weight 0")
    kl_warmup_iterations: int = Field(500, ge=0, description="iterations over which the KL weight then rises")
    spectral: float = Field(0.0, ge=0, description="weight of the sum of the layers' largest singular values, in nats")
    clip_norm: float = Field(5.0, gt=0, description="gradients of a larger norm are scaled down to it")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="decay of the moving average of weights; 0 for none")
    validate_every: int = Field(
        0,
        ge=0,
        description="iterations between two measurements of the bound on the validation split, whose best weights are"
        " kept; 0: none",
    )


class VAEStage(LearningStage):
    """Trains `model.vae`, then sets `model.mixture`."""

    name = "vae"
    path = "vae_stage"

    def __init__(self, training: Training, settings: VAEStageSettings) -> None:
        self.training, self.settings = training, settings
        self.iterations, self.batch_size = settings.iterations, settings.batch_size
        self._values = torch.Size(training.model.data_shape).numel()

    def begin(self) -> None:
        t, vae = self.training, self.training.model.vae
        if self.settings.validate_every and t.validation is None:
            t.progress.say(
                f"The data have no validation split, so the VAE trains for {self.iterations:,} iterations and keeps the"
                " last weights."
            )
        if weight_norm_layers(vae):
            with initialising_from_data(vae):
                self._reconstruct()
            t.engine.synchronise(vae)  # each process saw a batch of its own
        self.prepare()

    def prepare(self) -> None:
        s, engine = self.settings, self.training.engine
        vae = self.training.model.vae.train()
        self.optimizer = Optimizer(vae, engine, s.learning_rate, (0.9, 0.999), s.clip_norm, s.ema_decay, s.optimizer)
        self.objective = s.objective.build(vae, self.generator())
        self.best = BestWeights(vae)
        self.spectral = self.spectral_norms(vae) if s.spectral else None

    def step(self, iteration: int) -> dict[str, float]:
        s, t = self.settings, self.training
        warmup = ramp(iteration, s.kl_zero_iterations, s.kl_warmup_iterations)
        batch = t.batch(s.batch_size)
        figures = {"loss": 0.0}

        def losses() -> Iterator[Tensor]:
            for rows, share in rows_of_parts(len(batch.x), self.parts):
                part = Batch(batch.x[rows], None if batch.y is None else batch.y[rows])
                with t.model.autocast():
                    nats, said = self.objective.loss(t.model.vae, part, t.engine.generator, warmup)
                loss = share * nats.mean() / self._values
                if self.spectral is not None and rows.start == 0:
                    loss = loss + s.spectral / self._values * self.spectral()
                figures["loss"] += float(loss.detach())
                figures.update({name: figures.get(name, 0.0) + share * value for name, value in said.items()})
                yield loss

        norm = self.optimizer.step(losses(), rise_and_fall(iteration, s.iterations, s.warmup_iterations))
        figures["gradient_norm"] = norm
        last = iteration + 1 == self.iterations
        if s.validate_every and t.validation is not None and (last or (iteration + 1) % s.validate_every == 0):
            figures["validation_elbo"] = self._validate(t.validation)
        return figures

    @torch.no_grad()
    def _validate(self, split: Split) -> float:
        """Mean bound of the averaged weights on the split, in nats; they are kept if it is the highest."""
        model, device = self.training.model, self.training.engine.device
        generator = torch.Generator(device).manual_seed(self.training.seed)
        parts = torch.arange(min(len(split), VALIDATED), device=device).split(ROWS_AT_ONCE)
        with self.optimizer.ema.in_place(), model.autocast():
            model.vae.eval()
            bounds = [elbo(model.vae, split.batch(rows, generator).x, generator).value for rows in parts]
            model.vae.train()
            bound = float(torch.cat(bounds).mean())
            self.best.offer(bound)
        return bound

    def halve(self) -> bool:
        return self.objective.sums_rows and super().halve()

    def end(self) -> None:
        super().end()
        self.best.restore()
        t = self.training
        with t.model.autocast():
            recalibrate(t.model.vae, self._reconstruct, RECALIBRATION_BATCHES)
        t.model.vae.eval()
        t.engine.synchronise(t.model)  # the statistics too
        set_code_mixture(t)

    def take_best(self, state: Tree) -> None:
        self.best.load_state_dict(state["best"])
        self.best.restore()

    def state_dict(self) -> Tree:
        return {**super().state_dict(), "objective": self.objective.state_dict(), "best": self.best.state_dict()}

    def load_state_dict(self, state: Tree) -> None:
        super().load_state_dict(state)
        self.objective.load_state_dict(state["objective"])
        self.best.load_state_dict(state["best"])

    def _reconstruct(self) -> object:
        t = self.training
        return t.model.vae.reconstruct(t.batch(self.settings.batch_size).x, t.engine.generator)


class LikelihoodStage(LearningStage):
    """Fits `model.vae`'s likelihood, then sets `model.mixture`."""

    name = "likelihood"
    path = "vae_stage"

    def __init__(self, training: Training, settings: VAEStageSettings) -> None:
        self.training, self.settings = training, settings
        self.iterations, self.batch_size = settings.iterations, settings.batch_size
        self._values = torch.Size(training.model.data_shape).numel()

    def prepare(self) -> None:
        s, engine, fitted = self.settings, self.training.engine, nn.ParameterList(self._vae.fitted())
        self.optimizer = Optimizer(fitted, engine, s.learning_rate, (0.9, 0.999), s.clip_norm, s.ema_decay, s.optimizer)

    def step(self, iteration: int) -> dict[str, float]:
        s, t = self.settings, self.training
        x, total = t.batch(s.batch_size).x, [0.0]

        def losses() -> Iterator[Tensor]:
            for rows, share in rows_of_parts(len(x), self.parts):
                with t.model.autocast():
                    with torch.no_grad():
                        image = self._vae.image(self._vae.infer(x[rows], t.engine.generator).z)
                    log_likelihood = share * self._vae.likelihood_of(image).log_prob(x[rows]).mean()
                total[0] += float(log_likelihood.detach())
                yield -log_likelihood / self._values

        norm = self.optimizer.step(losses(), rise_and_fall(iteration, s.iterations, s.warmup_iterations))
        return {"loss": -total[0] / self._values, "log_likelihood": total[0], "gradient_norm": norm}

    def end(self) -> None:
        super().end()
        set_code_mixture(self.training)

    @property
    def _vae(self) -> ExternalVAE:
        vae: ExternalVAE = self.training.model.vae
        return vae

"""Stage 2b: E_x learns with the VAE frozen, by one or several estimators in turn.

A phase is a source of samples x- (training/estimators/negatives.py) and a contrast of their energies with the data's
(training/estimators/contrast.py), or score matching (training/estimators/score_matching.py), which needs no samples:

    density_ratio            StartSamples    logistic loss                        where to begin: cannot run away
    importance               StartSamples    log-likelihood, log Z by importance  refines where proposals cover the data
    ratio_rounds             Pool            logistic loss against the old model  goes on where proposals do not
    contrastive_divergence   ChainSamples    difference of energies               the paper's
    denoising                none            squared error of denoised images     where `energy.noise_std` adds noise

The rate rises and falls to 0 within each phase, and within each round of `ratio_rounds`: a round that ends at a high
rate leaves its noise to the next one's samples.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from vaebm.distributions.likelihood import NoisyLikelihood
from vaebm.energy import TotalEnergy
from vaebm.energy.penalties import energy_square
from vaebm.errors import InputError
from vaebm.nn.spectral import SpectralNorms
from vaebm.nn.weight_norm import initialise_from_data
from vaebm.sampling.resampling import effective_sample_size
from vaebm.training.checkpoint import Tree
from vaebm.training.estimators.contrast import (
    INDISTINGUISHABLE,
    Contrast,
    contrastive_divergence,
    density_ratio,
    importance_likelihood,
    ratio_to_old,
)
from vaebm.training.estimators.negatives import ChainSamples, Pair, Pool, StartSamples
from vaebm.training.estimators.score_matching import denoising_loss
from vaebm.training.estimators.settings import (
    ContrastiveDivergenceSettings,
    ContrastSettings,
    DenoisingSettings,
    DensityRatioSettings,
    EnergyStageSettings,
    ImportanceSettings,
    Phase,
    PhaseSettings,
    RatioRoundsSettings,
)
from vaebm.training.loop import Stage, Training
from vaebm.training.optimizer import Optimizer
from vaebm.training.schedule import rise_and_fall


class EnergyPhase(Stage):
    """What all estimators share: data as E_x sees them, one optimizer, an average of the weights."""

    phase: PhaseSettings

    def __init__(
        self, name: str, training: Training, energy: TotalEnergy, settings: Phase, stage: EnergyStageSettings
    ) -> None:
        self.name, self.training, self.energy, self.phase, self.stage = name, training, energy, settings, stage
        self.batch_size = settings.batch_size or stage.batch_size
        self.iterations = settings.iterations
        matches_scores = not isinstance(settings, ContrastSettings) or settings.denoising > 0
        if matches_scores and not (training.model.noise_std and energy.reads_x):
            raise InputError(
                f"energy_stage.phases.{name} matches scores of images with noise, but energy.noise_std is 0: set it to"
                " the noise's standard deviation, about the decoder's, or leave score matching out"
            )

    def begin(self) -> None:
        initialise_from_data(self.energy, *self.data())
        self.training.engine.synchronise(self.energy)  # each process saw a batch of its own
        self._prepare()

    def _prepare(self) -> None:
        phase = self.phase
        rate = phase.learning_rate or self.stage.learning_rate
        self.optimizer = Optimizer(
            self.energy, self.training.engine, rate, phase.betas, phase.clip_norm, phase.ema_decay
        )
        seed = torch.Generator().manual_seed(self.training.seed)
        self.spectral = SpectralNorms(self.energy, seed).to(self.training.engine.device) if phase.spectral else None

    @abstractmethod
    def step(self, iteration: int) -> dict[str, float]: ...

    @torch.no_grad()
    def data(self) -> Pair:
        """A batch of data (x, z), z ~ q(z | x), with the noise that the energy sees; what it does not read is None."""
        t, z = self.training, None
        x = t.batch(self.batch_size).x
        if self.energy.reads_z:
            with t.model.autocast():
                z = t.model.vae.infer(x, t.engine.generator).z
        return Pair(t.model.add_noise(x, t.engine.generator) if self.energy.reads_x else None, z)

    def denoising_loss(self) -> Tensor:
        """Of a batch of its own (training/estimators/score_matching.py)."""
        model, generator = self.training.model, self.training.engine.generator
        x = self.training.batch(self.batch_size).x
        with torch.no_grad():
            with model.autocast():
                z = model.vae.infer(x, generator).z
            likelihood = model.likelihood(z)
        assert isinstance(likelihood, NoisyLikelihood)  # the constructor saw that there is noise
        with model.autocast():
            return denoising_loss(self.energy, x, model.add_noise(x, generator), z, likelihood)

    def rate(self, iteration: int) -> float:
        """Share of the learning rate at an iteration of the phase."""
        return rise_and_fall(iteration, self.iterations, self.phase.warmup_iterations)

    def end(self) -> None:
        self.optimizer.average.replace_weights()

    def state_dict(self) -> Tree:
        spectral = {} if self.spectral is None else self.spectral.state_dict()
        return {"descent": self.optimizer.state_dict(), "spectral": spectral}

    def load_state_dict(self, state: Tree) -> None:
        self._prepare()
        self.optimizer.load_state_dict(state["descent"])
        if self.spectral is not None:
            self.spectral.load_state_dict(state["spectral"])


class DenoisingPhase(EnergyPhase):
    """Denoising score matching by itself."""

    def step(self, iteration: int) -> dict[str, float]:
        loss = self.denoising_loss()
        if self.spectral is not None:
            loss = loss + self.phase.spectral * self.spectral()
        norm = self.optimizer.step(loss, self.rate(iteration))
        return {"loss": float(loss.detach()), "gradient_norm": norm}


class ContrastPhase(EnergyPhase):
    """A contrast of the energies of data and of samples, and what is added to it."""

    phase: ContrastSettings

    def energies(self, positive: Pair, negative: Pair, energy: nn.Module | None = None) -> tuple[Tensor, Tensor]:
        """The energy, or another, of both in one pass."""
        with self.training.model.autocast():
            both: Tensor = (energy or self.energy)(*positive.joined(negative))
        first, second = both.split([positive.rows, negative.rows])
        return first, second

    def descend(self, contrast: Contrast, positive: Tensor, negative: Tensor, rate: float) -> dict[str, float]:
        """One step on the contrast and the penalties; returns figures."""
        loss = contrast.loss
        if self.phase.energy_square:
            loss = loss + self.phase.energy_square * energy_square(positive, negative)
        if self.spectral is not None:
            loss = loss + self.phase.spectral * self.spectral()
        figures = {"contrast": float(contrast.loss.detach()), "gap": float(contrast.gap)}
        if self.phase.denoising:
            denoising = self.denoising_loss()
            loss = loss + self.phase.denoising * math.prod(self.training.model.data_shape) * denoising
            figures["denoising"] = float(denoising.detach())
        norm = self.optimizer.step(loss, rate)
        return {"loss": float(loss.detach()), **figures, "gradient_norm": norm}


class StartPhase(ContrastPhase):
    """Density ratio, or importance-weighted likelihood, against exact samples of the start's proposal."""

    def step(self, iteration: int) -> dict[str, float]:
        data = self.data()
        negatives = StartSamples(self.training).draw(data.rows * self.phase_negatives, iteration)
        positive, negative = self.energies(data, negatives.pair)
        ratio = isinstance(self.phase, DensityRatioSettings)
        contrast = (density_ratio if ratio else importance_likelihood)(positive, negative)
        figures = self.descend(contrast, positive, negative, self.rate(iteration))
        ess = float(effective_sample_size(-negative.detach())) / negative.shape[0]
        excess = {"ratio_excess": float(contrast.loss.detach()) - INDISTINGUISHABLE} if ratio else {}
        return {**figures, **excess, "proposal_ess": ess}

    @property
    def phase_negatives(self) -> int:
        """Samples for each data point."""
        return self.phase.negatives if isinstance(self.phase, ImportanceSettings) else 1


class ContrastiveDivergencePhase(ContrastPhase):
    """The paper's estimator."""

    phase: ContrastiveDivergenceSettings

    def __init__(
        self, name: str, training: Training, energy: TotalEnergy, settings: Phase, stage: EnergyStageSettings
    ) -> None:
        super().__init__(name, training, energy, settings, stage)
        if 0 < self.phase.buffer < self.batch_size:
            raise InputError(
                f"energy_stage.phases.{name}.buffer is {self.phase.buffer}, less than a batch of {self.batch_size}:"
                " raise it, or set it to 0 for chains that start afresh"
            )

    def _prepare(self) -> None:
        super()._prepare()
        p = self.phase
        sampler = p.sampler or self.training.model.settings.sampler
        self.negatives = ChainSamples(self.training, sampler, p.buffer, p.replay_prob, p.replay_ramp_iterations)

    def step(self, iteration: int) -> dict[str, float]:
        data = self.data()
        negatives = self.negatives.draw(data.rows, iteration)
        positive, negative = self.energies(data, negatives.pair)
        figures = self.descend(contrastive_divergence(positive, negative), positive, negative, self.rate(iteration))
        return {**figures, **negatives.figures}

    def state_dict(self) -> Tree:
        return {**super().state_dict(), "negatives": self.negatives.state_dict()}

    def load_state_dict(self, state: Tree) -> None:
        super().load_state_dict(state)
        self.negatives.load_state_dict(state["negatives"])


class RatioRoundsPhase(ContrastPhase):
    """Rounds of density ratio against the model's own chains."""

    phase: RatioRoundsSettings

    def _prepare(self) -> None:
        super()._prepare()
        p = self.phase
        sampler = p.sampler or self.training.model.settings.sampler
        self.pool = Pool(self.training, p.chains, sampler, p.restart_fraction, p.restart_steps)
        self.old = self.energy.frozen_copy()
        self.chain_figures: dict[str, float] = {}

    def step(self, iteration: int) -> dict[str, float]:
        within = iteration % self.phase.iterations_per_round
        if within == 0:
            self._new_round(iteration)
        data = self.data()
        samples = self.pool.draw(data.rows)
        positive, negative = self.energies(data, samples)
        with torch.no_grad():
            old = self.energies(data, samples, self.old)
        contrast = ratio_to_old(positive, negative, *old)
        rate = rise_and_fall(within, self.phase.iterations_per_round, self.phase.warmup_iterations)
        figures = self.descend(contrast, positive, negative, rate)
        excess = float(contrast.loss.detach()) - INDISTINGUISHABLE
        return {**figures, "ratio_excess": excess, **self.chain_figures}

    def _new_round(self, iteration: int) -> None:
        if iteration:
            self.optimizer.average.replace_weights()
        self.old.load_state_dict(self.energy.state_dict())
        self.chain_figures = self.pool.equilibrate()

    def state_dict(self) -> Tree:
        more = {"old": self.old.state_dict(), "pool": self.pool.state_dict(), "chain_figures": self.chain_figures}
        return {**super().state_dict(), **more}

    def load_state_dict(self, state: Tree) -> None:
        super().load_state_dict(state)
        self.old.load_state_dict(state["old"])
        self.pool.load_state_dict(state["pool"])
        self.chain_figures = state["chain_figures"]


def build_phases(training: Training, settings: EnergyStageSettings) -> list[Stage]:
    """The phases that a recipe names, in its order; none where the base is all of the energy."""
    correction = training.model.energy_net.correction
    if not correction.terms:
        return []
    kinds: dict[type[PhaseSettings], Callable[..., EnergyPhase]] = {
        DensityRatioSettings: StartPhase,
        DenoisingSettings: DenoisingPhase,
        ImportanceSettings: StartPhase,
        RatioRoundsSettings: RatioRoundsPhase,
        ContrastiveDivergenceSettings: ContrastiveDivergencePhase,
    }
    return [
        kinds[type(phase)](name, training, correction, phase, settings)
        for name, phase in settings.phases.items()
        if phase is not None
    ]

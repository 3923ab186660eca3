"""Stage 1 of a VAE trained elsewhere: its likelihood is fitted to data, then the mixture to its codes.

maximise  mean log p(x | z),   z ~ q(z | x),   over the scale and the adapter alone (vae/external.py)
"""

import torch
from torch import nn

from vaebm.training.codes import set_code_mixture
from vaebm.training.loop import Training
from vaebm.training.optimizer import LearningStage, Optimizer
from vaebm.training.schedule import rise_and_fall
from vaebm.training.vae import VAEStageSettings
from vaebm.vae.external import ExternalVAE


class LikelihoodStage(LearningStage):
    """Fits `model.vae`'s likelihood, then sets `model.mixture`."""

    name = "likelihood"

    def __init__(self, training: Training, settings: VAEStageSettings) -> None:
        self.training, self.settings = training, settings
        self.iterations = settings.iterations
        self._values = torch.Size(training.model.data_shape).numel()

    def prepare(self) -> None:
        s, engine, fitted = self.settings, self.training.engine, nn.ParameterList(self._vae.fitted())
        self.optimizer = Optimizer(fitted, engine, s.learning_rate, (0.9, 0.999), s.clip_norm, s.ema_decay, s.optimizer)

    def step(self, iteration: int) -> dict[str, float]:
        s, t = self.settings, self.training
        x = t.batch(s.batch_size).x
        with t.model.autocast():
            with torch.no_grad():
                image = self._vae.image(self._vae.infer(x, t.engine.generator).z)
            log_likelihood = self._vae.likelihood_of(image).log_prob(x).mean()
        rate = rise_and_fall(iteration, s.iterations, s.warmup_iterations)
        norm = self.optimizer.step(-log_likelihood / self._values, rate)
        figures = {"log_likelihood": float(log_likelihood.detach()), "gradient_norm": norm}
        return {"loss": -figures["log_likelihood"] / self._values, **figures}

    def end(self) -> None:
        super().end()
        set_code_mixture(self.training)

    @property
    def _vae(self) -> ExternalVAE:
        vae: ExternalVAE = self.training.model.vae
        return vae

r"""Denoising score matching: the energy whose denoised images are the images.

    x~ = x + s n,   z ~ q(z | x)
    D(x~, z) = x~ + s^2 d/dx~ log[ N(x~; mu(z), sigma^2 + s^2) exp(-E(x~, z)) ]            Tweedie's estimate
    L = mean over values of (D(x~, z) - x)^2 / s^2

For an E that reads x~ alone, L is least where dE/dx~ takes the decoder's score, averaged over z given x~, to that of
data with noise. That is not quite the E of h: z comes from q(z | x) of the clean image, which knows more of z than x~
does, and the score of h averages over p(z | x~) instead. In one dimension, with an exact encoder, KL(data || h) at the
least L is .005 to .046 nats, where a density ratio has 0. Codes from q(z | x~) would be no remedy: the encoder takes
the noise for a part of the image. Weighed by the model they are, for codes of few dimensions (score_matching.py).

No sample of the model is needed, L is bounded below, and its root is the denoised image's error in units of s. L says
nothing about places where no data with noise lie: scores there are arbitrary, and long chains that get there do not
come back (docs/studies/images.md). A contrast with samples beside it mends that.

Vincent, A connection between score matching and denoising autoencoders, 2011, https://doi.org/10.1162/NECO_a_00142;
Saremi & Hyvarinen, Neural empirical Bayes, JMLR 2019, https://arxiv.org/abs/1903.02334
"""

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from vaebm.distributions.likelihood import NoisyLikelihood
from vaebm.energy import TotalEnergy
from vaebm.errors import InputError
from vaebm.training.estimators.base import Estimator, IteratedSettings
from vaebm.training.memory import rows_of_parts


def denoising_loss(energy: TotalEnergy, x: Tensor, noisy: Tensor, z: Tensor, likelihood: NoisyLikelihood) -> Tensor:
    """L, a scalar, of images x (B, C, H, W), of the same with noise, of z ~ q(z | x), and of p(. | z)."""
    noisy = noisy.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(energy.plain(noisy, z).sum(), noisy, create_graph=True)
    return ((likelihood.denoise(noisy.detach(), gradient) - x) / likelihood.noise).square().mean()


def batch_denoising_losses(estimator: Estimator) -> Iterator[Tensor]:
    """L of a batch that is drawn for it, as the sum over its parts."""
    model, generator = estimator.training.model, estimator.training.engine.generator
    x = estimator.training.batch(estimator.batch_size).x
    with torch.no_grad(), model.autocast():
        z = model.vae.infer(x, generator).z
    noisy = model.add_noise(x, generator)
    for rows, share in rows_of_parts(len(x), estimator.parts):
        with torch.no_grad():
            likelihood = model.likelihood(z[rows])
        assert isinstance(likelihood, NoisyLikelihood)  # `check_noise` passed
        with model.autocast():
            yield share * denoising_loss(estimator.energy, x[rows], noisy[rows], z[rows], likelihood)


def check_noise(estimator: Estimator) -> None:
    """Raises an InputError that says what to set, unless the energy reads x with noise."""
    if not (estimator.training.model.noise_std and estimator.energy.reads_x):
        raise InputError(
            f"energy_stage.phases.{estimator.name} matches scores of images with noise, but energy.noise_std is 0: set"
            " it to the noise's standard deviation, about the decoder's, or leave score matching out"
        )


class DenoisingSettings(IteratedSettings):
    """Denoising score matching at the noise of `energy.noise_std`: no samples of the model are needed."""

    kind: Literal["denoising"] = Field("denoising", description="denoising score matching")


class Denoising(Estimator):
    """Denoising score matching by itself."""

    settings_type = DenoisingSettings
    settings: DenoisingSettings

    def check(self) -> None:
        check_noise(self)

    def step(self, iteration: int) -> dict[str, float]:
        return self.learn(batch_denoising_losses(self), iteration)

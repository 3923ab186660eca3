r"""Score matching: the energy that gives the model the score of data with a little noise.

    x~ = x + s n,     h(x) = r(x) exp(-E(x)) / Z,     r the base without E:  r(x) = integral of r(z) p(x | z) over z
    L = sum over values of mean (s d/dx~ [log r(x~) - E(x~)] + n)^2

L is s^2 times the expected square of the difference of the scores of h and of data with noise, plus a constant. So its
optimum is h = data with noise, exactly, whatever r is; for smooth data that is KL(data || h) = O(s^4). Half of L above
its least value is about what h lacks, in nats, in details finer than s (de Bruijn's identity), which makes 1 a natural
weight beside a logistic contrast.

The score of r averages over p(z | x~), not over q(z | x):

    d/dx log r(x_i) = sum_j w_ij d/dx log p(x_i | z_j)
    w_ij ∝ r(z_j) p(x_i | z_j) / mean_k q(z_j | x_k),      sum_j w_ij = 1

with one z_j ~ q(z | x_j) for each point of the batch, and all of them for all points: multiple importance sampling by
the balance heuristic, consistent as the batch grows. It counts on codes of few dimensions; with many, w_ii is 1, and z
is then a draw from q(z | x~).

Scores do not tell how much mass lies in modes that are apart, nor what E is where no data are: a ratio beside it does,
and is in turn slow in what is narrow.

Vincent, A connection between score matching and denoising autoencoders, 2011, https://doi.org/10.1162/NECO_a_00142;
Veach & Guibas 1995, https://doi.org/10.1145/218380.218498; both losses together: Aggarwal, Chen, Boffi & Koes,
BoltzNCE, NeurIPS 2025, https://arxiv.org/abs/2507.00846
"""

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from vaebm.distributions.gaussian import DiagonalGaussian
from vaebm.distributions.likelihood import GaussianLikelihood
from vaebm.energy import TotalEnergy
from vaebm.errors import InputError
from vaebm.models import NoiseSpaceModel
from vaebm.registry import Settings
from vaebm.training.estimators.base import Estimator, IteratedSettings
from vaebm.training.memory import rows_of_parts


class ScoreMatchingTerm(Settings):
    """How scores are matched."""

    noise_std: float = Field(0.05, gt=0, description="s, the noise at which scores are matched, in units of x")


class WeightedScoreMatching(ScoreMatchingTerm):
    """The same beside another loss."""

    weight: float = Field(1.0, gt=0, description="of score matching beside the contrast")


def score_matching_loss(energy: TotalEnergy, x: Tensor, noise: Tensor, base_score: Tensor, noise_std: float) -> Tensor:
    """L, a scalar, of points with noise x, the noise n in them, and the score of the base, all (B, *data_shape)."""
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(energy.plain(x, None).sum(), x, create_graph=True)
    return (noise_std * (base_score - gradient) + noise).square().flatten(1).sum(1).mean()


@torch.no_grad()
def base_score(model: NoiseSpaceModel, x: Tensor, generator: torch.Generator) -> Tensor:
    """d/dx log r of the base at a batch of points (B, *data_shape), of the same shape; it errs as said above."""
    with model.autocast():
        z, _, posterior = model.vae.infer(x, generator)
        likelihood = model.likelihood(z)
    assert isinstance(likelihood, GaussianLikelihood)  # `check_scores` passed
    pixels = likelihood.gaussian
    log_prior = model.vae.log_prior(z)
    if model.energy_net.base is not None:
        log_prior = log_prior - model.energy_net.base(None, z)
    proposal = _log_densities(posterior, z).logsumexp(0)  # (B,), of z_j
    weights = torch.softmax(_log_densities(pixels, x).T + log_prior - proposal, dim=1)
    precision = pixels.scale.expand_as(pixels.mean).flatten(1).square().reciprocal()
    pull = weights @ (precision * pixels.mean.flatten(1)) - (weights @ precision) * x.flatten(1)
    return pull.reshape(x.shape)


def _log_densities(gaussians: DiagonalGaussian, points: Tensor) -> Tensor:
    """log N of each of the Gaussians (rows) at each of the points (columns), (B, B), up to a common constant."""
    mean, scale = gaussians.mean.flatten(1), gaussians.scale.expand_as(gaussians.mean).flatten(1)
    offset = (points.flatten(1)[None] - mean[:, None]) / scale[:, None]
    return -0.5 * offset.square().sum(2) - scale.log().sum(1)[:, None]


def batch_score_matching_losses(estimator: Estimator, noise_std: float) -> Iterator[Tensor]:
    """L of a batch that is drawn for it, as the sum over its parts."""
    model, generator = estimator.training.model, estimator.training.engine.generator
    x = model.add_noise(estimator.training.batch(estimator.batch_size).x, generator)
    noise = torch.randn(x.shape, generator=generator, device=x.device)
    noisy = x + noise_std * noise
    score = base_score(model, noisy, generator)
    for rows, share in rows_of_parts(len(x), estimator.parts):
        with model.autocast():
            yield share * score_matching_loss(estimator.energy, noisy[rows], noise[rows], score[rows], noise_std)


def check_scores(estimator: Estimator) -> None:
    """Raises an InputError that says what to change, unless the score of the base is known and E reads x alone."""
    vae, energy = estimator.training.model.vae, estimator.energy
    if vae.latent_dim != vae.code_dim or not vae.likelihood.takes_noise or energy.reads_z or not energy.reads_x:
        raise InputError(
            f"energy_stage.phases.{estimator.name} matches scores, which needs a VAE of one level with"
            " vae.likelihood.kind=gaussian and an energy on x alone: change those, or leave score matching out"
        )


class ScoreMatchingSettings(ScoreMatchingTerm, IteratedSettings):
    """Score matching: no samples of the model are needed."""

    kind: Literal["score_matching"] = Field("score_matching", description="denoising score matching of the model")


class ScoreMatching(Estimator):
    """Score matching by itself."""

    settings_type = ScoreMatchingSettings
    settings: ScoreMatchingSettings

    def check(self) -> None:
        check_scores(self)

    def step(self, iteration: int) -> dict[str, float]:
        return self.learn(batch_score_matching_losses(self, self.settings.noise_std), iteration)

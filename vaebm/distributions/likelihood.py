"""Decoder likelihoods p(x | z): what the numbers that a decoder puts out mean.

Values lie in [-1, 1] for images, anywhere for points. A likelihood is a module whose `forward` turns the decoder's raw
output (B, k C, ...) into a distribution over x (B, C, ...); k is `outputs_per_value`.

Gaussian            x = mu + sigma eps
censored Gaussian   x = clamp(mu + sigma eps, -1, 1)                                    (Tobin 1958)
    log p(x) = log Phi((-1 - mu) / sigma)      where x = -1: the point mass of all that would lie below
               log Phi((mu - 1) / sigma)       where x = +1
               log N(x; mu, sigma)             between
Bernoulli           P(x = 1) = (1 + tanh(raw / 2)) / 2, else x = -1
logistic mixture    M discretised logistics on `levels` steps, each value on its own    (Salimans et al. 2017, without
                    their coupling of channels)

Half of the pixels of small images are exactly black or white. A Gaussian cannot say "exactly -1" and leaves a jitter
that every feature distance sees; the censored one can, and since the clamp *is* its generator, the pull-back of an
energy to noise space stays exact. The scale is one number (`scale: global`) or the decoder's, per value, within a
factor e^4 of a learned base (`scale: pixel`): the ink of a digit varies by less than a grey level, its outline by a
hundred. Bernoulli and logistic mixture have no differentiable generator T_x(z,
eps_x): they serve a VAE and an energy on z, not an energy on x.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from vaebm.distributions.columns import Columns
from vaebm.distributions.gaussian import DiagonalGaussian, at_least_float32, log_normal_cdf, sum_over_values
from vaebm.errors import check_choice
from vaebm.registry import Settings

MIN_SCALE = 0.004  # of sigma, in units of x: half a step of 8 bits, so that no density is infinite
MAX_OFFSET = 4.0  # of log sigma from its base


class Likelihood(ABC):
    """p(x | z) for a batch of z; x is (B, C, ...)."""

    @property
    @abstractmethod
    def center(self) -> Tensor:
        """The image without pixel noise, T_x(z, 0): mean of a Gaussian, median of a censored one."""

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x | z), (B,), in nats."""

    def log_prob_parts(self, x: Tensor) -> dict[str, Tensor]:
        """Summands of log p(x | z) by name, (B,) each, where there is more than one kind of value."""
        return {}

    def densities(self, x: Tensor) -> Tensor:
        """(B,): how many values of x have a density; the others have a probability of their own."""
        return x.new_zeros(len(x))

    @abstractmethod
    def sample(self, generator: torch.Generator) -> Tensor:
        """One data point per z."""

    def transport(self, eps: Tensor) -> Tensor:
        """T_x(z, eps): the sample that noise `eps` (B, C, ...) gives; only of a head that is `reparameterised`."""
        raise TypeError(f"{type(self).__name__} has no differentiable generator T_x(z, eps)")

    def transported_log_prob(self, eps: Tensor) -> Tensor:
        """log p(T_x(z, eps) | z) before any clamp, (B,): a point mass would be flat in eps; else as `transport`."""
        raise TypeError(f"{type(self).__name__} has no differentiable generator T_x(z, eps)")

    def with_noise(self, std: float) -> "Likelihood":
        """The law of x + std n with n ~ N(0, I); for std 0 itself, beyond that only of a head that `takes_noise`."""
        if std:
            raise TypeError(f"{type(self).__name__} with noise added has no density in closed form")
        return self

    def denoise(self, x: Tensor, energy_gradient: Tensor) -> Tensor:
        """What is shown of x without its pixel noise under p(x | z) exp(-E(x)), of x and dE/dx; here the center."""
        return self.center


@dataclass(frozen=True)
class GaussianLikelihood(Likelihood):
    """N(mu, sigma^2), each value on its own."""

    gaussian: DiagonalGaussian

    @property
    def center(self) -> Tensor:
        return self.gaussian.mean

    def transport(self, eps: Tensor) -> Tensor:
        return self.gaussian.transport(eps)

    def transported_log_prob(self, eps: Tensor) -> Tensor:
        return self.gaussian.log_prob(self.gaussian.transport(eps))

    def log_prob(self, x: Tensor) -> Tensor:
        return self.gaussian.log_prob(x)

    def densities(self, x: Tensor) -> Tensor:
        return x.new_full((len(x),), float(x[0].numel()))

    def sample(self, generator: torch.Generator) -> Tensor:
        eps = torch.randn(self.center.shape, generator=generator, dtype=self.center.dtype, device=self.center.device)
        return self.transport(eps)

    def denoise(self, x: Tensor, energy_gradient: Tensor) -> Tensor:
        """mu - sigma^2 dE/dx.

        Its mean over N(x; mu, sigma) exp(-E(x)) is the mean of x there (Stein's identity). It estimates no clean image:
        sigma belongs to the model and is no noise that was added.
        """
        return self.gaussian.mean - self.gaussian.scale.square() * energy_gradient

    def with_noise(self, std: float) -> "GaussianLikelihood":
        if not std:
            return self
        scale = (self.gaussian.scale.square() + std**2).sqrt()
        return NoisyLikelihood(DiagonalGaussian(self.gaussian.mean, scale.log()), std)


@dataclass(frozen=True)
class NoisyLikelihood(GaussianLikelihood):
    """N(mu, sigma^2 + noise^2): Gaussian pixels with noise added, which the denoised image is then without."""

    noise: float

    def denoise(self, x: Tensor, energy_gradient: Tensor) -> Tensor:
        """Tweedie's estimate of the clean image:  x + noise^2 d/dx [log N(x; mu, sigma^2 + noise^2) - E(x)]."""
        score = -(x - self.gaussian.mean) / self.gaussian.scale.square() - energy_gradient
        return x + self.noise**2 * score


@dataclass(frozen=True)
class CensoredLikelihood(GaussianLikelihood):
    """clamp(N(mu, sigma^2), -1, 1): Gaussian between the ends, a point mass at each."""

    def with_noise(self, std: float) -> GaussianLikelihood:
        if std:
            raise TypeError("a clamped Gaussian with noise added has no density in closed form")
        return self

    @property
    def center(self) -> Tensor:
        return self.gaussian.mean.clamp(-1.0, 1.0)

    def transport(self, eps: Tensor) -> Tensor:
        return super().transport(eps).clamp(-1.0, 1.0)

    def log_prob(self, x: Tensor) -> Tensor:
        return sum_over_values(self._of_values(x))

    def log_prob_parts(self, x: Tensor) -> dict[str, Tensor]:
        """Of the pixels at the low end, at the high end, and between."""
        of_values, low, high = self._of_values(x), x <= -1.0, x >= 1.0
        places = {"low": low, "high": high, "between": ~(low | high)}
        return {name: sum_over_values(of_values * place) for name, place in places.items()}

    def _of_values(self, x: Tensor) -> Tensor:
        mu, sigma = self.gaussian.mean, self.gaussian.scale
        below = log_normal_cdf((-1.0 - mu) / sigma)
        above = log_normal_cdf((mu - 1.0) / sigma)
        between = torch.distributions.Normal(mu, sigma, validate_args=False).log_prob(x)
        return torch.where(x <= -1.0, below, torch.where(x >= 1.0, above, between))

    def densities(self, x: Tensor) -> Tensor:
        return sum_over_values((x.abs() < 1.0).to(x.dtype))

    def denoise(self, x: Tensor, energy_gradient: Tensor) -> Tensor:
        """That of u = mu + sigma eps under N(u; mu, sigma) exp(-E(clamp(u))), clamped: past the ends dE/du is 0."""
        inside = x.abs() < 1.0
        return super().denoise(x, energy_gradient * inside).clamp(-1.0, 1.0)


@dataclass(frozen=True)
class BernoulliLikelihood(Likelihood):
    """x in {-1, 1}, with log-odds `logits` for 1."""

    logits: Tensor

    @property
    def center(self) -> Tensor:
        return torch.tanh(0.5 * self.logits)

    def log_prob(self, x: Tensor) -> Tensor:
        return sum_over_values(
            -functional.binary_cross_entropy_with_logits(self.logits, (x + 1.0) / 2.0, reduction="none")
        )

    def sample(self, generator: torch.Generator) -> Tensor:
        return torch.bernoulli(torch.sigmoid(self.logits), generator=generator) * 2.0 - 1.0


@dataclass(frozen=True)
class LogisticMixtureLikelihood(Likelihood):
    """M logistics integrated over `levels` bins of [-1, 1], the outer ones to infinity. Tensors are (B, M, C, ...)."""

    log_weights: Tensor
    means: Tensor
    log_scales: Tensor
    levels: int

    @property
    def center(self) -> Tensor:
        return (self.log_weights.exp() * self.means.clamp(-1.0, 1.0)).sum(1).clamp(-1.0, 1.0)

    def log_prob(self, x: Tensor) -> Tensor:
        half_bin = 1.0 / (self.levels - 1)
        distance = x[:, None] - self.means
        upper = (distance + half_bin) * torch.exp(-self.log_scales)
        lower = (distance - half_bin) * torch.exp(-self.log_scales)
        width = 2.0 * half_bin * torch.exp(-self.log_scales)  # u - l, which would cancel to 0 for a mean far away
        # log(sigmoid(u) - sigmoid(l)) = u - softplus(u) - softplus(l) + log(1 - e^(l - u)),  stable in float32
        between = upper - functional.softplus(upper) - functional.softplus(lower) + torch.log(-torch.expm1(-width))
        edge = 1.0 - half_bin
        first, last = functional.logsigmoid(upper), functional.logsigmoid(-lower)
        log_bin = torch.where(x[:, None] < -edge, first, torch.where(x[:, None] > edge, last, between))
        return sum_over_values(torch.logsumexp(self.log_weights + log_bin, dim=1))

    def sample(self, generator: torch.Generator) -> Tensor:
        def uniform(shape: torch.Size) -> Tensor:
            uniforms = torch.rand(shape, generator=generator, dtype=self.means.dtype, device=self.means.device)
            return uniforms.clamp(1e-6, 1.0 - 1e-6)

        gumbel = -torch.log(-torch.log(uniform(self.means.shape)))
        component = (self.log_weights + gumbel).argmax(1, keepdim=True)
        mean, log_scale = (part.gather(1, component).squeeze(1) for part in (self.means, self.log_scales))
        x = mean + log_scale.exp() * torch.logit(uniform(mean.shape))
        step = 2.0 / (self.levels - 1)
        return (torch.round((x + 1.0) / step) * step - 1.0).clamp(-1.0, 1.0)


class LikelihoodHead(nn.Module, ABC):
    """Turns a decoder's raw output into p(x | z)."""

    outputs_per_value: int
    reparameterised: bool = False  # whether x is a differentiable function T_x(z, eps_x)
    takes_noise: bool = False  # whether x with Gaussian noise added has a density in closed form
    columns: Columns | None = None  # of a table's rows

    @abstractmethod
    def forward(self, raw: Tensor) -> Likelihood:
        """The distribution that raw (B, k C, ...) stands for."""


class GaussianHead(LikelihoodHead):
    """Gaussian values with a learned scale; with `censored`, the clamp to [-1, 1] belongs to the generator.

    The scale is "global", one sigma, or "pixel", one for each value within a factor e^4 of a learned base.
    """

    reparameterised = True

    def __init__(self, scale: Literal["global", "pixel"], initial_scale: float, censored: bool) -> None:
        super().__init__()
        check_choice("scale", scale, ("global", "pixel"))
        self.per_value = scale == "pixel"
        self.outputs_per_value = 2 if self.per_value else 1
        self.distribution = CensoredLikelihood if censored else GaussianLikelihood
        self.takes_noise = not censored
        self.base_log_scale = nn.Parameter(torch.tensor(initial_scale).log())

    def forward(self, raw: Tensor) -> GaussianLikelihood:
        raw = at_least_float32(raw)
        log_scale: Tensor = self.base_log_scale
        mu = raw
        if self.per_value:
            mu, offset = raw.chunk(2, dim=1)
            log_scale = log_scale + MAX_OFFSET * torch.tanh(offset / MAX_OFFSET)
        sigma = MIN_SCALE + log_scale.exp()
        return self.distribution(DiagonalGaussian(mu, sigma.log()))


class BernoulliHead(LikelihoodHead):
    """Black or white."""

    outputs_per_value = 1

    def forward(self, raw: Tensor) -> BernoulliLikelihood:
        return BernoulliLikelihood(at_least_float32(raw))


class LogisticMixtureHead(LikelihoodHead):
    """A mixture of `components` logistics on `levels` steps."""

    def __init__(self, components: int, levels: int) -> None:
        super().__init__()
        self.components, self.levels = components, levels
        self.outputs_per_value = 3 * components

    def forward(self, raw: Tensor) -> LogisticMixtureLikelihood:
        batch, channels, *space = raw.shape
        parts = at_least_float32(raw).reshape(batch, 3, self.components, channels // self.outputs_per_value, *space)
        logits, means, log_scales = parts.unbind(1)
        return LogisticMixtureLikelihood(
            functional.log_softmax(logits, dim=1), means, log_scales.clamp(-7.0, 3.0) - 1.0, self.levels
        )


class GaussianSettings(Settings):
    """Gaussian values, unbounded."""

    kind: Literal["gaussian"] = Field("gaussian", description="the kind of p(x | z)")
    scale: Literal["global", "pixel"] = Field(
        "global", description="whether sigma is one number, or the decoder's for each value"
    )
    initial_scale: float = Field(0.3, gt=0, description="sigma before training, in units of x")

    def build(self) -> LikelihoodHead:
        return GaussianHead(self.scale, self.initial_scale, censored=False)


class CensoredSettings(Settings):
    """Gaussian values clamped to [-1, 1]: for images with saturated pixels."""

    kind: Literal["censored"] = Field("censored", description="the kind of p(x | z)")
    scale: Literal["global", "pixel"] = Field(
        "pixel", description="whether sigma is one number, or the decoder's for each value"
    )
    initial_scale: float = Field(0.3, gt=0, description="sigma before training, in units of x")

    def build(self) -> LikelihoodHead:
        return GaussianHead(self.scale, self.initial_scale, censored=True)


class BernoulliSettings(Settings):
    """Black or white."""

    kind: Literal["bernoulli"] = Field("bernoulli", description="the kind of p(x | z)")

    def build(self) -> LikelihoodHead:
        return BernoulliHead()


class LogisticMixtureSettings(Settings):
    """A mixture of discretised logistic distributions."""

    kind: Literal["logistic_mixture"] = Field("logistic_mixture", description="the kind of p(x | z)")
    components: int = Field(5, ge=1, description="logistics in the mixture of each value")
    levels: int = Field(256, ge=2, description="steps from black to white")

    def build(self) -> LikelihoodHead:
        return LogisticMixtureHead(self.components, self.levels)


LikelihoodSettings = Annotated[
    GaussianSettings | CensoredSettings | BernoulliSettings | LogisticMixtureSettings, Field(discriminator="kind")
]

"""The conjugate energy-based model: an energy of data that is also an encoder with an exact posterior.

    p(x, z) = r(x) exp(<t(x), (z, z^2)>) pi(z) / Z,      p(x) = r(x) exp(-E(x)) / Z          (energy/conjugate.py)

A network sees x alone and says of z all there is to say: p(z | x) is a Gaussian, or a mixture of Gaussians, in closed
form, and its mean is the representation of x. The paper's model has no r. Here r is a Gaussian over data without codes
(vae/codeless.py), which makes p a density on all of space whatever t is, gives chains a start and density ratios their
negatives; with a scale far beyond the data's it is flat, as published. So this is a VAEBM whose VAE has no code, and
estimators, chains and measurements are the same.

With noise s = `noise_std` the density is that of data with noise, x + s n, and samples can be shown denoised.

Wu, Esmaeili, Wick, Tristan & van de Meent, Conjugate energy-based models, ICML 2021, https://arxiv.org/abs/2106.13798
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from vaebm.distributions.exponential_family import Posterior
from vaebm.energy.conjugate import BiasSettings, ConjugateEnergy, GaussianBiasSettings, StatisticsSettings
from vaebm.errors import InputError, check_choice
from vaebm.models.base import ModelSettings
from vaebm.models.draw_settings import DrawSettings
from vaebm.models.inputs import code_tensor, same_length, wants_graph
from vaebm.models.saved import MODELS
from vaebm.models.vaebm import VAEBM
from vaebm.registry import Settings
from vaebm.vae.codeless import CodelessVAE


class CEBM(VAEBM):
    """A conjugate energy over a base density of data.

    Args:
        base: r(x).
        energy: E(x), with p(z | x).
        settings: how samples are drawn; a model that is to be saved takes its `CEBMSettings`.
        noise_std: s, of the noise that data carry.
    """

    subjects: ClassVar[tuple[str, ...]] = ("cebm", "start")

    def __init__(
        self, base: CodelessVAE, energy: ConjugateEnergy, settings: DrawSettings | None = None, noise_std: float = 0.0
    ) -> None:
        super().__init__(base, {"conjugate": energy}, settings, noise_std=noise_std)
        self.latent_dim = energy.bias.mean.shape[1]

    @property
    def conjugate(self) -> ConjugateEnergy:
        """E(x), with p(z | x)."""
        (energy,) = self.energy_net.terms.values()
        assert isinstance(energy, ConjugateEnergy)
        return energy

    def energy(self, x: Tensor | None, z: Tensor | None = None) -> Tensor:
        """E(x) of (B, *data_shape), to (B,), in nats, or E(x, z) with z (B, latent_dim).

        Carries a graph only where x or z asks for one.

        Raises:
            InputError: a wrong shape, type or range.
        """
        data = self._data(x, "energy")
        codes = None if z is None else code_tensor(z, self.latent_dim, data)
        same_length(data, codes)
        with torch.set_grad_enabled(wants_graph(data, codes)), self.autocast():
            return self.conjugate(data) if codes is None else self.conjugate.joint(data, codes)

    def log_density(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        """log r(x) - E(x, z), (B,), in nats, up to log Z; without z the log-density of x alone, -E(x) in its place.

        Raises:
            InputError: a wrong shape, type or range.
        """
        data = self._data(x, "log_density")
        with torch.set_grad_enabled(wants_graph(data, z)):
            return self.likelihood(self.vae.encode(data)).log_prob(data) - self.energy(data, z)

    def posterior(self, x: Tensor) -> Posterior:
        """p(z | x) of (B, *data_shape): its mean, variance and the responsibilities of the bias's components.

        Raises:
            InputError: a wrong shape, type or range.
        """
        data = self._data(x, "posterior")
        with torch.set_grad_enabled(wants_graph(data)), self.autocast():
            return self.conjugate.posterior(data)

    def encode(self, x: Tensor) -> Tensor:
        """Posterior means (B, latent_dim) of x; they carry a graph only where x asks for one."""
        return self.posterior(x).mean

    def assign(self, x: Tensor) -> Tensor:
        """The component (B,) of the bias that x most probably belongs to: its cluster."""
        return self.posterior(x).log_weights.argmax(1)

    def _data(self, x: Tensor | None, method: str) -> Tensor:
        data, _ = self._inputs(x, None)
        if data is None:
            raise InputError(f"{method} is of data: pass x")
        return data


class BaseSettings(Settings):
    """r(x), a Gaussian without codes."""

    scale: float | None = Field(
        None, gt=0, description="standard deviation about 0; null: mean and deviation of each value of the data"
    )
    min_scale: float = Field(0.1, gt=0, description="smallest standard deviation of a value that is fitted")


@MODELS.register
class CEBMSettings(DrawSettings, ModelSettings):
    """A conjugate energy over a base density of data."""

    changeable: ClassVar[frozenset[str]] = frozenset(DrawSettings.model_fields)

    kind: Literal["cebm"] = Field("cebm", description="the model family")
    latent_dim: int = Field(128, ge=1, description="how many numbers a code has")
    network: StatisticsSettings = Field(StatisticsSettings(), description="the network t that reads x")
    bias: BiasSettings = Field(GaussianBiasSettings(), description="pi(z), the law of codes that t(x) tilts")
    base: BaseSettings = Field(BaseSettings(), description="r(x), the density of data that the energy tilts")
    noise_std: float = Field(
        0.0, ge=0, description="standard deviation of the noise that data carry where the energy learns from them"
    )

    def build(self, data_shape: tuple[int, ...], generator: torch.Generator, **parts: Any) -> CEBM:
        """An untrained model, its weights float32 and drawn from `generator`.

        Raises:
            InputError: parts, which it has none of, or a shape that the network cannot have.
        """
        for name in parts:
            check_choice("part", name, ())
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
            net = self.network.build(tuple(data_shape), self.latent_dim, generator)
            energy = ConjugateEnergy(net, self.bias.build(self.latent_dim, generator)).float()
            base = CodelessVAE(tuple(data_shape), self.base.scale or 1.0).float()
        return CEBM(base, energy, self, self.noise_std)

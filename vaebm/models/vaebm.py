"""The energy-corrected VAE (Xiao, Kreis, Kautz & Vahdat, VAEBM, ICLR 2021, https://arxiv.org/abs/2010.00654).

    h(x, z) = p(x, z) exp(-E(x, z)) / Z                                                          # Eq. 3
    z = T_z(eps_z), x = T_x(z, eps_x):   h(eps) = exp(-E(T(eps))) N(eps; 0, I) / Z              # Eq. 8, exact pull-back

The second line is the first in the VAE's noise space, where chains mix: with E = 0 it is N(0, I), whatever the decoder.
The published code differentiates log p(z) + log p(x | z) - E through eps instead (models/noise_space.py).

With noise s = `noise_std`, x stands for an image with noise, x + s n: the decoder's variance grows by s^2, data get the
same noise where the energy looks at them, and samples are shown denoised (walk and jump: Saremi & Hyvarinen, Neural
empirical Bayes, JMLR 2019, https://arxiv.org/abs/1903.02334).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vaebm.distributions.gaussian import standard_log_prob
from vaebm.distributions.likelihood import Likelihood
from vaebm.distributions.mixture import GaussianMixture
from vaebm.energy import Energy, TotalEnergy
from vaebm.errors import InputError
from vaebm.models.draw_settings import DrawSettings
from vaebm.models.inputs import code_tensor, data_tensor, same_length, wants_graph
from vaebm.models.noise_space import Noise
from vaebm.models.score import ScoredModel
from vaebm.vae import VAE


class VAEBM(ScoredModel):
    """A VAE, an energy, and the mixture fitted to the VAE's codes.

    Args:
        vae: any VAE of this library, or another's (vae/external.py).
        energy: terms by name, or None for none yet.
        settings: how samples are drawn; a model that is to be saved takes its `VAEBMSettings`.
        mixture: fitted to the codes; N(0, I) until then.
        noise_std: s, of the noise that data and decoder both carry where the energy looks at them.

    Raises:
        InputError: parts that do not go together; the message names the settings to change.
    """

    def __init__(
        self,
        vae: VAE,
        energy: TotalEnergy | Mapping[str, Energy] | None = None,
        settings: DrawSettings | None = None,
        *,
        mixture: GaussianMixture | None = None,
        noise_std: float = 0.0,
    ) -> None:
        super().__init__()
        self.vae = vae
        self.mixture = mixture or GaussianMixture.standard(1, vae.code_dim)
        if isinstance(energy, Energy) and not isinstance(energy, TotalEnergy):
            raise InputError('energy is one term: pass terms by name, such as {"image": term}')
        self.energy_net = energy if isinstance(energy, TotalEnergy) else TotalEnergy(energy)
        self.data_shape, self.noise_std = vae.data_shape, noise_std
        self._check_parts()
        moves_pixels = vae.likelihood.reparameterised and (self.energy_net.reads_x or not self.corrects)
        self.noise = Noise(vae.latent_dim, self.data_shape if moves_pixels else None)
        self.update_settings(settings or DrawSettings())

    def _check_parts(self) -> None:
        base = self.energy_net.base
        for mixture in [self.mixture, *([] if base is None else [base.mixture])]:
            if mixture.means.shape[1] > self.vae.code_dim:
                raise InputError(
                    f"a mixture over {mixture.means.shape[1]} coordinates does not fit codes of {self.vae.code_dim}:"
                    " fit one to codes of this VAE"
                )
        if self.energy_net.reads_x and not self.vae.likelihood.reparameterised:
            raise InputError(
                "an energy on x needs a likelihood whose samples have a gradient: set vae.likelihood.kind=censored or"
                " gaussian, energy.input=mean, or energy.image=null"
            )
        if self.noise_std and not (self.energy_net.reads_x and self.vae.likelihood.takes_noise):
            raise InputError(
                "energy.noise_std adds noise to what an energy on x sees, and to a Gaussian likelihood: set"
                " energy.image with energy.input=sample and vae.likelihood.kind=gaussian, or energy.noise_std=0"
            )

    # The density, in data space

    def energy(self, x: Tensor | None, z: Tensor | None = None) -> Tensor:
        """E(x, z) of (B, *data_shape) and (B, latent_dim), to (B,), in nats; what no term reads may be left out.

        Carries a graph only where x or z asks for one.

        Raises:
            InputError: a wrong shape, type or range.
            ValueError: a term reads what was left out.
        """
        x, z = self._inputs(x, z)
        with torch.set_grad_enabled(wants_graph(x, z)), self.autocast():
            energy: Tensor = self.energy_net(x, z)
        return energy

    def log_density(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x, z) - E(x, z), (B,), in nats: log h up to log Z.

        With `fix_codes` samples have another law (models/noise_space.py). Carries a graph only where x or z asks for
        one.

        Raises:
            InputError: a wrong shape, type or range.
        """
        data, codes = self._inputs(x, z)
        if data is None or codes is None:
            raise InputError("log_density is of pairs: pass x and z, for example z = model.encode(x)")
        with torch.set_grad_enabled(wants_graph(data, codes)), self.autocast():
            log_joint = self.vae.log_prior(codes) + self.likelihood(codes).log_prob(data)
            energy: Tensor = self.energy_net(data, codes)
        return log_joint - energy  # Eq. 3

    def likelihood(self, z: Tensor) -> Likelihood:
        """p(x | z) for x as the energy sees it: with noise, where the model adds it."""
        with self.autocast():
            return self.vae.decode(z).with_noise(self.noise_std)

    def decode_noise(self, eps_z: Tensor) -> tuple[Likelihood, Tensor]:
        with self.autocast():
            likelihood, z = self.vae.decode_noise(eps_z)
        return likelihood.with_noise(self.noise_std), z

    def add_noise(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Data x (B, *data_shape) as the energy sees them."""
        if not self.noise_std:
            return x
        return x + self.noise_std * torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)

    def encode(self, x: Tensor) -> Tensor:
        """Posterior means (B, latent_dim) of x; they carry a graph only where x asks for one.

        Raises:
            InputError: a wrong shape, type or range.
        """
        data, _ = self._inputs(x, None)
        if data is None:
            raise InputError("encode is of data: pass x")
        with torch.set_grad_enabled(wants_graph(data)), self.autocast():
            return self.vae.encode(data)

    # The density, in noise space

    def noise_log_density(self, eps: Tensor) -> Tensor:
        """-E(T(eps)) + log N(eps; 0, I) of (B, dim), to (B,), in nats: log h in noise space up to log Z."""
        x, z = self.generate(eps) if self.energy_net.reads_x else (None, self.vae.latent(self.noise.unpack(eps)[1]))
        with self.autocast():
            energy: Tensor = self.energy_net(x, z)
        return standard_log_prob(eps) - energy  # Eq. 8

    def generate(self, eps: Tensor) -> tuple[Tensor, Tensor]:
        """T: (B, dim) to x (B, *data_shape) and z (B, latent_dim). Without pixel noise, x is the decoder's center."""
        eps_x, eps_z = self.noise.unpack(eps)
        likelihood, z = self.decode_noise(eps_z)
        return likelihood.center if eps_x is None else likelihood.transport(eps_x), z

    # Housekeeping

    def set_mixture(self, mixture: GaussianMixture) -> None:
        """Takes a mixture fitted to the codes, for the baseline and for terms that are built on it."""
        self.mixture.load_state_dict(mixture.state_dict())
        self.energy_net.set_mixture(mixture)

    def update_settings(self, settings: DrawSettings) -> None:
        """Takes settings that ask for the same nets.

        Raises:
            InputError: they do not suit the nets.
        """
        self.moves = self._moves(settings)
        self.settings = settings

    def compile_nets(self) -> None:
        """Compiles encoder, decoder and the energies on x in place; the first steps after it are slow."""
        for net in [*self.vae.nets(), *self.energy_net.on_data.terms.values()]:
            net.compile()

    def autocast(self) -> torch.autocast:
        enabled = self.settings.precision == "bfloat16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)

    def _inputs(self, x: object, z: object) -> tuple[Tensor | None, Tensor | None]:
        like = next(self.parameters())
        data = None if x is None else data_tensor(x, self.data_shape, like, self.noise_std)
        codes = None if z is None else code_tensor(z, self.vae.latent_dim, like)
        same_length(data, codes)
        return data, codes

"""The energy-corrected VAE (Xiao, Kreis, Kautz & Vahdat, VAEBM, ICLR 2021).

    h(x, z) = p(x, z) exp(-E(x, z)) / Z                                                          # Eq. 3
    z = T_z(eps_z), x = T_x(z, eps_x):   h(eps) = exp(-E(T(eps))) N(eps; 0, I) / Z              # Eq. 8, exact pull-back

The second line is the first in the VAE's noise space, where chains mix: with E = 0 it is N(0, I), whatever the decoder.
The published code differentiates log p(z) + log p(x | z) - E through eps instead, which leaves out the Jacobian of T
and so keeps the decoder's -log sigma: `target: release` computes that for comparison. It does not leave the prior
invariant.

With `energy.noise_std` s, x stands for an image with noise, x + s n: the decoder's variance grows by s^2, data get the
same noise where E_x looks at them, and samples are shown denoised (walk and jump: Saremi & Hyvarinen, Neural empirical
Bayes, JMLR 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vaebm import sampling
from vaebm.data.modality import modality_of
from vaebm.distributions.gaussian import standard_log_prob
from vaebm.distributions.likelihood import GaussianLikelihood
from vaebm.distributions.mixture import GaussianMixture
from vaebm.energy import TotalEnergy
from vaebm.errors import InputError
from vaebm.models.noise import Noise
from vaebm.models.noise_space import run_chains
from vaebm.models.parts import check_parts
from vaebm.models.saved import Pretrained
from vaebm.models.settings import ModelSettings, Show, Subject
from vaebm.nn.folding import folded
from vaebm.sampling.resampling import systematic_resample
from vaebm.vae import VAE

MIN_CANDIDATES = 512  # for a choice by weights: among a handful, one draw had another law than a thousand
CHAINS_AT_ONCE = 1024  # rows of one batch of chains: enough to fill the machine, little enough for its memory


class VAEBM(Pretrained, nn.Module):
    """A VAE, an energy, and the mixture fitted to the VAE's codes.

    Args:
        settings: what to build; also what a saved folder's config.json holds.
        data_shape: (C, H, W) for images in [-1, 1], (dim,) for points.
        generator: source of the initial weights.
    """

    def __init__(self, settings: ModelSettings, data_shape: tuple[int, ...], generator: torch.Generator) -> None:
        super().__init__()
        self.settings, self.data_shape = settings, data_shape
        image, latent = settings.energy.image, settings.energy.latent
        components = settings.code_mixture.components
        with torch.random.fork_rng(devices=[]):  # layers draw from the global state before `generator` redraws them
            self.vae: VAE = settings.vae.build(data_shape, generator)
            code_dim = self.vae.code_dim
            self.mixture = GaussianMixture.standard(components, code_dim)
            self.energy_net = TotalEnergy(
                None if image is None else image.build(data_shape, generator),
                None if latent is None else latent.build(code_dim, components, generator),
            )
        self.sees_means, self.noise_std = settings.energy.sees_means, settings.energy.noise_std
        self.update_settings(settings)
        moves_pixels = self.vae.likelihood.reparameterised and not self.sees_means
        self.noise = Noise(self.vae.latent_dim, data_shape if moves_pixels else None)

    # The density, in data space and in noise space

    def energy(self, x: Tensor | None, z: Tensor | None = None) -> Tensor:
        """E(x, z) of (B, *data_shape) and (B, latent_dim), to (B,), in nats; what no term reads may be left out.

        Where E_x sees means, it is E_x(mu(z)) and x is not read.
        """
        if self.sees_means:
            if z is None:
                raise ValueError("this energy sees the decoder's mean of z: pass z, for example z = model.encode(x)")
            with self.autocast():
                x = self.vae.decode(z).center
        return self._energy_of_seen(x, z)

    def _energy_of_seen(self, x: Tensor | None, z: Tensor | None) -> Tensor:
        with self.autocast():
            energy: Tensor = self.energy_net(x, z)
        return energy

    def log_density(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x, z) - E(x, z), (B,), in nats: log h up to log Z.

        With `latent_step_scale: 0` samples have another law (models/noise_space.py).
        """
        with self.autocast():
            pixels = self.pixels(z) if self.noise_std else self.vae.decode(z)
            log_joint = self.vae.log_prior(z) + pixels.log_prob(x)
        return log_joint - self.energy(x, z)

    def add_noise(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Data x (B, *data_shape) as E_x sees them: with the noise of `energy.noise_std`."""
        if not self.noise_std:
            return x
        return x + self.noise_std * torch.randn(x.shape, generator=generator, device=x.device)

    def pixels_of_noise(self, eps: Tensor) -> GaussianLikelihood:
        """p(x | z) of the codes at positions (B, dim), for x as E_x sees it; only for such decoders."""
        with self.autocast():
            return self._seen(self.vae.pixels_of_noise(self.noise.unpack(eps)[1])[0])

    def pixels(self, z: Tensor) -> GaussianLikelihood:
        """p(x | z) for x as E_x sees it; only for decoders with a differentiable generator."""
        with self.autocast():
            return self._seen(self.vae.pixels(z))

    def _seen(self, pixels: GaussianLikelihood) -> GaussianLikelihood:
        return pixels.smoothed(self.noise_std) if self.noise_std else pixels

    def noise_log_density(self, eps: Tensor) -> Tensor:
        """-E(T(eps)) + log N(eps; 0, I) of (B, dim), to (B,), in nats: log h in noise space up to log Z."""
        if self.settings.target == "release":
            return self._released_log_density(eps)
        if not self.energy_net.reads_x:  # the decoder stays out of the loop
            return standard_log_prob(eps) - self.energy(None, self.vae.latent(self.noise.unpack(eps)[1]))
        return standard_log_prob(eps) - self._energy_of_seen(*self.generate(eps))

    def _released_log_density(self, eps: Tensor) -> Tensor:
        """log p(z) + log N(mu + sigma eps_x; mu, sigma) - E.

        A censored Gaussian is scored before its clamp: a point mass is flat in eps_x, which would wander off for ever.
        """
        eps_x, eps_z = self.noise.unpack(eps)
        assert eps_x is not None
        with self.autocast():
            z = self.vae.latent(eps_z)
            pixels = self.pixels(z)
        log_pixels = pixels.gaussian.log_prob(pixels.gaussian.transport(eps_x))
        return self.vae.log_prior(z) + log_pixels - self.energy(pixels.transport(eps_x), z)

    def generate(self, eps: Tensor) -> tuple[Tensor, Tensor]:
        """T: (B, dim) to x (B, *data_shape) and z (B, latent_dim). Without pixel noise, x is the decoder's center."""
        eps_x, eps_z = self.noise.unpack(eps)
        with self.autocast():
            if eps_x is not None:
                pixels, z = self.vae.pixels_of_noise(eps_z)
                return self._seen(pixels).transport(eps_x), z
            z = self.vae.latent(eps_z)
            return self.vae.decode(z).center, z

    def decode(self, eps: Tensor) -> Tensor:
        """The sample x (B, *data_shape) that noise (B, dim) gives, pixel noise included, in the model's range."""
        return self.generate(eps)[0]

    def encode(self, x: Tensor) -> Tensor:
        """Posterior means (B, latent_dim) of x."""
        with self.autocast():
            return self.vae.encode(x)

    # Drawing

    @torch.no_grad()
    def start(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, dim) positions where chains begin: `propose`, of which E_x chooses where `init.importance_samples` is above 1.

        Their pixel noise is then scaled by `init.noise_scale`: chains that start with less of it let E_x shape the
        noise as it comes, where a chain that starts with all of it would have to undo what is wrong.
        """
        return self.noise.with_scaled_pixels(self._chosen(n, generator), self.settings.init.noise_scale)

    def _chosen(self, n: int, generator: torch.Generator) -> Tensor:
        proposals, image = self.settings.init.importance_samples, self.energy_net.image
        if proposals == 1 or image is None:
            return self.sample_base(n, generator)
        eps = self.sample_base(max(n * proposals, MIN_CANDIDATES), generator)
        with self.frozen(), self.autocast():
            log_weights = torch.cat([-image(self.decode(part)) for part in eps.split(CHAINS_AT_ONCE)])
        return eps[systematic_resample(log_weights, n, generator)]

    @torch.no_grad()
    def sample_base(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, dim) draws of the model without E_x: N(0, I), or E_z's codes and standard pixel noise.

        Exact for every E_z (energy/latent.py), for a flow up to its steps in time (energy/flow.py).
        """
        latent = self.energy_net.latent
        if latent is None:
            return self.noise.standard(n, generator, self.device)
        return self._with_codes(latent.sample(n, generator), generator)

    def _with_codes(self, codes: Tensor, generator: torch.Generator) -> Tensor:
        eps = self.noise.standard(codes.shape[0], generator, self.device)
        return self.noise.with_latent(eps, codes)  # codes are their own noise

    def kernel(self, sampler: sampling.SamplerSettings) -> sampling.Kernel:
        """The sampler's kernel, with this model's `latent_step_scale`; where those are 0, codes are not its business."""
        moves = self.settings.latent_step_scale
        return sampler.build(self.noise.inverse_mass(moves, self.device) if moves else 1.0)

    def chains(
        self,
        eps: Tensor,
        generator: torch.Generator,
        sampler: sampling.SamplerSettings | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> sampling.Chains:
        """Runs a sampler, by default the recipe's, from positions (B, dim), where models/noise_space.py says.

        Raises:
            KeyboardInterrupt: Ctrl-C; such short chains are of no use before their end.
        """
        return run_chains(self, eps, generator, sampler or self.settings.sampler, progress)

    def draw(self, n: int, generator: torch.Generator, subject: Subject = "vaebm") -> Tensor:
        """Noise (n, dim) of n samples: fresh chains for `vaebm`, exact draws for `vae` and `vae_mixture`."""
        if subject == "vae":
            return self.noise.standard(n, generator, self.device)
        if subject == "vae_mixture":
            return self._with_codes(self.mixture.sample(n, generator), generator)
        parts = self.start(n, generator).split(CHAINS_AT_ONCE)
        return torch.cat([self.chains(part, generator).position for part in parts])

    def render(self, eps: Tensor, show: Show, generator: torch.Generator) -> Tensor:
        """What is shown of positions (n, dim): x (n, *data_shape) in the model's range.

        `sample` has the pixel noise in it, that of `energy.noise_std` too; `mean` is the decoder's image without it;
        `denoised` the estimate of the clean image under the corrected model (mean where there is no energy on x).
        """
        with self.frozen():
            return torch.cat([self._render(part, show, generator) for part in eps.split(CHAINS_AT_ONCE)])

    def _render(self, eps: Tensor, show: Show, generator: torch.Generator) -> Tensor:
        eps_x, eps_z = self.noise.unpack(eps)
        with torch.no_grad(), self.autocast():
            pixels = self.vae.decode(self.vae.latent(eps_z))
        if eps_x is None or not isinstance(pixels, GaussianLikelihood):
            return pixels.sample(generator) if show == "sample" else pixels.center
        pixels, image = self._seen(pixels), self.energy_net.image
        if show == "sample":
            return pixels.transport(eps_x)
        if show == "mean" or image is None:
            return pixels.center
        x = pixels.transport(eps_x).requires_grad_()
        (gradient,) = torch.autograd.grad(image(x).sum(), x)
        return pixels.denoise(x.detach(), gradient)

    def sample(self, n: int, *, seed: int = 0, subject: Subject = "vaebm", show: Show | None = None) -> Tensor:
        """n samples: images (n, C, H, W) in [0, 1], or points (n, dim). The same seed gives the same samples."""
        if n < 1:
            raise InputError(f"n is {n}: ask for at least one sample")
        generator = torch.Generator(self.device).manual_seed(seed)
        eps = self.draw(n, generator, subject)
        x = self.render(eps, self.show_of(subject, show), generator)
        return modality_of(self.data_shape).to_user(x)

    def show_of(self, subject: Subject, show: Show | None = None) -> Show:
        """How a subject is shown: as asked, or as the settings say; without an energy, `denoised` is the mean."""
        show = show or self.settings.show
        return "mean" if show == "denoised" and subject != "vaebm" else show

    # Housekeeping

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def set_mixture(self, mixture: GaussianMixture) -> None:
        """Takes a mixture fitted to the codes, for the baseline and for an energy that is built on it."""
        self.mixture.load_state_dict(mixture.state_dict())
        if self.energy_net.latent is not None:
            self.energy_net.latent.mixture.load_state_dict(mixture.state_dict())

    def update_settings(self, settings: ModelSettings) -> None:
        """Takes settings that ask for the same nets; raises InputError where they do not go together."""
        check_parts(settings, self.data_shape, self.vae.likelihood.reparameterised)
        self.settings = settings

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Within: weights take no gradient and normalised ones are computed once. What chains run in."""
        trainable = [p for p in self.parameters() if p.requires_grad]
        try:
            for p in trainable:
                p.requires_grad_(False)
            with folded(self):
                yield
        finally:
            for p in trainable:
                p.requires_grad_(True)

    def compile_nets(self) -> None:
        """Compiles encoder, decoder and E_x in place; the first steps after it are slow."""
        for net in [*self.vae.nets(), *([] if self.energy_net.image is None else [self.energy_net.image])]:
            net.compile()

    def autocast(self) -> torch.autocast:
        enabled = self.settings.precision == "bfloat16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)

"""Draws: where chains begin, chains in batches, and how their ends are rendered. The one place that draws.

    subject        what is drawn
    vaebm          chains on h from `start`
    start          where those begin: the base, or what the energy chose of it, with its noise scaled; no chain
    vae            z from the prior, x from p(x | z)
    vae_mixture    z from the mixture fitted to the codes, x from p(x | z)
    vaebm_long     the same as vaebm with chains of four times the length: where they differ, vaebm's are too short

    show           what of a draw is shown
    sample         x = T(eps), with the pixel noise and whatever noise the model adds
    mean           the decoder's image without noise
    denoised       Tweedie's estimate of the image without the noise that the model adds (energy.noise_std); where it
                   adds none, mu - sigma^2 dE/dx, whose mean given z is that of x; the mean without an energy on x

One draw of noise serves all shows.
"""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from vaebm import sampling
from vaebm.distributions.columns import Columns
from vaebm.distributions.gaussian import standard_log_prob
from vaebm.distributions.likelihood import Likelihood
from vaebm.distributions.mixture import GaussianMixture
from vaebm.energy import TotalEnergy
from vaebm.errors import InputError, check_choice
from vaebm.models.base import SHOWS, Batches, Model, Show
from vaebm.models.cost import expected_cost, gradients_per_chain, lengthened, too_large
from vaebm.models.draw_settings import DrawSettings
from vaebm.models.inputs import rows, wants_graph, whole_number
from vaebm.models.noise_space import TARGETS, AllNoise, CarriedCodes, FixedCodes, Moves, Noise, run_chains
from vaebm.nn.folding import folded
from vaebm.progress import Progress, silent
from vaebm.sampling.resampling import systematic_resample
from vaebm.vae import VAE

LONG_CHAINS = "vaebm_long"
MIN_CANDIDATES = 512  # minimum pool for importance resampling: with fewer candidates the result is biased
CHAINS_AT_ONCE = 1024  # rows of one batch of chains: enough to fill the machine, little enough for its memory
MIN_ACCEPTANCE = 0.1  # below it the steps of an unadjusted kernel do not follow the density


class NoiseSpaceModel(Model):
    """A model whose samples come from chains in the noise space of its VAE."""

    subjects: ClassVar[tuple[str, ...]] = ("vaebm", "vae", "vae_mixture", "start", LONG_CHAINS)
    settings: DrawSettings
    vae: VAE
    energy_net: TotalEnergy
    mixture: GaussianMixture
    noise: Noise
    moves: Moves

    @property
    def columns(self) -> Columns | None:
        return self.vae.likelihood.columns

    # What the density gives

    @abstractmethod
    def noise_log_density(self, eps: Tensor) -> Tensor:
        """log h(eps) of (B, dim), to (B,), in nats, up to log Z."""

    @abstractmethod
    def generate(self, eps: Tensor) -> tuple[Tensor, Tensor]:
        """T: (B, dim) to x (B, *data_shape) and z (B, latent_dim)."""

    def decode(self, eps: Tensor) -> Tensor:
        """The x of `generate` alone; carries a graph only where `eps` asks for one.

        Raises:
            InputError: `eps` is not (B, dim).
        """
        eps = self._noise("eps", eps)
        with torch.set_grad_enabled(wants_graph(eps)):
            return self.generate(eps)[0]

    @abstractmethod
    def likelihood(self, z: Tensor) -> Likelihood:
        """p(x | z) of (B, latent_dim), for x as the energy sees it: with noise, where the model adds it."""

    @abstractmethod
    def decode_noise(self, eps_z: Tensor) -> tuple[Likelihood, Tensor]:
        """p(x | z), with noise where the model adds it, and z."""

    @abstractmethod
    def autocast(self) -> AbstractContextManager[object]:
        """The precision of the nets."""

    @property
    def corrects(self) -> bool:
        """Whether the energy has terms beyond the base, which then begins the chains."""
        return bool(self.energy_net.correction.terms)

    def energy_over_base(self, x: Tensor | None, z: Tensor | None) -> Tensor:
        """The energy of the terms that the base does not carry already, (B,): minus its importance weights' log."""
        with self.autocast():
            energy: Tensor = self.energy_net.correction(x, z)
        return energy

    def base_log_density(self, eps: Tensor) -> Tensor:
        """log of the base in noise space, (B, dim) to (B,), in nats: normalised where its energy is."""
        base = self.energy_net.base
        if base is None:
            return standard_log_prob(eps)
        energy: Tensor = base(None, self.vae.latent(self.noise.unpack(eps)[1]))
        return standard_log_prob(eps) - energy

    @abstractmethod
    def add_noise(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Data x (B, *data_shape) as the energy sees them."""

    # Where chains begin

    @torch.no_grad()
    def start(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, dim) positions where chains begin: the base, or what the energy chooses of it (`init`).

        Their pixel noise is then scaled by `init.noise_scale`: chains that start with less of it let the energy shape
        the noise as it comes, where a chain that starts with all of it would have to undo what is wrong.
        """
        return self.noise.with_scaled_pixels(self._chosen(n, generator), self.settings.init.noise_scale)

    def _chosen(self, n: int, generator: torch.Generator) -> Tensor:
        candidates = self.settings.init.importance_samples
        if candidates == 1 or not self.corrects:
            return self.sample_base(n, generator)
        eps = self.sample_base(max(n * candidates, MIN_CANDIDATES), generator)
        return eps[systematic_resample(self.log_weights(eps), n, generator)]

    @torch.no_grad()
    def log_weights(self, eps: Tensor) -> Tensor:
        """log h - log base of draws of the base (n, dim), to (n,), up to a constant: their importance weights."""
        with self.frozen():
            return torch.cat([-self.energy_over_base(*self.generate(part)) for part in eps.split(CHAINS_AT_ONCE)])

    @torch.no_grad()
    def sample_base(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, dim) draws of the base: N(0, I), or the codes of the term with exact samples and standard pixel noise.

        Exact for a mixture and its correction (energy/latent.py), for a flow up to its steps in time (energy/flow.py).
        """
        base = self.energy_net.base
        if base is None:
            return self._standard(n, generator)
        return self._with_codes(base.sample(n, generator), generator)

    def _with_codes(self, codes: Tensor, generator: torch.Generator) -> Tensor:
        return self.noise.with_latent(self._standard(len(codes), generator), codes)  # codes are their own noise

    def _standard(self, n: int, generator: torch.Generator) -> Tensor:
        return self.noise.standard(n, generator, next(self.parameters()))

    # Chains

    def kernel(self, sampler: sampling.SamplerSettings | None = None) -> sampling.Kernel:
        """The kernel of a sampler, by default the recipe's, for what this model's chains move."""
        return (sampler or self.settings.sampler).build(self.moves.inverse_mass())

    def chains(
        self,
        eps: Tensor,
        generator: torch.Generator,
        sampler: sampling.SamplerSettings | None = None,
        progress: Callable[[int, int], None] | None = None,
        observer: Callable[[int, Tensor], None] | None = None,
    ) -> sampling.Chains:
        """Runs a sampler, by default the recipe's, from one batch of positions (B, dim).

        Args:
            eps: where the chains begin.
            generator: on the model's device.
            sampler: in place of the recipe's.
            progress: called after each step with the steps done and the steps in all.
            observer: called after each step as that of `sample_chains`, with its number and the positions (B, dim).

        Raises:
            InputError, KeyboardInterrupt: as `run_chains`.
        """
        sampler = sampler or self.settings.sampler
        with self.frozen():
            coordinates = self.moves.coordinates(self._noise("eps", eps))

            def observe(step: int, state: sampling.ChainState, _: sampling.StepInfo) -> None:
                if observer is not None:
                    observer(step, coordinates.position(state.position))

            mass = self.moves.inverse_mass()
            chains = run_chains(coordinates.target, coordinates.start, sampler, mass, generator, observe, progress)
        return replace(chains, state=coordinates.full(chains.state))

    def chains_in_batches(
        self,
        eps: Tensor,
        generator: torch.Generator,
        sampler: sampling.SamplerSettings | None = None,
        advance: Callable[[int], None] | None = None,
    ) -> Iterator[sampling.Chains]:
        """The same for any number of positions, a batch after the other.

        `advance` is told of gradients as they are spent; a chain counts for `gradients_per_chain`.
        """
        cost = self.gradients_per_chain(sampler)
        for part in eps.split(CHAINS_AT_ONCE):
            told = 0

            def progress(done: int, steps: int, gradients: int = len(part) * cost) -> None:
                nonlocal told
                spent = max(told, gradients * done // max(steps, 1))
                if advance is not None and spent > told:
                    advance(spent - told)
                told = spent

            yield self.chains(part, generator, sampler, progress)

    def gradients_per_chain(self, sampler: sampling.SamplerSettings | None = None) -> int:
        """About how many gradients a chain costs, warm-up included; never more than `sampler.gradients`."""
        return gradients_per_chain(sampler or self.settings.sampler, self.kernel(sampler))

    def draw(
        self,
        n: int,
        generator: torch.Generator,
        subject: str | None = None,
        progress: Progress | None = None,
        batches: Batches | None = None,
    ) -> Tensor:
        """Noise (n, dim) of n samples: fresh chains for the model itself, else exact draws.

        Args:
            n: how many.
            generator: on the model's device.
            subject: one of `subjects`.
            progress: told of what takes long.
            batches: keeps finished batches of chains, and has those of an interrupted call with the same arguments.

        Raises:
            InputError: there is no such subject.
        """
        n, subject, told = whole_number("n", n, low=1), self.check_subject(subject), progress is not None
        progress = progress or silent()
        with torch.inference_mode(False):
            if subject in (self.subjects[0], LONG_CHAINS):
                sampler = self.settings.sampler
                sampler = lengthened(sampler) if subject == LONG_CHAINS else sampler
                return self._draw_chains(n, generator, sampler, progress, batches, told)
            with progress.task(f"{n:,} samples of {subject}", n, "samples") as task:
                eps = self._exact[subject](n, generator)
                task.advance(n)
            return eps

    @property
    def _exact(self) -> dict[str, Callable[[int, torch.Generator], Tensor]]:
        """Draws of the subjects that need no chain."""
        return {
            "vae": self._standard,
            "vae_mixture": lambda n, generator: self._with_codes(self.mixture.sample(n, generator), generator),
            "start": self.start,
        }

    def _draw_chains(
        self,
        n: int,
        generator: torch.Generator,
        sampler: sampling.SamplerSettings,
        progress: Progress,
        batches: Batches | None,
        told: bool,
    ) -> Tensor:
        cost, start = self.gradients_per_chain(sampler), self.start(n, generator)
        ended = [] if batches is None else batches.load(generator)
        before, all_batches = sum(map(len, ended)), math.ceil(n / CHAINS_AT_ONCE)
        if before:
            progress.say(f"{before:,} of {n:,} samples were drawn before the interruption; going on from there.")
        if told and before < n:
            with self.frozen():
                first = self.moves.coordinates(start[before:][:CHAINS_AT_ONCE])
                progress.say(expected_cost(n - before, sampler, self.kernel(sampler), first))
        stopped, acceptance = 0, 0.0
        with progress.task(f"{n:,} samples of {self.subjects[0]}", n * cost, "gradients", done=before * cost) as task:
            for chains in self.chains_in_batches(start[before:], generator, sampler, task.advance):
                stopped += int(chains.diverged.sum())
                acceptance += float(chains.acceptance.sum()) / (n - before)
                ended.append(chains.position)
                if batches is not None and len(ended) < all_batches:
                    batches.keep(len(ended) - 1, ended[-1], generator)
        if not self.kernel(sampler).adjusted and (stopped or acceptance < MIN_ACCEPTANCE):
            progress.say(too_large(sampler, stopped, n - before, acceptance))
        return torch.cat(ended)

    # Rendering

    def render(self, draws: Tensor, show: Show, generator: torch.Generator, noise_scale: float | None = None) -> Tensor:
        """Data (n, *data_shape), in the model's range, of noise (n, dim), its pixel noise multiplied by `noise_scale`.

        Raises:
            InputError: there is no such show, or the noise is not (n, dim).
        """
        check_choice("show", show, SHOWS)
        noise = self._noise("draws", draws)
        if noise_scale is not None:
            noise = self.noise.with_scaled_pixels(noise, noise_scale)
        with self.frozen():
            parts = noise.split(CHAINS_AT_ONCE)
            return torch.cat([self._render(part, show, generator) for part in parts])

    def _render(self, eps: Tensor, show: Show, generator: torch.Generator) -> Tensor:
        eps_x, eps_z = self.noise.unpack(eps)
        with torch.no_grad(), self.autocast():
            likelihood, z = self.decode_noise(eps_z)
        if eps_x is None:
            return likelihood.sample(generator) if show == "sample" else likelihood.center
        if show == "sample":
            return likelihood.transport(eps_x)
        energy = self.energy_net.on_data
        if show == "mean" or not energy.terms:
            return likelihood.center
        with torch.enable_grad():
            x = likelihood.transport(eps_x).requires_grad_()
            (gradient,) = torch.autograd.grad(energy(x, z).sum(), x)
        return likelihood.denoise(x.detach(), gradient)

    def show_of(self, subject: str, show: Show | None = None) -> Show:
        """As asked, or as the settings say; without an energy, `denoised` is the mean."""
        show = show or self.settings.show
        return "mean" if show == "denoised" and subject != self.subjects[0] else show

    # Housekeeping

    @abstractmethod
    def compile_nets(self) -> None:
        """Compiles the nets in place; the first steps after it are slow."""

    def prepare(self, progress: Progress) -> None:
        if self.settings.compile:
            started = time.perf_counter()
            self.compile_nets()
            generator = torch.Generator(self.device).manual_seed(0)  # of its own: compiling must not change training
            self.chains(self._standard(2, generator), generator)
            progress.say(f"torch.compile took {time.perf_counter() - started:.0f} s to start.")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Within: weights take no gradient and normalised ones are computed once. What chains run in.

        Chains differentiate in noise, so an inference mode that the caller is in does not hold within.
        """
        trainable = [p for p in self.parameters() if p.requires_grad]
        try:
            for p in trainable:
                p.requires_grad_(False)
            with torch.inference_mode(False), folded(self):
                yield
        finally:
            for p in trainable:
                p.requires_grad_(True)

    def _noise(self, name: str, eps: object) -> Tensor:
        return rows(name, eps, self.noise.dim, next(self.parameters()))

    def _moves(self, settings: DrawSettings) -> Moves:
        check_choice("target", settings.target, TARGETS)
        if settings.fix_codes:
            return FixedCodes(self, settings.target)
        base = self.energy_net.base
        if base is not None and base.carries and settings.target == "exact":
            return CarriedCodes(self, base, settings.latent_step_scale)
        return AllNoise(self, settings.target, settings.latent_step_scale)


def in_noise_space(model: Model) -> NoiseSpaceModel:
    """The model, where its samples come from chains in the noise space of a VAE.

    Raises:
        InputError: it is of another family.
    """
    if not isinstance(model, NoiseSpaceModel):
        raise InputError(
            f"this needs a model with a VAE and chains in its noise space, and {type(model).__name__} is none"
        )
    return model

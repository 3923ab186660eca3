"""Exhibits: everything that a report shows of a model, drawn once.

The VAE, the VAE with the code mixture and the chains' start share their pixel noise: chain i starts from a
position, and image i of the mixture and of the VAE is the same position with its codes replaced. Where the chains
start from exact draws of the mixture (E_z is the mixture), or from the prior, that subject *is* the start, so that
its image i and image i of the VAEBM are the two ends of one chain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vaebm.data import POINTS, DataSet
from vaebm.energy import MixtureEnergy
from vaebm.models import CHAINS_AT_ONCE, NoiseSpaceModel, Show
from vaebm.progress import Progress
from vaebm.report.chains import WatchedChains, film_steps, milestones, watch

SEED = 0  # of everything that a report draws
FRAMES = 16
POINT_CHAINS = 2000
IMAGE_VALUES = 300_000  # in all images of one subject together, between the limits below
MIN_IMAGES, MAX_IMAGES = 48, 512

Start = Literal["prior", "mixture", "latent_energy", "chosen"]
"""What chains start from: N(0, I), the code mixture, E_z's own codes, or proposals that E_x chose among."""


@dataclass(frozen=True, eq=False)
class Exhibits:
    """What was drawn.

    Args:
        model: the model, on its device.
        held_out: held-out data (n or as many as there are, *data_shape), as models see them.
        noise: by subject, positions (n, dim), on the CPU; `vaebm` only where the chains ran.
        begin: what the chains start from.
        chains: their run, or None.
        refusal: why there are no chains; "" where there are.
        energies: E_x of data and samples, (n,) each, less its mean over held-out data; empty without an energy on x.
        broken: by subject, the share of energies that are not finite, where there are any.
    """

    model: NoiseSpaceModel
    held_out: Tensor
    noise: dict[str, Tensor]
    begin: Start
    chains: WatchedChains | None
    refusal: str
    energies: dict[str, Tensor]
    broken: dict[str, float]

    def shown(self, eps: Tensor, subject: str = "vaebm", show: Show | None = None) -> Tensor:
        """What positions (n, dim) of a subject look like, on the CPU, (n, *data_shape); as the recipe says."""
        device = self.model.device
        generator = torch.Generator(device).manual_seed(SEED)  # the same pixel noise each time, where it is not in eps
        return self.model.render(eps.to(device), self.model.show_of(subject, show), generator).cpu()

    @property
    def reconstructions(self) -> Tensor:
        """The decoder's means of the held-out data's posterior means, on the CPU."""
        vae = self.model.vae
        with torch.no_grad(), self.model.frozen(), self.model.autocast():
            parts = self.held_out.split(CHAINS_AT_ONCE)
            return torch.cat([vae.decode(vae.encode(part.to(self.model.device))).center.cpu() for part in parts])

    @property
    def codes_stay(self) -> bool:
        """Whether chains move pixels alone (models/noise_space.py)."""
        return not self.model.moves.follows_h

    @property
    def total_steps(self) -> int:
        """Of each chain, warm-up included."""
        return self.model.settings.sampler.steps + self.model.settings.sampler.warmup


def draw_exhibits(model: NoiseSpaceModel, data: DataSet, progress: Progress) -> Exhibits:
    """Draws them; a few seconds for small images."""
    generator = torch.Generator(model.device).manual_seed(SEED)
    n = _how_many(data)
    order = torch.randperm(len(data.test), generator=torch.Generator().manual_seed(SEED))[:n]
    held_out = data.test.batch(order).x
    # Resampled starts stand in the order of their proposals, copies of one side by side: shuffled, a sheet is fair.
    start = model.start(n, generator)[torch.randperm(n, generator=generator, device=model.device)]
    begin = _start_of(model)
    noise: dict[str, Tensor] = {}
    with torch.no_grad():
        prior = torch.randn(n, model.noise.latent_dim, generator=generator, device=model.device)
        codes = model.mixture.sample(n, generator)
        noise["vae"] = start if begin == "prior" else model.noise.with_latent(start, prior)
        noise["vae_mixture"] = start if begin == "mixture" else model.noise.with_latent(start, codes)
    chains, refusal = _run(model, start, generator, progress)
    noise = {key: eps.cpu() for key, eps in noise.items()}
    if chains is not None:
        noise["vaebm"] = chains.end
    energies, broken = _energies(model, model.add_noise(held_out.to(model.device), generator), noise)
    return Exhibits(model, held_out, noise, begin, chains, refusal, energies, broken)


def _how_many(data: DataSet) -> int:
    if data.modality is POINTS:
        return POINT_CHAINS
    return max(MIN_IMAGES, min(MAX_IMAGES, IMAGE_VALUES // torch.Size(data.shape).numel()))


def _start_of(model: NoiseSpaceModel) -> Start:
    base = model.energy_net.base
    if model.settings.init.importance_samples > 1 and model.corrects:
        return "chosen"
    if base is None:
        return "prior"
    return "mixture" if isinstance(base, MixtureEnergy) and base.correction is None else "latent_energy"


def _run(
    model: NoiseSpaceModel, start: Tensor, generator: torch.Generator, progress: Progress
) -> tuple[WatchedChains | None, str]:
    sampler = model.settings.sampler
    total = sampler.steps + sampler.warmup
    wanted = {*milestones(total), *film_steps(total, FRAMES)}
    try:
        with progress.task("chains", total, "steps") as task:
            return watch(model, start, generator, wanted, lambda _done, _total: task.advance(1)), ""
    except ValueError as reason:  # a model whose density is not finite: the report says so and shows the rest
        return None, str(reason)


def _energies(
    model: NoiseSpaceModel, held_out: Tensor, noise: dict[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, float]]:
    if not model.corrects:
        return {}, {}

    def of(rows: Tensor, to_pair: Callable[[Tensor], tuple[Tensor, Tensor | None]]) -> Tensor:
        parts = rows.split(CHAINS_AT_ONCE)
        return torch.cat([model.energy_over_base(*to_pair(part.to(model.device))).float().cpu() for part in parts])

    with torch.no_grad(), model.frozen(), model.autocast():
        reads_z = model.energy_net.correction.reads_z
        energies = {"held_out": of(held_out, lambda x: (x, model.vae.encode(x) if reads_z else None))}
        energies |= {str(key): of(eps, model.generate) for key, eps in noise.items()}
    finite = {key: e[e.isfinite()] for key, e in energies.items()}
    broken = {key: 1.0 - len(finite[key]) / len(e) for key, e in energies.items() if len(finite[key]) < len(e)}
    if not len(finite["held_out"]):
        return {}, broken
    middle = finite["held_out"].mean()
    return {key: e - middle for key, e in finite.items() if len(e)}, broken

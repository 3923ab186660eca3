"""Drawn samples: those of one subject, presented as a protocol asks, and some of them stored for pictures.

One draw of noise gives every presentation. Samples of a model go on where an interrupted drawing was stopped; held-out
data and their reconstructions are those of the floor (evaluation/held_out.py), the truth's those of the test split.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from vaebm.data import DataSet
from vaebm.data.splits import Split
from vaebm.evaluation.feature_space import some_of
from vaebm.evaluation.held_out import HeldOut
from vaebm.evaluation.metric import ROWS_AT_ONCE
from vaebm.evaluation.settings import View
from vaebm.evaluation.stored_draws import StoredDraws, energies_of_data, energies_of_draws, stored_rows
from vaebm.models import Model, NoiseSpaceModel, Show
from vaebm.models.base import Batches
from vaebm.models.draws import LONG_CHAINS
from vaebm.progress import Progress

FLOORS = ("held_out", "truth")
RECONSTRUCTION = "reconstruction"
TIMED_DRAWS = 1_000
STORED_SHOWS: tuple[Show, ...] = ("sample", "mean")


class Drawn(NamedTuple):
    """Samples of a subject.

    Args:
        shown: (n, *data_shape) on the CPU, by how they are presented.
        eps: their noise (n, dim); None of real data, and of models without.
        energies: (k,) of some of them, in nats, or None.
        seconds: for a thousand of them, or None.
    """

    shown: dict[Show | None, Tensor]
    eps: Tensor | None = None
    energies: Tensor | None = None
    seconds: float | None = None


class Kept(Batches, Protocol):
    """Batches of a drawing that go on where it was stopped, until they are of no use."""

    def discard(self) -> None: ...


class Drawing:
    """Draws and stores samples of the subjects of one model.

    Args:
        model: on its device.
        data: that it was trained on.
        held_out: the parts of the held-out data.
        seed: of the samples.
        n: how many are drawn of a subject.
        stored: where some are kept.
        batches: for a subject and a number, what keeps batches of chains.
        progress: told of what takes long.
    """

    def __init__(
        self,
        model: Model,
        data: DataSet,
        held_out: HeldOut,
        seed: int,
        n: int,
        stored: StoredDraws,
        batches: Callable[[str, int], Kept],
        progress: Progress,
    ) -> None:
        self.model, self.data, self.held_out, self.progress = model, data, held_out, progress
        self.seed, self.n, self.stored, self._batches = seed, n, stored, batches

    def samples(self, subject: str, shows: Sequence[View], few: int | None = None) -> Drawn:
        """Samples presented as `shows` say, in their order.

        Some of them are stored, with their pixel noise and as means, whatever is asked for, and with their energies.
        The seconds are of the drawing and of the first show. Of held-out data it is what is stored, (k, *data_shape).
        With `few`, only so many are drawn, for pictures alone.
        """
        if subject in FLOORS:
            real = self.real(subject)
            x = real.batch(stored_rows(len(real), self.data.shape)).x
            energies = energies_of_data(self.model, x, self.seed)
            self.stored.save(subject, {None: x}, energies, seed=self.seed)
            return Drawn({None: x}, energies=energies)
        generator, own = (torch.Generator(self.model.device).manual_seed(self.seed) for _ in range(2))
        began, seconds = time.perf_counter(), None
        eps, rows = self._noise(subject, generator, few)
        shown: dict[Show | None, Tensor] = {}
        for show in dict.fromkeys(self.model.show_of(subject, show) for show in shows if show != "scaled"):
            shown[show] = self.model.render(eps, show, generator).cpu()
            seconds = seconds or (time.perf_counter() - began) * TIMED_DRAWS / len(eps)
        kept = {show: x[rows] for show, x in shown.items()}
        kept |= {show: self.model.render(eps[rows], show, own) for show in self._stored(subject) if show not in kept}
        about = {"seed": self.seed, "n": len(eps)} | self.protocol(subject)
        energies = None if subject == RECONSTRUCTION else energies_of_draws(self.model, eps[rows])
        self.stored.save(subject, kept, energies, **about)
        return Drawn(shown, eps, energies, None if subject == RECONSTRUCTION else seconds)

    def presented(self, subject: str, show: View | None) -> Show | None:
        """What is made of samples for a show: without an energy, `denoised` is the mean."""
        if show is None or show == "scaled" or subject in FLOORS:
            return None
        return self.model.show_of(subject, show)

    def cut(self, subject: str, x: Tensor, n: int, draws: int) -> list[Tensor]:
        """Draws of n each; of held-out data and their reconstructions, n or as many as there are."""
        if subject in FLOORS:
            real = self.real(subject)
            return [real.batch(some_of(len(real), n)).x]
        return [x[some_of(len(x), n)]] if subject == RECONSTRUCTION else list(x[: n * draws].split(n))

    def real(self, subject: str) -> Split:
        """The data that a floor is of."""
        return self.data.test if subject == "truth" else self.held_out.floor

    def protocol(self, subject: str) -> dict[str, Any]:
        """How samples of chains are drawn, for the settings of measurements; of other subjects nothing."""
        if not isinstance(self.model, NoiseSpaceModel) or subject not in (self.model.subjects[0], LONG_CHAINS):
            return {}
        settings = self.model.settings
        return {
            "sampler": settings.sampler.model_dump(mode="json"),
            "latent_step_scale": settings.latent_step_scale,
            "fix_codes": settings.fix_codes,
            "start": settings.init.model_dump(mode="json"),
        }

    def discard(self, subject: str) -> None:
        """Drops what was kept of an interrupted drawing."""
        self._batches(subject, self.n).discard()

    def _noise(self, subject: str, generator: torch.Generator, few: int | None) -> tuple[Tensor, Tensor]:
        """Noise (n, dim), and which rows of it are stored."""
        if subject == RECONSTRUCTION:
            count = len(self.held_out.floor)
            rows = stored_rows(count, self.data.shape)
            if few is None:
                return self._posterior_noise(torch.arange(count), generator), rows
            eps = self._posterior_noise(rows[:few], generator)
            return eps, torch.arange(len(eps))
        n = few or self.n
        goes_on = few is None and isinstance(self.model, NoiseSpaceModel)
        kept = {"batches": self._batches(subject, n)} if goes_on else {}
        return self.model.draw(n, generator, subject, self.progress, **kept), stored_rows(n, self.data.shape)

    @torch.no_grad()
    def _posterior_noise(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Noise (n, dim) of the images of the floor at `rows` (n,): codes from q(z | x), pixel noise from N(0, I)."""
        model, parts = self.model, []
        assert isinstance(model, NoiseSpaceModel)
        for some in rows.split(ROWS_AT_ONCE):
            with model.frozen(), model.autocast():
                z = model.vae.infer(self.held_out.floor.batch(some).x.to(model.device), generator).z
                codes = model.vae.latent_noise(z)
            parts.append(model.noise.with_latent(model.noise.standard(len(some), generator, codes), codes))
        return torch.cat(parts)

    def _stored(self, subject: str) -> list[Show]:
        """What is stored of samples, whatever is asked for."""
        own = self.model.show_of(subject)
        more = [show for show in STORED_SHOWS if show != own]
        return [own, *more] if isinstance(self.model, NoiseSpaceModel) else [own]

"""Evaluation: one run, measured by one protocol. Its kinds say what there is to measure: of images, and of points.

    held_out         real data that nothing was fitted to: the floor of images; of points it is the truth itself
    reconstruction   the VAE's, of held-out images: what its decoder can do
    vae, vae_mixture the same VAE without the energy, z from the prior, or from the mixture fitted to its codes
    vaebm            fresh chains

One draw of noise gives all that `evaluation.shows` names: the same samples with their pixel noise, as means, denoised.
Chains are kept on disk as they end, until what they are for is measured.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from vaebm.data import DataSet
from vaebm.experiment.recipe import Recipe
from vaebm.experiment.run_directory import Run
from vaebm.experiment.unfinished import Unfinished, request_of
from vaebm.metrics.measurement import Measurement
from vaebm.models import NoiseSpaceModel, Show
from vaebm.progress import Progress
from vaebm.vae import elbo

MAX_DRAW = 10_000
TIMED_DRAWS = 1_000
ELBO_DRAWS = 20
ROWS_AT_ONCE = 1000  # of images that a VAE sees together
SAMPLED: tuple[str, ...] = ("vae", "vae_mixture", "vaebm")
OF_NO_SHOW = ("elbo", "log_likelihood", "log_z", "seconds_per_thousand")  # what is shown of samples is nothing to them


class Wanted(NamedTuple):
    """One measurement of a subject: its name, the features that it is on, and what is shown of samples."""

    name: str
    features: str | None = None
    show: Show | None = None


Job = Callable[[Sequence[Wanted]], list[Measurement]]  # measures, of one subject, what is wanted, and may do more


class Evaluation(ABC):
    """One run and one protocol; features and samples are made when they are first needed.

    Attributes:
        names: of all measurements that there are for such data.
        n: samples in a draw.
        shows: what is shown of them, in the order of measuring.
    """

    names: ClassVar[tuple[str, ...]]

    def __init__(
        self, run: Run, recipe: Recipe, data: DataSet, model: NoiseSpaceModel, n: int | None, progress: Progress
    ) -> None:
        self.run, self.recipe, self.data, self.model, self.progress = run, recipe, data, model, progress
        self.n = n or recipe.evaluation.n or min(len(data.test), MAX_DRAW)
        self.draws, self.seed = recipe.evaluation.draws, recipe.evaluation.seed
        self.shows: tuple[Show, ...] = tuple(recipe.evaluation.shows or [recipe.show])
        self._unfinished: Unfinished | None = None

    @abstractmethod
    def jobs(self) -> list[tuple[str, Job]]:
        """By subject, in the order of the tables."""

    @abstractmethod
    def wanted(self, subject: str) -> list[Wanted]:
        """All that applies to a subject, in the order of measuring."""

    def protocol(self, subject: str, wanted: Wanted) -> dict[str, Any]:
        """What a measurement's settings say beside the metric's own."""
        protocol: dict[str, Any] = {"seed": self.seed, "samples_asked": self.n, "draws": self.draws}
        if wanted.show is not None:
            protocol["show"] = wanted.show
        if subject == "vaebm":
            protocol["sampler"] = self.model.settings.sampler.model_dump(mode="json")
            protocol["latent_step_scale"] = self.model.settings.latent_step_scale
            protocol["fix_codes"] = self.model.settings.fix_codes
            protocol["start"] = self.model.settings.init.model_dump(mode="json")
        return protocol

    def discard_draw(self) -> None:
        """What was measured need not be drawn again."""
        if self._unfinished is not None:
            self._unfinished.discard()

    def _presented(self, subject: str, wanted: Iterable[Wanted]) -> dict[Show, list[Show]]:
        """What has to be made of samples, and the shows that it serves: without an energy, `denoised` is the mean."""
        serves: dict[Show, list[Show]] = {}
        for show in dict.fromkeys(w.show for w in wanted if w.show is not None):
            serves.setdefault(self.model.show_of(subject, show), []).append(show)
        return serves

    def _draw(self, subject: str, n: int, presented: Iterable[Show]) -> tuple[dict[Show, Tensor], Measurement]:
        """Of one draw of noise the samples (n, *data_shape), on the CPU, as they are presented; and the time it took.

        That is of the draw itself and of what the first of `shows` makes of it.
        """
        generator = torch.Generator(self.model.device).manual_seed(self.seed)
        out = self.run.path / "samples" / f"evaluation-{subject}"
        self._unfinished = Unfinished(out, request_of(self.run, self.model, n, self.seed))
        started = time.perf_counter()
        eps = self.model.draw(n, generator, subject, self.progress, self._unfinished)
        first = self.model.show_of(subject, self.shows[0])
        shown = {first: self.model.render(eps, first, generator).cpu()}
        seconds = (time.perf_counter() - started) * TIMED_DRAWS / n
        for show in presented:
            if show not in shown:
                shown[show] = self.model.render(eps, show, generator).cpu()
        machine = {"device": str(self.model.device), "threads": torch.get_num_threads()}
        return shown, Measurement("seconds_per_thousand", seconds, 0.0, n, machine, subject)

    @torch.no_grad()
    def _elbo(self) -> Measurement:
        """Mean over held-out points and draws from q(z | x); the error is over points."""
        generator = torch.Generator(self.model.device).manual_seed(self.seed)
        test = self.data.test
        rows = torch.arange(min(len(test), MAX_DRAW)).split(ROWS_AT_ONCE)
        batches = [test.batch(part).x.to(self.model.device) for part in rows]
        draws = [[elbo(self.model.vae, x, generator).value for _ in range(ELBO_DRAWS)] for x in batches]
        values = torch.cat([torch.stack(bounds).mean(0) for bounds in draws]).double()
        stderr = float(values.std() / len(values) ** 0.5)
        settings = {"draws_each": ELBO_DRAWS, "split": "test"}
        return Measurement("elbo", float(values.mean()), stderr, len(values), settings, "vae")

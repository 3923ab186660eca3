"""What is measured of images: on the recipe's yardsticks, and by its census, of every subject by the same rules.

The yardsticks (experiment/yardstick.py) compare features with those of training images; the census
(experiment/census.py) counts pixels and classes. A set of few held-out images is measured as the mean over several
draws of as many samples. All draws of a subject are cut from one, as large as the largest of them asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vaebm import metrics
from vaebm.data import DataSet
from vaebm.errors import InputError
from vaebm.experiment import census, yardstick
from vaebm.experiment.census import Census
from vaebm.experiment.evaluation import ROWS_AT_ONCE, SAMPLED, Evaluation, Job, Wanted
from vaebm.experiment.recipe import Recipe
from vaebm.experiment.run_directory import Run
from vaebm.experiment.yardstick import AnyClassifier, FeaturesName, Yardstick, YardstickSettings
from vaebm.metrics.measurement import Measurement
from vaebm.metrics.stacked_classifier import is_stacked
from vaebm.models import NoiseSpaceModel, Show
from vaebm.progress import Progress


class ImageEvaluation(Evaluation):
    """Of images; see `Evaluation`."""

    names = (*yardstick.NAMES, *census.NAMES, "elbo", "seconds_per_thousand")

    def __init__(
        self, run: Run, recipe: Recipe, data: DataSet, model: NoiseSpaceModel, n: int | None, progress: Progress
    ) -> None:
        super().__init__(run, recipe, data, model, n, progress)
        self.yardsticks = self._yardsticks(n)
        self.census = Census(n or recipe.evaluation.statistics_n or self.n, data, self.classifier)
        self.n = max(self.census.n, *(yardstick.n for yardstick in self.yardsticks))

    def protocol(self, subject: str, wanted: Wanted) -> dict[str, Any]:
        protocol = super().protocol(subject, wanted)
        if wanted.name in census.NAMES:
            return protocol | self.census.protocol
        on = next((yardstick for yardstick in self.yardsticks if yardstick.name == wanted.features), None)
        return protocol if on is None else protocol | on.protocol(wanted.name)

    def wanted(self, subject: str) -> list[Wanted]:
        shows: tuple[Show | None, ...] = (None,) if subject == "held_out" else self.shows
        looks = [Wanted(name, yardstick.name) for yardstick in self.yardsticks for name in yardstick.names]
        looks += [Wanted(name) for name in self.census.names]
        further = {"vae": [Wanted("elbo")], "vaebm": [Wanted("seconds_per_thousand")]}
        return [look._replace(show=show) for show in shows for look in looks] + further.get(subject, [])

    def jobs(self) -> list[tuple[str, Job]]:
        sampled: list[tuple[str, Job]] = [(subject, partial(self._sampled, subject)) for subject in SAMPLED]
        return [("held_out", self._held_out), ("reconstruction", self._reconstruction), *sampled]

    def classifier(self) -> AnyClassifier:
        """The recipe's own, trained where that has not been done; of stacked digits, one of digits."""
        stacked = is_stacked(self.data)
        path = self.run.path / "model" / ("digit_classifier" if stacked else "classifier")
        path = path.with_suffix(".safetensors")
        if path.exists():
            kept = metrics.Classifier.load(path)
            return metrics.StackedClassifier(kept, self.data.shape[0]) if stacked else kept
        assert self.data.class_names is not None
        self.progress.say("Training the classifier by which images are measured.")
        if stacked:
            of_stacks = metrics.train_stacked_classifier(self.data.train)
            of_stacks.digits.save(path)
            return of_stacks
        classifier = metrics.train_classifier(self.data.train, len(self.data.class_names))
        classifier.save(path)
        return classifier

    def _yardsticks(self, n: int | None) -> list[Yardstick]:
        """The recipe's, or its own features: its classifier's where there are labels, else pixels. `n` overrides."""
        has_labels = self.data.train.labels is not None and self.data.class_names is not None
        own: FeaturesName = "classifier" if has_labels else "pixels"
        chosen = self.recipe.evaluation.features or {own: YardstickSettings()}
        if "classifier" in chosen and not has_labels:
            raise InputError(
                f"evaluation.features names classifier, but {self.data.name} has no labels to train it on: use pixels"
            )
        return [
            Yardstick(
                name,
                settings if n is None else settings.model_copy(update={"n": n}),
                self.n,
                self.data,
                self.classifier,
                self.model.device,
                self.progress,
            )
            for name, settings in chosen.items()
        ]

    def _held_out(self, wanted: Sequence[Wanted]) -> list[Measurement]:
        found: list[Measurement] = []
        for on in self.yardsticks:
            if names := _names_on(on, wanted):
                found += on.of_held_out(names)
        if names := _counts(wanted):
            found += self.census.of_held_out(names)
        return [m.with_subject("held_out") for m in found]

    def _reconstruction(self, wanted: Sequence[Wanted]) -> list[Measurement]:
        # Pixel noise has a generator of its own, so that codes are the same whatever is shown of them.
        codes, noise = (torch.Generator(self.model.device).manual_seed(self.seed + i) for i in range(2))
        presented = self._presented("vae", wanted)
        shown: dict[Show, list[Tensor]] = {show: [] for show in presented}
        for x in self.data.test.chunks(ROWS_AT_ONCE):
            with torch.no_grad():
                pixels = self.model.vae.reconstruct(x.to(self.model.device), codes)[1]
                for show, images in shown.items():
                    images.append((pixels.sample(noise) if show == "sample" else pixels.center).cpu())
        whole = {show: torch.cat(images) for show, images in shown.items()}
        return self._look("reconstruction", whole, presented, wanted)

    def _sampled(self, subject: str, wanted: Sequence[Wanted]) -> list[Measurement]:
        found = [self._elbo()] if Wanted("elbo") in wanted else []
        if not set(wanted) - {Wanted("elbo")}:
            return found
        presented = self._presented(subject, wanted)
        shown, seconds = self._draw(subject, self.n * self.draws, presented)
        return [*found, *self._look(subject, shown, presented, wanted), seconds]

    def _look(
        self,
        subject: str,
        shown: Mapping[Show, Tensor],
        presented: Mapping[Show, Sequence[Show]],
        wanted: Sequence[Wanted],
    ) -> list[Measurement]:
        """What is wanted of images as they are presented, for every show that this serves."""
        found = []
        for present, shows in presented.items():
            chosen = [w for w in wanted if w.show in shows]
            of_images: list[Measurement] = []
            for on in self.yardsticks:
                if names := _names_on(on, chosen):
                    of_images += on.of_draws(self._draws_for(on, subject, shown[present]), names)
            if names := _counts(chosen):
                of_images += self.census.of_draws(self._draws_for(self.census, subject, shown[present]), names)
            found += [m.with_subject(subject).with_settings(show=show) for show in shows for m in of_images]
        return found

    def _draws_for(self, on: Yardstick | Census, subject: str, x: Tensor) -> Sequence[Tensor]:
        """Images cut into what is looked at; of reconstructions, those of the held-out images that are."""
        return [x[on.held_out]] if subject == "reconstruction" else x[: on.n * self.draws].split(on.n)


def _names_on(on: Yardstick, wanted: Sequence[Wanted]) -> list[str]:
    return [w.name for w in wanted if w.features == on.name]


def _counts(wanted: Sequence[Wanted]) -> list[str]:
    return [w.name for w in wanted if w.name in census.NAMES]

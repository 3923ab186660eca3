"""One evaluation: what is missing of a model's measurements, measured by one protocol for every subject, resumed.

    held_out         real data that nothing was fitted to: the floor; where their density is known it is the `truth`
    reconstruction   the VAE's, of held-out images: what its decoder can do
    vae, vae_mixture, ...   the model's baselines
    vaebm            the model itself: fresh chains

One draw of noise gives all that `evaluation.shows` names: the same samples with their pixel noise, as means, denoised.
All draws of a subject are cut from one, as large as the largest number that is asked for. What was drawn is stored for
pictures (evaluation/stored_draws.py).

A measurement by the same protocol is not made again, so a stopped evaluation goes on. One by another protocol replaces
that of the same name, subject, features and show.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from vaebm import metrics
from vaebm.data import DataSet
from vaebm.errors import InputError, check_choice
from vaebm.evaluation.feature_space import AnyClassifier, FeatureSpace, some_of
from vaebm.evaluation.metric import METRICS, ROWS_AT_ONCE, Given, Metric, is_shown, on_features
from vaebm.evaluation.settings import EvaluationSettings, FeatureSettings, FeaturesName
from vaebm.evaluation.statistics import has_classes
from vaebm.evaluation.stored_draws import StoredDraws, energies_of_data, energies_of_draws, stored_rows
from vaebm.metrics.classifier import is_stacked
from vaebm.metrics.measurement import Measurement
from vaebm.models import Model, NoiseSpaceModel, Show
from vaebm.models.base import Batches
from vaebm.progress import Progress
from vaebm.wording import did_you_mean

FLOORS = ("held_out", "truth")
MAX_DRAW = 10_000
TIMED_DRAWS = 1_000
STORED_SHOWS: tuple[Show, ...] = ("sample", "mean")


class Wanted(NamedTuple):
    """One measurement of a subject: its name, the features that it is on, and what is shown of samples."""

    name: str
    features: str | None = None
    show: Show | None = None

    @classmethod
    def answered_by(cls, measured: Measurement) -> "Wanted":
        """What a measurement answers."""
        show = measured.settings.get("show") if is_shown(measured.name) else None
        return cls(measured.name, measured.settings.get("features"), show)


class Kept(Batches, Protocol):
    """Batches of a drawing that go on where it was stopped, until they are of no use."""

    def discard(self) -> None: ...


class Evaluation:
    """One model and one protocol; features and samples are made when they are first needed.

    Args:
        model: on its device.
        data: that it was trained on.
        settings: the protocol.
        n: samples in a draw, whatever the protocol says.
        folder: where the classifier is kept or made.
        stored: where draws are stored.
        batches: for a subject and a number, what keeps batches of chains.
        progress: told of what takes long.

    Raises:
        InputError: features that the data do not have.
    """

    def __init__(
        self,
        model: Model,
        data: DataSet,
        settings: EvaluationSettings,
        n: int | None,
        folder: Path,
        stored: StoredDraws,
        batches: Callable[[str, int], Kept],
        progress: Progress,
    ) -> None:
        self.model, self.data, self.settings, self.progress = model, data, settings, progress
        self.folder, self.stored, self._batches = folder, stored, batches
        self.seed, self.draws = settings.seed, settings.draws
        self.shows: tuple[Show, ...] = tuple(settings.shows or [model.show_of(self.own)])
        least = n or settings.n or min(len(data.test), MAX_DRAW)
        self.spaces = self._spaces(n, least)
        self.statistics_n = n or settings.statistics_n or least
        self.n = max([self.statistics_n, *(space.n for space in self.spaces)])

    @property
    def own(self) -> str:
        """The subject that is the model itself."""
        return self.model.subjects[0]

    @property
    def subjects(self) -> list[str]:
        """In the order of measuring: the floor, the baselines, the model. Chains' starts are not measured."""
        known = self.data.truth is not None
        first = ["truth"] if known else ["held_out"]
        if not known and isinstance(self.model, NoiseSpaceModel):
            first.append("reconstruction")
        return [*first, *(subject for subject in self.model.subjects[1:] if subject != "start"), self.own]

    @property
    def names(self) -> list[str]:
        """Of all measurements that there are for these data and this model."""
        return list(dict.fromkeys(w.name for subject in self.subjects for w in self.wanted(subject)))

    def wanted(self, subject: str) -> dict[Wanted, Metric]:
        """All that applies to a subject, in the order of measuring."""
        shows: tuple[Show | None, ...] = (None,) if subject in FLOORS else self.shows
        applying = [metric for metric in METRICS if metric.applies(subject, self.data, self.model)]
        on_samples = [metric for metric in applying if metric.is_shown and "features" not in metric.needs]
        views: list[tuple[str | None, Show | None, list[Metric]]] = []
        for show in shows:
            views += [(space.name, show, [m for m in on_features(space) if m in applying]) for space in self.spaces]
            views.append((None, show, on_samples))
        views.insert(0, (None, None, [metric for metric in applying if not metric.draws]))
        views.append((None, None, [metric for metric in applying if "time" in metric.needs]))
        return {
            Wanted(name, features, show): metric
            for features, show, found in views
            for metric in found
            for name in metric.names
        }

    def protocol(self, subject: str, wanted: Wanted, metric: Metric) -> dict[str, Any]:
        """What a measurement's settings say beside the metric's own."""
        protocol: dict[str, Any] = {"seed": self.seed, "samples_asked": self.n, "draws": self.draws}
        if wanted.show is not None:
            protocol["show"] = wanted.show
        if subject == self.own:
            protocol |= self._drawing()
        if wanted.features is not None:
            space = next(space for space in self.spaces if space.name == wanted.features)
            return protocol | space.protocol(metric.balls)
        return protocol | ({"samples_asked": self.statistics_n} if metric.is_shown else {})

    def measure_missing(
        self,
        done: list[Measurement],
        names: Sequence[str] | None,
        subjects: Sequence[str] | None,
        keep: Callable[[list[Measurement]], None],
        first_show: Show,
    ) -> list[Measurement]:
        """Measures what `done` lacks; returns all of it.

        Args:
            done: what was measured before.
            names: of measurements; all that apply unless given.
            subjects: whose; all unless given.
            keep: gets all measurements whenever a subject is done.
            first_show: what stands first among measurements of several shows.

        Raises:
            InputError: an unknown name or subject, or none.
        """
        if (names is not None and not names) or (subjects is not None and not subjects):
            raise InputError("nothing is named to measure: name a measurement, or leave out the choice for all")
        for name in names or ():
            if name not in self.names:
                raise InputError(f"there is no measurement {name!r} for these data: {did_you_mean(name, self.names)}")
        for subject in subjects or ():
            check_choice("subject", subject, self.subjects)
        chosen = [subject for subject in self.subjects if subjects is None or subject in subjects]
        with self.progress.task("evaluation", len(chosen), "subjects") as task:
            for subject in chosen:
                missing: dict[Wanted, Metric] = {}
                protocols: dict[Wanted, dict[str, Any]] = {}
                for wanted, metric in self.wanted(subject).items():
                    protocol = self.protocol(subject, wanted, metric)
                    if (names is None or wanted.name in names) and not _has(done, subject, wanted, protocol):
                        missing[wanted], protocols[wanted] = metric, protocol
                if missing:
                    found = [m for m in self.measure(subject, missing) if Wanted.answered_by(m) in missing]
                    fresh = [m.with_settings(**protocols[Wanted.answered_by(m)]) for m in found]
                    replaced = {(subject, Wanted.answered_by(m)) for m in fresh}
                    done = [old for old in done if (old.subject, Wanted.answered_by(old)) not in replaced] + fresh
                    done.sort(key=lambda m: m.settings.get("show") not in (None, first_show))
                    keep(done)
                    self.discard(subject)
                task.advance()
        return done

    def measure(self, subject: str, missing: Mapping[Wanted, Metric]) -> list[Measurement]:
        """What is missing of a subject, and what comes with it."""
        chosen, asked = list(dict.fromkeys(missing.values())), list(dict.fromkeys(w.show for w in missing))
        alone = Given(subject, self.data, self.model, self.seed)
        found = [m for metric in chosen if not metric.draws for m in metric.measure(alone)]
        if any(metric.draws for metric in chosen):
            shown, seconds = self.samples(subject, asked)
            for presented, x in shown.items():
                shows = [show for show in asked if self._presented(subject, show) == presented]
                looked = self._look(subject, x, {w: metric for w, metric in missing.items() if w.show in shows})
                found += [m if show is None else m.with_settings(show=show) for show in shows for m in looked]
            drawn = Given(subject, self.data, self.model, self.seed, [*shown.values()][:1], seconds=seconds)
            found += [m for metric in chosen if "time" in metric.needs for m in metric.measure(drawn)]
        return [m.with_subject(subject) for m in found]

    def samples(
        self, subject: str, shows: Sequence[Show | None] = (), few: int | None = None
    ) -> tuple[dict[Show | None, Tensor], float | None]:
        """Samples (n, *data_shape), on the CPU, by how they are presented; and seconds for a thousand.

        Some of them are stored, with their pixel noise and as means, whatever is measured, and with their energies. The
        seconds are of the drawing and of what the first of the evaluation's shows makes of it. Of held-out data it is
        what is stored, (k, *data_shape). With `few`, only so many are drawn, for pictures alone.
        """
        asked = [*self.shows, *(show for show in shows if show is not None)]
        presented = list(dict.fromkeys(self._presented(subject, show) for show in asked))
        if subject in FLOORS:
            x = self.data.test.batch(stored_rows(len(self.data.test), self.data.shape)).x
            self.stored.save(subject, {None: x}, energies_of_data(self.model, x, self.seed), seed=self.seed)
            return {None: x}, None
        if subject == "reconstruction":
            rows = stored_rows(len(self.data.test), self.data.shape)[:few]
            batches = self.data.test.chunks(ROWS_AT_ONCE) if few is None else [self.data.test.batch(rows).x]
            shown = self._reconstructions(list(dict.fromkeys([*presented, *self._stored_shows(subject)])), batches)
            kept = {show: x[rows] if few is None else x for show, x in shown.items()}
            self.stored.save(subject, kept, seed=self.seed, n=len(shown[presented[0]]))
            return {show: shown[show] for show in presented}, None
        n, seconds = few or self.n * self.draws, None
        generator, own = (torch.Generator(self.model.device).manual_seed(self.seed) for _ in range(2))
        goes_on = few is None and isinstance(self.model, NoiseSpaceModel)
        kept_batches = {"batches": self._batches(subject, n)} if goes_on else {}
        began = time.perf_counter()
        eps = self.model.draw(n, generator, subject, self.progress, **kept_batches)
        shown = {}
        for show in presented:
            assert show is not None
            shown[show] = self.model.render(eps, show, generator).cpu()
            seconds = seconds or (time.perf_counter() - began) * TIMED_DRAWS / n
        rows = stored_rows(n, self.data.shape)
        kept = {show: x[rows] for show, x in shown.items()}
        kept |= {
            show: self.model.render(eps[rows], show, own) for show in self._stored_shows(subject) if show not in kept
        }
        about = {"seed": self.seed, "n": n} | (self._drawing() if subject == self.own else {})
        self.stored.save(subject, kept, energies_of_draws(self.model, eps[rows]), **about)
        return shown, seconds

    def discard(self, subject: str) -> None:
        self._batches(subject, self.n * self.draws).discard()

    def classifier(self) -> AnyClassifier:
        """The recipe's own, trained where that has not been done; of stacked digits, one of digits."""
        stacked = is_stacked(self.data)
        path = self.folder / ("digit_classifier.safetensors" if stacked else "classifier.safetensors")
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

    def _look(self, subject: str, x: Tensor, wanted: Mapping[Wanted, Metric]) -> list[Measurement]:
        found: list[Measurement] = []
        for space in [*self.spaces, None]:
            name = None if space is None else space.name
            if chosen := dict.fromkeys(m for w, m in wanted.items() if m.is_shown and w.features == name):
                draws = self._cut(subject, x, self.statistics_n if space is None else space.n)
                given = Given(subject, self.data, self.model, self.seed, draws, space, self.classifier)
                of_space = {} if space is None else space.features.settings | {"split": "train"}
                found += [m.with_settings(**of_space) for metric in chosen for m in metric.measure(given)]
        return found

    def _cut(self, subject: str, x: Tensor, n: int) -> list[Tensor]:
        """Draws of n each; of held-out data and their reconstructions, n or as many as there are."""
        held_out = some_of(len(self.data.test), n)
        if subject in FLOORS:
            return [self.data.test.batch(held_out).x]
        return [x[held_out]] if subject == "reconstruction" else list(x[: n * self.draws].split(n))

    def _stored_shows(self, subject: str) -> list[Show]:
        """What is stored of samples, whatever is measured of them."""
        own = self.model.show_of(subject)
        return (
            [own, *(show for show in STORED_SHOWS if show != own)] if isinstance(self.model, NoiseSpaceModel) else [own]
        )

    def _presented(self, subject: str, show: Show | None) -> Show | None:
        """What is made of samples for a show: without an energy, `denoised` is the mean."""
        return None if show is None or subject in FLOORS else self.model.show_of(subject, show)

    @torch.no_grad()
    def _reconstructions(
        self, presented: Sequence[Show | None], batches: Iterable[Tensor]
    ) -> dict[Show | None, Tensor]:
        assert isinstance(self.model, NoiseSpaceModel)
        # Pixel noise has a generator of its own, so that codes are the same whatever is shown of them.
        codes, noise = (torch.Generator(self.model.device).manual_seed(self.seed + i) for i in range(2))
        shown: dict[Show | None, list[Tensor]] = {show: [] for show in presented}
        for x in batches:
            likelihood = self.model.vae.reconstruct(x.to(self.model.device), codes)[1]
            for show, parts in shown.items():
                parts.append((likelihood.sample(noise) if show == "sample" else likelihood.center).cpu())
        return {show: torch.cat(parts) for show, parts in shown.items()}

    def _drawing(self) -> dict[str, Any]:
        if not isinstance(self.model, NoiseSpaceModel):
            return {}
        settings = self.model.settings
        return {
            "sampler": settings.sampler.model_dump(mode="json"),
            "latent_step_scale": settings.latent_step_scale,
            "fix_codes": settings.fix_codes,
            "start": settings.init.model_dump(mode="json"),
        }

    def _spaces(self, n: int | None, least: int) -> list[FeatureSpace]:
        """The recipe's, or its own features: its classifier's where there are labels, else pixels. `n` overrides."""
        if not self.data.modality.pictured:
            return []
        own: FeaturesName = "classifier" if has_classes(self.data) else "pixels"
        chosen = self.settings.features or {own: FeatureSettings()}
        if "classifier" in chosen and not has_classes(self.data):
            raise InputError(
                f"evaluation.features names classifier, but {self.data.name} has no labels to train it on: use pixels"
            )
        more = (least, self.data, self.classifier, self.model.device, self.progress)
        override = {} if n is None else {"n": n}
        return [FeatureSpace(name, settings.model_copy(update=override), *more) for name, settings in chosen.items()]


def _has(done: Sequence[Measurement], subject: str, wanted: Wanted, protocol: Mapping[str, Any]) -> bool:
    same = [m for m in done if m.subject == subject and Wanted.answered_by(m) == wanted]
    return any(protocol.items() <= m.settings.items() for m in same)

"""One evaluation: what is missing of a model's measurements, measured by one protocol for every subject, resumed.

    held_out         real data that nothing was fitted to: the floor (evaluation/held_out.py); where their density is
                     known it is the `truth`
    reconstruction   the VAE's, of the floor's images: what its decoder can do
    vae, vae_mixture the model's baselines
    start            where chains begin, without a chain, at the chains' own pixel noise: the baseline to beat
    vaebm            the model itself: fresh chains
    vaebm_long       chains of the same sampler, several times as long, where the protocol asks for them

One draw of noise gives all that `evaluation.shows` names: the same samples with their pixel noise, with that at its
best scale, as means, denoised. All draws of a subject are cut from one, as large as the largest number that is asked
for. What was drawn is stored for pictures (evaluation/stored_draws.py).

A measurement by the same protocol is not made again, so a stopped evaluation goes on. One by another protocol replaces
that of the same name, subject, features and show.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vaebm import metrics
from vaebm.data import DataSet
from vaebm.errors import InputError, check_choice
from vaebm.evaluation.drawn import FLOORS, RECONSTRUCTION, Drawing, Drawn, Kept
from vaebm.evaluation.energy_law import EnergyLaw, energy_law
from vaebm.evaluation.feature_space import AnyClassifier, FeatureSpace, some_of
from vaebm.evaluation.held_out import HeldOut
from vaebm.evaluation.metric import METRICS, Given, Metric, is_shown, on_features
from vaebm.evaluation.settings import EvaluationSettings, FeatureSettings, FeaturesName, View
from vaebm.evaluation.statistics import has_classes
from vaebm.evaluation.stored_draws import StoredDraws
from vaebm.metrics.classifier import is_stacked
from vaebm.metrics.measurement import Measurement
from vaebm.models import Model, NoiseSpaceModel, Show
from vaebm.models.draws import LONG_CHAINS
from vaebm.progress import Progress
from vaebm.wording import did_you_mean

MAX_DRAW = 10_000
SCALED: View = "scaled"


class Wanted(NamedTuple):
    """One measurement of a subject: its name, the features that it is on, and what is shown of samples."""

    name: str
    features: str | None = None
    show: View | None = None

    @classmethod
    def answered_by(cls, measured: Measurement) -> "Wanted":
        """What a measurement answers."""
        show = measured.settings.get("show") if is_shown(measured.name) else None
        return cls(measured.name, measured.settings.get("features"), show)


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
        self.folder = folder
        self.seed, self.draws = settings.seed, settings.draws
        self.shows: tuple[View, ...] = tuple(settings.shows or self._shows())
        self.held_out = HeldOut.of(data)
        least = n or settings.n or min(len(data.test), MAX_DRAW)
        self.spaces = self._spaces(n, least)
        self.statistics_n = n or settings.statistics_n or least
        self.n = max([self.statistics_n, *(space.n for space in self.spaces)])
        total = self.n * self.draws
        self.drawing = Drawing(model, data, self.held_out, settings.seed, total, stored, batches, progress)

    @property
    def own(self) -> str:
        """The subject that is the model itself."""
        return self.model.subjects[0]

    @property
    def subjects(self) -> list[str]:
        """In the order of measuring: the floor, the baselines, the model."""
        known = self.data.truth is not None
        first = ["truth"] if known else ["held_out"]
        own = [self.own]
        others = [subject for subject in self.model.subjects if subject not in (self.own, LONG_CHAINS)]
        if isinstance(self.model, NoiseSpaceModel):
            first += [] if known or not self.model.vae.latent_dim else [RECONSTRUCTION]
            others = [subject for subject in others if subject != "start" or self.model.corrects]
            own += [LONG_CHAINS] if self.settings.check_length and LONG_CHAINS in self.model.subjects else []
        return [*first, *others, *own]

    @cached_property
    def law(self) -> EnergyLaw | None:
        """What is known of h without a chain."""
        assert isinstance(self.model, NoiseSpaceModel)
        return energy_law(self.model, self.seed, self.progress, self.settings.annealing)

    @property
    def names(self) -> list[str]:
        """Of all measurements that there are for these data and this model."""
        return list(dict.fromkeys(w.name for subject in self.subjects for w in self.wanted(subject)))

    def wanted(self, subject: str) -> dict[Wanted, Metric]:
        """All that applies to a subject, in the order of measuring."""
        shows: tuple[View | None, ...] = (None,) if subject in FLOORS else self.shows
        applying = [metric for metric in METRICS if metric.applies(subject, self.data, self.model)]
        on_samples = [metric for metric in applying if metric.is_shown and "features" not in metric.needs]
        views: list[tuple[str | None, View | None, list[Metric]]] = []
        for show in shows:
            views += [(space.name, show, [m for m in on_features(space) if m in applying]) for space in self.spaces]
            views += [(None, show, on_samples)] if show != SCALED else []
        views.insert(0, (None, None, [metric for metric in applying if not metric.draws]))
        views.append((None, None, [metric for metric in applying if metric.draws and not metric.is_shown]))
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
        protocol |= self.drawing.protocol(subject)
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
                    self.drawing.discard(subject)
                task.advance()
        return done

    def measure(self, subject: str, missing: Mapping[Wanted, Metric]) -> list[Measurement]:
        """What is missing of a subject, and what comes with it."""
        chosen = list(dict.fromkeys(missing.values()))
        alone = Given(subject, self.data, self.model, self.seed, law=lambda: self.law)
        found = [m for metric in chosen if not metric.draws for m in metric.measure(alone)]
        if any(metric.draws for metric in chosen):
            asked = list(dict.fromkeys(w.show for w in missing))
            drawn = self.samples(subject, [show for show in asked if show is not None and show != SCALED])
            for presented, x in drawn.shown.items():
                shows = [
                    show for show in asked if show != SCALED and self.drawing.presented(subject, show) == presented
                ]
                looked = self._look(subject, x, {w: metric for w, metric in missing.items() if w.show in shows})
                found += [m if show is None else m.with_settings(show=show) for show in shows for m in looked]
            found += self._scaled(subject, drawn, {w: m for w, m in missing.items() if w.show == SCALED})
            given = Given(
                subject,
                self.data,
                self.model,
                self.seed,
                [*drawn.shown.values()][:1],
                seconds=drawn.seconds,
                energies=drawn.energies,
                law=lambda: self.law,
            )
            found += [m for metric in chosen if metric.draws and not metric.is_shown for m in metric.measure(given)]
        return [m.with_subject(subject) for m in found]

    def samples(self, subject: str, shows: Sequence[View] = (), few: int | None = None) -> Drawn:
        """Samples of a subject, presented in the ways that the evaluation or `shows` name (evaluation/drawn.py)."""
        asked = [show for show in (*self.shows, *shows) if show != SCALED]
        return self.drawing.samples(subject, asked, few)

    def _scaled(self, subject: str, drawn: Drawn, wanted: Mapping[Wanted, Metric]) -> list[Measurement]:
        """Metrics on features of samples at the scale of pixel noise that serves the subject best on each of these."""
        found: list[Measurement] = []
        for space in self.spaces:
            of_space = {w: metric for w, metric in wanted.items() if w.features == space.name}
            if not of_space:
                continue
            model, eps = self.model, drawn.eps
            assert isinstance(model, NoiseSpaceModel)
            assert eps is not None
            chosen = eps[some_of(len(eps), space.n)] if subject == RECONSTRUCTION else eps[: space.n * self.draws]

            def rendered(scale: float, count: int, chosen: Tensor = chosen, model: NoiseSpaceModel = model) -> Tensor:
                generator = torch.Generator(model.device).manual_seed(self.seed)
                return model.render(chosen[:count], "sample", generator, scale).cpu()

            scale = space.noise_scale(rendered)
            looked = self._look(subject, rendered(scale, len(chosen)), of_space)
            found += [m.with_settings(show=SCALED, noise_scale=scale) for m in looked]
        return found

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
                draws = self.drawing.cut(subject, x, self.statistics_n if space is None else space.n, self.draws)
                given = Given(subject, self.data, self.model, self.seed, draws, space, self.classifier)
                of_space = {} if space is None else space.features.settings | {"split": "test"}
                found += [m.with_settings(**of_space) for metric in chosen for m in metric.measure(given)]
        return found

    def _shows(self) -> list[View]:
        """The recipe's own, and scaled where that has pixel noise to scale."""
        own: View = self.model.show_of(self.own)
        scales = isinstance(self.model, NoiseSpaceModel) and self.model.noise.data_shape is not None
        return [own, SCALED] if own == "sample" and scales and self.data.modality.pictured else [own]

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
        more = (least, self.held_out, self.classifier, self.model.device, self.progress)
        override = {} if n is None else {"n": n}
        return [FeatureSpace(name, settings.model_copy(update=override), *more) for name, settings in chosen.items()]


def _has(done: Sequence[Measurement], subject: str, wanted: Wanted, protocol: Mapping[str, Any]) -> bool:
    same = [m for m in done if m.subject == subject and Wanted.answered_by(m) == wanted]
    return any(protocol.items() <= m.settings.items() for m in same)

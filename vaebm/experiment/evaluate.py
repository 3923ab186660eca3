"""Measuring a run: the model, what it is compared with, and held-out data as the floor, all by one protocol.

Images: Frechet and kernel distance to the training images, on the recipe's yardsticks (experiment/yardstick.py), of

    held_out         real images that nothing was fitted to: the floor
    reconstruction   the VAE's, of these: what its decoder can do
    vae, vae_mixture the same VAE without the energy, z from the prior, or from the mixture fitted to its codes
    vaebm            fresh chains

A set of few held-out images is measured as the mean over several draws of as many samples. Points: modes and, exactly
by quadrature, the log-likelihood of held-out points, for vae, vaebm and the truth. What is in measurements.json by the
same protocol is not measured again, so a stopped evaluation goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vaebm import metrics
from vaebm.data import DataSet
from vaebm.errors import InputError
from vaebm.experiment.quadrature import plane_quadrature
from vaebm.experiment.recipe import Recipe
from vaebm.experiment.run_directory import Run
from vaebm.experiment.sample import draw_samples
from vaebm.experiment.yardstick import FeaturesName, Yardstick, YardstickSettings
from vaebm.hybrid import VAEBM
from vaebm.hybrid.settings import Subject
from vaebm.metrics.measurement import Measurement
from vaebm.progress import Progress, silent
from vaebm.vae import elbo

LARGEST_DRAW = 10_000
TIMED_DRAWS = 1_000
ELBO_DRAWS = 20
ROWS_AT_ONCE = 1000  # of images that a VAE sees together
DISTANCES = ("frechet_distance", "kernel_distance")
IMAGE_NAMES = (*DISTANCES, "elbo", "seconds_per_thousand")
MODE_NAMES = ("modes_covered", "within_three_sigma", "mode_kl")
POINT_NAMES = ("log_likelihood", "log_z", *MODE_NAMES, "elbo", "seconds_per_thousand")
SPLITS = dict.fromkeys(DISTANCES, "train") | dict.fromkeys(("log_likelihood", "elbo"), "test")
SAMPLED: tuple[Subject, ...] = ("vae", "vae_mixture", "vaebm")

Wanted = tuple[str, str | None]  # the name of a measurement, and of the features that it is on
Job = tuple[str, Callable[[Sequence[Wanted]], list[Measurement]]]  # a subject, and what measures all that is wanted


def evaluate(
    run: Run,
    *,
    only: Sequence[str] | None = None,
    subjects: Sequence[str] | None = None,
    n: int | None = None,
    overrides: Sequence[str] = (),
    device: str | None = None,
    progress: Progress | None = None,
) -> list[Measurement]:
    """Measures what is not measured yet, into `RUN/measurements.json`; returns all of it.

    Args:
        only: names of measurements; all that apply unless given.
        subjects: whose; all unless given.
        n: samples in a draw; the recipe's, or as many as are held out, unless given.
        overrides: of the sampler, what is shown, or the evaluation.

    Raises:
        InputError: an unknown name, too few samples, or no model.
    """
    if n is not None and n < 2:
        raise InputError(f"n is {n}: measure at least 2 samples")
    progress = progress or silent()
    recipe, data = run.with_overrides(overrides), run.data()
    names = _known_names(only, IMAGE_NAMES if data.kind == "image" else POINT_NAMES)
    model = run.model(device)
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    model.settings = recipe.model_settings()
    evaluation = Evaluation(run, recipe, data, model, n, progress)
    done = run.measurements()
    jobs = evaluation.image_jobs() if data.kind == "image" else evaluation.point_jobs()
    jobs = [(subject, job) for subject, job in jobs if subjects is None or subject in subjects]
    with progress.task("evaluation", len(jobs), "subjects") as task:
        for subject, job in jobs:
            missing = [
                wanted
                for wanted in evaluation.wanted(subject)
                if wanted[0] in names and not _has(done, wanted[0], subject, evaluation.protocol(subject, wanted[1]))
            ]
            if missing:
                fresh = [
                    _by(evaluation.protocol(subject, features), measured)
                    for measured in job(missing)
                    if (measured.name, features := measured.settings.get("features")) in missing
                ]
                replaced = {_key(measured) for measured in fresh}
                done = [old for old in done if _key(old) not in replaced] + fresh
                run.save_measurements(done)
            task.advance()
    return done


class Evaluation:
    """One run measured by one protocol; features and samples are made when they are first needed."""

    def __init__(
        self, run: Run, recipe: Recipe, data: DataSet, model: VAEBM, n: int | None, progress: Progress
    ) -> None:
        self.run, self.recipe, self.data, self.model, self.progress = run, recipe, data, model, progress
        self.n = n or recipe.evaluation.n or min(len(data.test), LARGEST_DRAW)
        self.draws, self.seed = recipe.evaluation.draws, recipe.evaluation.seed
        self.yardsticks = self._yardsticks(n) if data.kind == "image" else []
        if self.yardsticks:
            self.n = max(yardstick.n for yardstick in self.yardsticks)

    def protocol(self, subject: str, features: str | None = None) -> dict[str, Any]:
        """What a measurement's settings say beside the metric's own."""
        protocol: dict[str, Any] = {"seed": self.seed, "samples_asked": self.n, "draws": self.draws}
        protocol |= next((yardstick.protocol for yardstick in self.yardsticks if yardstick.name == features), {})
        if subject in ("vae", "vae_mixture", "vaebm", "reconstruction"):
            protocol["show"] = self.model.settings.show
        if subject == "vaebm":
            protocol["sampler"] = self.model.settings.sampler.model_dump(mode="json")
            protocol["start"] = self.model.settings.start.model_dump(mode="json")
        return protocol

    def wanted(self, subject: str) -> list[Wanted]:
        """Measurements that apply to a subject."""
        if self.data.kind != "image":
            return [(name, None) for name in self._names_of_points(subject)]
        distances: list[Wanted] = [
            (name, yardstick.name) for yardstick in self.yardsticks for name in DISTANCES[: 1 + yardstick.has_kernel]
        ]
        further = {"vae": [("elbo", None)], "vaebm": [("seconds_per_thousand", None)]}
        return [*distances, *further.get(subject, [])]

    def _names_of_points(self, subject: str) -> list[str]:
        names = ["log_likelihood"] if subject == "truth" or (self.has_quadrature and subject != "vae_mixture") else []
        names += MODE_NAMES
        if subject == "vaebm":
            return names + ["log_z"] * self.has_quadrature + ["seconds_per_thousand"]
        return names + ["elbo"] * (subject == "vae")

    @property
    def has_quadrature(self) -> bool:
        """Whether the model's density can be integrated: points in the plane, few latents, a Gaussian decoder."""
        vae = self.model.vae
        return self.model.data_shape == (2,) and vae.latent_dim <= 2 and vae.likelihood.reparameterised

    # Images

    def image_jobs(self) -> list[Job]:
        """Subjects in the order of the tables."""
        sampled = [(subject, partial(self._sampled_images, subject)) for subject in SAMPLED]
        return [("held_out", self._held_out), ("reconstruction", self._reconstruction), *sampled]

    def _yardsticks(self, n: int | None) -> list[Yardstick]:
        """The recipe's, or its own features: its classifier's where there are labels, else pixels. `n` overrides."""
        own: FeaturesName = "classifier" if self._has_labels else "pixels"
        chosen = self.recipe.evaluation.features or {own: YardstickSettings()}
        if "classifier" in chosen and not self._has_labels:
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

    @property
    def _has_labels(self) -> bool:
        return self.data.train.labels is not None and self.data.class_names is not None

    def classifier(self) -> metrics.Classifier:
        """The recipe's own, trained where that has not been done."""
        path = self.run.path / "model" / "classifier.safetensors"
        if path.exists():
            return metrics.Classifier.load(path)
        assert self.data.class_names is not None
        self.progress.say("Training the classifier whose features the distances are measured on.")
        classifier = metrics.train_classifier(self.data.train, len(self.data.class_names))
        classifier.save(path)
        return classifier

    def _measured(self, wanted: Sequence[Wanted]) -> list[Yardstick]:
        return [yardstick for yardstick in self.yardsticks if yardstick.name in {features for _, features in wanted}]

    def _held_out(self, wanted: Sequence[Wanted]) -> list[Measurement]:
        found = [m for yardstick in self._measured(wanted) for m in yardstick.of_held_out()]
        return [m.with_subject("held_out") for m in found]

    def _reconstruction(self, wanted: Sequence[Wanted]) -> list[Measurement]:
        generator = torch.Generator(self.model.device).manual_seed(self.seed)
        shown = []
        for x in self.data.test.chunks(ROWS_AT_ONCE):
            with torch.no_grad():
                pixels = self.model.vae.reconstruct(x.to(self.model.device), generator)[1]
                shown.append((pixels.center if self.model.settings.show == "mean" else pixels.sample(generator)).cpu())
        images = torch.cat(shown)
        found = [m for yardstick in self._measured(wanted) for m in yardstick.of_draws([images[yardstick.held_out]])]
        return [m.with_subject("reconstruction") for m in found]

    def _sampled_images(self, subject: Subject, wanted: Sequence[Wanted]) -> list[Measurement]:
        found: list[Measurement] = []
        if set(wanted) != {("elbo", None)}:
            x, seconds = self._draw(subject, self.n * self.draws)
            for yardstick in self._measured(wanted):
                draws = x[: yardstick.n * self.draws].split(yardstick.n)
                found += [m.with_subject(subject) for m in yardstick.of_draws(draws)]
            found.append(seconds)
        return [*found, self._elbo()] if ("elbo", None) in wanted else found

    # Points

    def point_jobs(self) -> list[Job]:
        """Subjects in the order of the tables."""
        return [("truth", self._truth), *((subject, partial(self._sampled_points, subject)) for subject in SAMPLED)]

    def _modes(self, subject: str, points: Tensor) -> list[Measurement]:
        truth = self.data.truth
        assert truth is not None
        return [m.with_subject(subject) for m in metrics.mode_measurements(points, truth.modes, truth.scale).values()]

    def _truth(self, _: Sequence[Wanted]) -> list[Measurement]:
        truth, points = self.data.truth, self.data.test.all()
        assert truth is not None
        log_prob = truth.log_prob(points).double()
        stderr = float(log_prob.std() / len(points) ** 0.5)
        likelihood = Measurement("log_likelihood", float(log_prob.mean()), stderr, len(points), {}, "truth")
        return [likelihood, *self._modes("truth", points)]

    def _sampled_points(self, subject: Subject, wanted: Sequence[Wanted]) -> list[Measurement]:
        found: list[Measurement] = []
        names = {name for name, _ in wanted}
        if "log_likelihood" in names or "log_z" in names:
            density = plane_quadrature(self.model, with_energy=subject == "vaebm")
            method = {"method": "quadrature"}
            found.append(density.log_likelihood(self.data.test.all()).with_subject(subject))
            found.append(Measurement("log_z", density.log_z, density.error, len(self.data.test), method, subject))
        if names & {*MODE_NAMES, "seconds_per_thousand"}:
            points, seconds = self._draw(subject, self.n)
            found += [*self._modes(subject, points), seconds]
        return [*found, self._elbo()] if "elbo" in names else found

    # Both

    def _draw(self, subject: Subject, n: int) -> tuple[Tensor, Measurement]:
        started = time.perf_counter()
        x = draw_samples(self.model, n, subject=subject, show=None, seed=self.seed, progress=self.progress).cpu()
        seconds = (time.perf_counter() - started) * TIMED_DRAWS / n
        machine = {"device": str(self.model.device), "threads": torch.get_num_threads()}
        return x, Measurement("seconds_per_thousand", seconds, 0.0, n, machine, subject)

    @torch.no_grad()
    def _elbo(self) -> Measurement:
        """Mean over held-out points and draws from q(z | x); the error is over points."""
        generator = torch.Generator(self.model.device).manual_seed(self.seed)
        test = self.data.test
        rows = torch.arange(min(len(test), LARGEST_DRAW)).split(ROWS_AT_ONCE)
        batches = [test.batch(part).to(self.model.device) for part in rows]
        draws = [[elbo(self.model.vae, x, generator).value for _ in range(ELBO_DRAWS)] for x in batches]
        values = torch.cat([torch.stack(bounds).mean(0) for bounds in draws]).double()
        stderr = float(values.std() / len(values) ** 0.5)
        return Measurement("elbo", float(values.mean()), stderr, len(values), {"draws_each": ELBO_DRAWS}, "vae")


def _known_names(only: Sequence[str] | None, names: Sequence[str]) -> Sequence[str]:
    for name in only or ():
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
            raise InputError(f"there is no measurement {name!r} for these data: {hint}")
    return only or names


def _by(protocol: dict[str, Any], measured: Measurement) -> Measurement:
    split = {"split": SPLITS[measured.name]} if measured.name in SPLITS else {}
    return measured.with_settings(**protocol, **split)


def _key(measured: Measurement) -> tuple[str, str, str | None]:
    return measured.name, measured.subject, measured.settings.get("features")


def _has(done: Sequence[Measurement], name: str, subject: str, protocol: dict[str, Any]) -> bool:
    return any(m.name == name and m.subject == subject and protocol.items() <= m.settings.items() for m in done)

"""Measuring a run: the model, what it is compared with, and held-out data as the floor, all by one protocol.

Images: Frechet and kernel distance to the training images, on the recipe's own features, of

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
from vaebm.experiment.recipe import Recipe
from vaebm.experiment.run_directory import Run
from vaebm.experiment.sample import draw_samples
from vaebm.hybrid import VAEBM
from vaebm.hybrid.settings import Subject
from vaebm.metrics.measurement import Measurement
from vaebm.progress import Progress, silent
from vaebm.vae import elbo

LARGEST_DRAW = 10_000
TIMED_DRAWS = 1_000
ELBO_DRAWS = 20
ROWS_AT_ONCE = 1000  # of images that a VAE sees together
FEWEST_FOR_KERNEL = 20  # held-out images: fewer give no block estimate
IMAGE_NAMES = ("frechet_distance", "kernel_distance", "elbo", "seconds_per_thousand")
MODE_NAMES = ("modes_covered", "within_three_sigma", "mode_kl")
POINT_NAMES = ("log_likelihood", "log_z", *MODE_NAMES, "elbo", "seconds_per_thousand")
SPLITS = dict.fromkeys(("frechet_distance", "kernel_distance"), "train") | dict.fromkeys(
    ("log_likelihood", "elbo"), "test"
)
SAMPLED: tuple[Subject, ...] = ("vae", "vae_mixture", "vaebm")

Job = tuple[
    str, Callable[[Sequence[str]], list[Measurement]]
]  # a subject, and what measures it: at least the names given


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
            protocol = evaluation.protocol(subject)
            missing = [
                name
                for name in evaluation.names_of(subject)
                if name in names and not _has(done, name, subject, protocol)
            ]
            if missing:
                fresh = [_by(protocol, measured) for measured in job(missing) if measured.name in missing]
                replaced = {(measured.name, measured.subject) for measured in fresh}
                done = [old for old in done if (old.name, old.subject) not in replaced] + fresh
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
        self._features: metrics.Features | None = None
        self._reference: Tensor | None = None

    def protocol(self, subject: str) -> dict[str, Any]:
        """What a measurement's settings say beside the metric's own."""
        protocol: dict[str, Any] = {"seed": self.seed, "samples_asked": self.n, "draws": self.draws}
        if subject in ("vae", "vae_mixture", "vaebm", "reconstruction"):
            protocol["show"] = self.model.settings.show
        if subject == "vaebm":
            protocol["sampler"] = self.model.settings.sampler.model_dump(mode="json")
            protocol["start"] = self.model.settings.start.model_dump(mode="json")
        return protocol

    def names_of(self, subject: str) -> list[str]:
        """Measurements that apply to a subject."""
        if self.data.kind == "image":
            names = ["frechet_distance"] + ["kernel_distance"] * (min(len(self.data.test), self.n) >= FEWEST_FOR_KERNEL)
            return names + {"vae": ["elbo"], "vaebm": ["seconds_per_thousand"]}.get(subject, [])
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

    def features(self) -> metrics.Features:
        """The recipe's own features: its classifier's where there are labels, else pixels."""
        if self._features is None:
            self._features = metrics.pixel_features()
            if self.data.train.labels is not None and self.data.class_names is not None:
                self._features = metrics.classifier_features(self._classifier())
        return self._features

    def _classifier(self) -> metrics.Classifier:
        path = self.run.path / "model" / "classifier.safetensors"
        if path.exists():
            return metrics.Classifier.load(path)
        assert self.data.class_names is not None
        self.progress.say("Training the classifier whose features the distances are measured on.")
        classifier = metrics.train_classifier(self.data.train, len(self.data.class_names))
        classifier.save(path)
        return classifier

    def reference(self) -> Tensor:
        """Features of the training images."""
        if self._reference is None:
            self._reference = self.features()(self.data.train.all())
        return self._reference

    def _distances(self, subject: str, draws: Sequence[Tensor]) -> list[Measurement]:
        features, reference = self.features(), self.reference()
        rows = [features(draw) for draw in draws]
        frechet = (
            metrics.repeated_frechet(rows, reference) if len(rows) > 1 else metrics.frechet_distance(rows[0], reference)
        )
        found = [frechet]
        if "kernel_distance" in self.names_of(subject):
            found.append(metrics.kernel_distance(torch.cat(rows), reference))
        return [m.with_subject(subject).with_settings(**features.settings) for m in found]

    def _held_out(self, _: Sequence[str]) -> list[Measurement]:
        return self._distances("held_out", [self.data.test.all()])

    def _reconstruction(self, _: Sequence[str]) -> list[Measurement]:
        generator = torch.Generator(self.model.device).manual_seed(self.seed)
        x = self.data.test.all().to(self.model.device)
        with torch.no_grad():
            parts = [self.model.vae.reconstruct(part, generator)[1] for part in x.split(ROWS_AT_ONCE)]
            shown = [p.center if self.model.settings.show == "mean" else p.sample(generator) for p in parts]
        return self._distances("reconstruction", [torch.cat(shown).cpu()])

    def _sampled_images(self, subject: Subject, names: Sequence[str]) -> list[Measurement]:
        found: list[Measurement] = []
        if set(names) != {"elbo"}:
            x, seconds = self._draw(subject, self.n * self.draws)
            found = [*self._distances(subject, x.split(self.n)), seconds]
        return [*found, self._elbo()] if "elbo" in names else found

    # Points

    def point_jobs(self) -> list[Job]:
        """Subjects in the order of the tables."""
        return [("truth", self._truth), *((subject, partial(self._sampled_points, subject)) for subject in SAMPLED)]

    def _modes(self, subject: str, points: Tensor) -> list[Measurement]:
        truth = self.data.truth
        assert truth is not None
        return [m.with_subject(subject) for m in metrics.mode_measurements(points, truth.modes, truth.scale).values()]

    def _truth(self, _: Sequence[str]) -> list[Measurement]:
        truth, points = self.data.truth, self.data.test.all()
        assert truth is not None
        log_prob = truth.log_prob(points).double()
        stderr = float(log_prob.std() / len(points) ** 0.5)
        likelihood = Measurement("log_likelihood", float(log_prob.mean()), stderr, len(points), {}, "truth")
        return [likelihood, *self._modes("truth", points)]

    def _sampled_points(self, subject: Subject, names: Sequence[str]) -> list[Measurement]:
        found: list[Measurement] = []
        if "log_likelihood" in names or "log_z" in names:
            density = plane_quadrature(self.model, with_energy=subject == "vaebm")
            method = {"method": "quadrature"}
            found.append(density.log_likelihood(self.data.test.all()).with_subject(subject))
            found.append(Measurement("log_z", density.log_z, density.error, len(self.data.test), method, subject))
        if set(names) & {*MODE_NAMES, "seconds_per_thousand"}:
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


def plane_quadrature(model: VAEBM, with_energy: bool) -> metrics.PlaneQuadrature:
    """Quadrature for a model of points in the plane: its VAE, or the VAE with its energy.

    Raises:
        InputError: the model is not one of points in the plane with one or two latents and a Gaussian decoder.
    """
    vae, energy = model.vae, model.energy_net
    if model.data_shape != (2,) or vae.latent_dim > 2 or not vae.likelihood.reparameterised:
        raise InputError(
            "quadrature needs points in the plane, at most two latents and a Gaussian decoder: use --only without"
            " log_likelihood"
        )

    def decode(z: Tensor) -> tuple[Tensor, Tensor]:
        gaussian = vae.pixels(z).gaussian
        return gaussian.mean, gaussian.scale

    def log_latent_weight(z: Tensor) -> Tensor:
        log_prior = vae.log_prior(z)
        return log_prior - energy.latent(None, z) if with_energy and energy.latent is not None else log_prior

    image = energy.image if with_energy else None
    return metrics.PlaneQuadrature(decode, vae.latent_dim, log_latent_weight, image)


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


def _has(done: Sequence[Measurement], name: str, subject: str, protocol: dict[str, Any]) -> bool:
    return any(m.name == name and m.subject == subject and protocol.items() <= m.settings.items() for m in done)

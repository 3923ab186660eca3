"""Comparing samplers: all of them on a run's model, in its noise space, at the same number of gradients a sample.

Each contender spends its budget, a judge measures what it drew on the way and at the end, and an advisor reads the
rows. What is finished is kept as `comparison` says, so a stopped comparison goes on.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaebm.data import DataSet
from vaebm.errors import InputError
from vaebm.experiment.comparison import Comparison, Shelf, row_of
from vaebm.experiment.contender import Contender, KernelContender, Terms, short_ladder, start_cost
from vaebm.experiment.data_noise import data_noise
from vaebm.experiment.evaluate import kind_of
from vaebm.experiment.evaluation import Evaluation
from vaebm.experiment.image_evaluation import ImageEvaluation
from vaebm.experiment.judge import ImageJudge, Judge, Masses, PointJudge
from vaebm.experiment.mixing import Watch
from vaebm.experiment.populations import ImportanceContender, SMCContender, mean_energy, model_energies
from vaebm.experiment.run_directory import Run
from vaebm.experiment.sampler_advice import Advisor
from vaebm.metrics.measurement import Measurement
from vaebm.models import NoiseSpaceModel, in_noise_space
from vaebm.progress import Progress, silent
from vaebm.sampling import KERNELS

POINTS, MAX_IMAGES = 10_000, 720
FEWEST = 64
PROBES = 128
ENERGY_PROPOSALS = 20  # a sample, for the mean energy of a model of images

NAMES = {
    "recipe": "the recipe's own sampler",
    "langevin": "Langevin",
    "underdamped": "underdamped Langevin",
    "mala": "MALA",
    "hmc": "HMC",
    "mclmc": "MCLMC",
    "adjusted_mclmc": "adjusted MCLMC",
    "importance": "importance resampling",
    "smc": "SMC",
}
"""What sentences call them."""


def contenders(model: NoiseSpaceModel) -> dict[str, Contender]:
    """All samplers by name; `recipe` where it differs from all others."""
    found: dict[str, Contender] = {}
    sampler = model.settings.sampler
    if sampler.warmup == 0 or start_cost(model):  # else it is the kernel of its kind
        make_own = lambda _: model.kernel(sampler)  # noqa: E731
        found["recipe"] = KernelContender("recipe", make_own, learns=sampler.warmup > 0, own_start=True)
    for name, kind in KERNELS.items():
        make = short_ladder if name == "tempering" else lambda _, kind=kind: kind()
        found[name] = KernelContender(name, make)
    return {**found, "importance": ImportanceContender(), "smc": SMCContender()}


def compare_samplers(
    run: Run,
    *,
    out: Path | None = None,
    gradients: int = 200,
    n: int | None = None,
    only: Sequence[str] | None = None,
    seed: int = 0,
    overrides: Sequence[str] = (),
    device: str | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Runs what is not there yet, into `out` (RUN/samplers unless given).

    Args:
        gradients: evaluations to spend on each sample, whatever learns the sampler included.
        n: samples of each sampler; enough to tell them apart in minutes unless given.
        only: names of samplers; all unless given.
        overrides: of the model's start and of what is shown.

    Raises:
        InputError: no model, one whose chains leave codes alone, an unknown name, or too few gradients or samples.
    """
    progress = progress or silent()
    recipe, data = run.with_overrides(overrides), run.data()
    model = in_noise_space(run.model(device))
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    model.update_settings(recipe.model_settings())
    if not model.moves.follows_h:
        raise InputError(
            f"the chains of {run.path} leave codes alone (fix_codes), and the samplers compared here move them: there"
            " is nothing to compare"
        )
    every = contenders(model)
    names = _known(only, list(every))
    evaluation = kind_of(data)(run, recipe, data, model, None, progress)
    n = n or {"image": min(2 * evaluation.n, MAX_IMAGES), "points": POINTS}[data.modality.name]
    if n < FEWEST:
        raise InputError(f"{n} samples tell no sampler from another: give at least {FEWEST}")
    protocol = {
        "version": version("vaebm"),
        "budget": gradients,
        "n": n,
        "seed": seed,
        "show": model.settings.show,
        "target": model.settings.target,
        "recipe": {
            "sampler": recipe.sampler.model_dump(mode="json"),
            "latent_step_scale": recipe.latent_step_scale,
            "fix_codes": recipe.fix_codes,
            "init": recipe.init.model_dump(mode="json"),
        },
        "model_sha256": hashlib.sha256((run.path / "model" / "model.safetensors").read_bytes()).hexdigest(),
        "device": model.device.type,
    }
    shelf = Shelf.open(run.path / "samplers" if out is None else out, protocol)
    contest = _Contest(shelf, model, data, evaluation, progress)
    return contest.hold({name: every[name] for name in names})


class _Contest:
    """One comparison under way."""

    def __init__(
        self, shelf: Shelf, model: NoiseSpaceModel, data: DataSet, evaluation: Evaluation, progress: Progress
    ) -> None:
        self.shelf, self.model, self.data, self.evaluation, self.progress = shelf, model, data, evaluation, progress
        self.protocol = shelf.protocol
        self.energy: tuple[float, float] | None = None
        self.n, self.seed = int(self.protocol["n"]), int(self.protocol["seed"])

    def hold(self, chosen: dict[str, Contender]) -> Comparison:
        rows = [{k: v for k, v in row.items() if k != "advice"} for row in self.shelf.rows(self.progress)]
        missing = [name for name in chosen if name not in {row["sampler"] for row in rows}]
        with self.progress.task("samplers", len(missing) + 1, "samplers") as task, self.model.frozen():
            terms, judge, masses = self._prepare()
            x, start = self._judged(judge, terms.start)
            references = judge.references(self._held_out())
            self.shelf.save_samples("start", x)
            self.shelf.save_samples("held_out", self._held_out())
            task.advance()
            for name in missing:
                row = self._compete(name, chosen[name], terms, judge)
                if row is not None:
                    rows = [*rows, row]
                    self.shelf.save_rows(rows)
                task.advance()
        if not rows:
            raise InputError("none of these samplers can do anything with so few gradients: raise --gradients")
        order = list(contenders(self.model))
        rows.sort(key=lambda row: order.index(row["sampler"]) if row["sampler"] in order else len(order))
        measured = {m.name: (m.value, m.stderr) for m in start}
        advice = Advisor(rows, judge.key, self._words(judge.key, masses), measured).advice()
        for row in rows:
            if row["sampler"] == advice.sampler:
                row["advice"] = advice.text
        self.shelf.save_rows(rows)
        return Comparison(self.shelf.folder, rows, judge.key, start, references, masses, self.protocol)

    def _held_out(self) -> torch.Tensor:
        return self.data.test.batch(torch.arange(min(self.n, len(self.data.test)))).x

    def _prepare(self) -> tuple[Terms, Judge, Masses | None]:
        model, masses = self.model, None
        if isinstance(self.evaluation, ImageEvaluation):
            judge: Judge = ImageJudge(self.evaluation)
            own = torch.Generator(model.device).manual_seed(self.seed + 1)
            self.energy = mean_energy(model, ENERGY_PROPOSALS * self.n, own)
        else:
            masses = self.shelf.masses(self.model, self.data, self.progress)
            judge = PointJudge(self.data, masses)
        generator = torch.Generator(model.device).manual_seed(self.seed)
        start = model.sample_base(self.n, generator)
        probes = max(4, min(PROBES, self.n // 20))
        rows = torch.randint(len(self.data.test), (probes,), generator=torch.Generator().manual_seed(self.seed))
        from_data = data_noise(model, self.data.test.batch(rows).x.to(model.device), generator)
        watch = Watch(
            model.noise.dim,
            lambda eps: judge.features(model.render(eps, "sample", torch.Generator(model.device).manual_seed(0)).cpu()),
            generator,
        )
        starts = torch.cat([start[:probes], from_data])
        return (
            Terms(model, start, starts, int(self.protocol["budget"]), watch, self.seed),
            judge,
            masses,
        )

    def _compete(self, name: str, contender: Contender, terms: Terms, judge: Judge) -> dict[str, Any] | None:
        with self.progress.task(name, contender.work(terms), "gradients") as task:
            course = contender.run(terms, task.advance)
        if course is None:
            self.progress.say(f"{name} is left out: {terms.gradients} gradients a sample are too few for it.")
            return None
        curve, last = [], {}
        for gradients, eps in course.samples:
            x, measured = self._judged(judge, eps)
            found = {m.name: m for m in measured}
            last = {
                "gradients": gradients,
                "quality": {key: m.value for key, m in found.items()},
                "quality_stderr": {key: m.stderr for key, m in found.items()},
            }
            curve.append(last)
        self.shelf.save_samples(name, x)
        return row_of(name, course, curve, self.n, self.protocol)

    def _judged(self, judge: Judge, eps: Tensor) -> tuple[Tensor, list[Measurement]]:
        """Samples as they are shown, and all measurements of them."""
        generator = torch.Generator(self.model.device).manual_seed(self.seed)
        x = self.model.render(eps, self.model.settings.show, generator).cpu()
        found = judge.measure(x)
        if self.energy is not None:
            energies, (mean, stderr) = model_energies(self.model, eps), self.energy
            own = float(energies.std()) / math.sqrt(len(eps))
            found.append(Measurement("energy_shift", float(energies.mean()) - mean, math.hypot(own, stderr), len(eps)))
        return x, found

    def _words(self, key: str, masses: Masses | None) -> dict[str, str]:
        of = "the masses of the data" if masses is not None and masses.of == "truth" else "the model's own masses"
        names = {"frechet_distance": "Fréchet distance", "model_kl": f"KL divergence from {of}"}
        return {"key": names[key], **NAMES}


def _known(only: Sequence[str] | None, names: Sequence[str]) -> Sequence[str]:
    for name in only or ():
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
            raise InputError(f"there is no sampler {name!r}: {hint}")
    return only or names

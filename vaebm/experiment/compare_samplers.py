"""Comparing samplers: all of them on a run's model, in its noise space, at the same number of gradients a sample.

    samplers.json          a row a sampler, with advice on the recommended one
    samples/SAMPLER.npz    what each drew: `images` or `points`
    reference.json         masses of a model in the plane, which take long to compute
    samplers.html          the page (see `report.samplers`)

Rows of the same protocol (model, gradients, number of samples, start, seed) are kept, so a stopped comparison goes on; of
another protocol they are replaced.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaebm.data import DataSet
from vaebm.data.transforms import to_uint8
from vaebm.errors import InputError
from vaebm.experiment.contender import Contender, Course, KernelContender, Terms, short_ladder, start_cost
from vaebm.experiment.data_noise import data_noise
from vaebm.experiment.evaluate import Evaluation
from vaebm.experiment.judge import ImageJudge, Judge, Masses, PointJudge
from vaebm.experiment.mixing import Watch
from vaebm.experiment.populations import ImportanceContender, SMCContender
from vaebm.experiment.run_directory import Run
from vaebm.experiment.sampler_advice import advise
from vaebm.hybrid import VAEBM
from vaebm.metrics.measurement import Measurement
from vaebm.progress import Progress, silent
from vaebm.sampling import KERNELS
from vaebm.training.checkpoint import write_synced

ROWS, REFERENCE, SAMPLES = "samplers.json", "reference.json", "samples"
POINTS, MOST_IMAGES = 10_000, 720
FEWEST = 64
PROBES = 128


@dataclass(frozen=True, eq=False)
class Comparison:
    """What a comparison found.

    Attributes:
        folder: where it is written.
        rows: of the samplers, as `samplers.json` holds them.
        key: the measurement that ranks.
        start: measurements of the model without E_x, where chains begin.
        references: measurements of what samples are to be compared with, by subject.
        masses: of a model of points, None for images.
        protocol: what was the same for all.
    """

    folder: Path
    rows: list[dict[str, Any]]
    key: str
    start: list[Measurement]
    references: dict[str, list[Measurement]]
    masses: Masses | None
    protocol: dict[str, Any]

    def samples(self, sampler: str) -> np.ndarray:
        """What a sampler, or `start` or `held_out`, drew: images (n, h, w, c) uint8 or points (n, 2)."""
        with np.load(self.folder / SAMPLES / f"{sampler}.npz", allow_pickle=False) as file:
            values: np.ndarray = file[file.files[0]]
        return values


def contenders(model: VAEBM) -> dict[str, Contender]:
    """All samplers by name; `recipe` where it differs from all others."""
    found: dict[str, Contender] = {}
    sampler = model.settings.sampler
    if sampler.warmup == 0 or start_cost(model):  # else it is the kernel of its kind
        make_own = lambda _: sampler.build()  # noqa: E731
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
        InputError: no model, an unknown name, or too few gradients or samples.
    """
    progress = progress or silent()
    recipe, data = run.with_overrides(overrides), run.data()
    model = run.model(device)
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    model.settings = recipe.model_settings()
    every = contenders(model)
    names = _known(only, list(every))
    evaluation = Evaluation(run, recipe, data, model, None, progress)
    n = n or (min(2 * evaluation.n, MOST_IMAGES) if data.kind == "image" else POINTS)
    if n < FEWEST:
        raise InputError(f"{n} samples tell no sampler from another: give at least {FEWEST}")
    protocol = {
        "budget": gradients,
        "n": n,
        "seed": seed,
        "show": model.settings.show,
        "target": model.settings.target,
        "recipe": {"sampler": recipe.sampler.model_dump(mode="json"), "start": recipe.start.model_dump(mode="json")},
        "model_sha256": hashlib.sha256((run.path / "model" / "model.safetensors").read_bytes()).hexdigest(),
        "device": model.device.type,
    }
    folder = run.path / "samplers" if out is None else out
    (folder / SAMPLES).mkdir(parents=True, exist_ok=True)
    contest = _Contest(folder, model, data, evaluation, protocol, progress)
    return contest.hold({name: every[name] for name in names})


class _Contest:
    """One comparison under way."""

    def __init__(
        self,
        folder: Path,
        model: VAEBM,
        data: DataSet,
        evaluation: Evaluation,
        protocol: dict[str, Any],
        progress: Progress,
    ) -> None:
        self.folder, self.model, self.data, self.evaluation = folder, model, data, evaluation
        self.protocol, self.progress = protocol, progress
        self.n, self.seed = int(protocol["n"]), int(protocol["seed"])

    def hold(self, chosen: dict[str, Contender]) -> Comparison:
        rows = self._finished()
        missing = [name for name in chosen if name not in {row["sampler"] for row in rows}]
        with self.progress.task("samplers", len(missing) + 1, "samplers") as task, self.model.frozen():
            terms, judge, masses = self._prepare()
            x = self._shown(terms.start)
            start, references = judge.measure(x), judge.references(self.data.test.all()[: self.n])
            self._save_samples("start", x)
            self._save_samples("held_out", self.data.test.all()[: self.n])
            task.advance()
            for name in missing:
                row = self._compete(name, chosen[name], terms, judge)
                if row is not None:
                    rows = [*rows, row]
                    self._save(rows)
                task.advance()
        if not rows:
            raise InputError("none of these samplers can do anything with so few gradients: raise --gradients")
        order = list(contenders(self.model))
        rows.sort(key=lambda row: order.index(row["sampler"]) if row["sampler"] in order else len(order))
        measured = next(m for m in start if m.name == judge.key)
        advice = advise(rows, judge.key, self._words(judge.key), (measured.value, measured.stderr))
        for row in rows:
            row.pop("advice", None)
            if row["sampler"] == advice.sampler:
                row["advice"] = advice.text
        self._save(rows)
        return Comparison(self.folder, rows, judge.key, start, references, masses, self.protocol)

    def _prepare(self) -> tuple[Terms, Judge, Masses | None]:
        model, masses = self.model, None
        if self.data.kind == "image":
            judge: Judge = ImageJudge(self.evaluation)
        else:
            masses = self._masses()
            judge = PointJudge(self.data, masses)
        generator = torch.Generator(model.device).manual_seed(self.seed)
        start = model.propose(self.n, generator)
        probes = max(4, min(PROBES, self.n // 10))
        rows = torch.randint(len(self.data.test), (probes,), generator=torch.Generator().manual_seed(self.seed))
        from_data = data_noise(model, self.data.test.batch(rows).to(model.device), generator)
        watch = Watch(
            model.noise.dim,
            lambda eps: judge.features(
                model.present(eps, "sample", torch.Generator(model.device).manual_seed(0)).cpu()
            ),
            generator,
        )
        starts = torch.cat([start[:probes], from_data])
        return (
            Terms(model, start, starts, int(self.protocol["budget"]), watch, self.seed),
            judge,
            masses,
        )

    def _masses(self) -> Masses:
        path, sha = self.folder / REFERENCE, self.protocol["model_sha256"]
        if path.exists():
            try:
                stored = json.loads(path.read_text())
                if stored["model_sha256"] == sha:
                    return Masses(**stored["masses"])
            except (ValueError, KeyError, TypeError):
                pass  # of another version, or cut short: computed again
        with self.progress.task("quadrature", 1, "densities"):
            masses = Masses.find(self.model, self.data)
        write_synced(path, json.dumps({"model_sha256": sha, "masses": masses.to_json()}, indent=1).encode())
        return masses

    def _compete(self, name: str, contender: Contender, terms: Terms, judge: Judge) -> dict[str, Any] | None:
        with self.progress.task(name, contender.work(terms), "gradients") as task:
            course = contender.run(terms, task.advance)
        if course is None:
            self.progress.say(f"{name} is left out: {terms.gradients} gradients a sample are too few for it.")
            return None
        curve, last = [], {}
        for gradients, eps in course.samples:
            x = self._shown(eps)
            found = {m.name: m for m in judge.measure(x)}
            last = {
                "gradients": gradients,
                "quality": {key: m.value for key, m in found.items()},
                "quality_stderr": {key: m.stderr for key, m in found.items()},
            }
            curve.append(last)
        self._save_samples(name, x)
        return _row(name, course, curve, self.n, self.protocol)

    def _shown(self, eps: Tensor) -> Tensor:
        generator = torch.Generator(self.model.device).manual_seed(self.seed)
        return self.model.present(eps, self.model.settings.show, generator).cpu()

    def _words(self, key: str) -> dict[str, str]:
        if key == "frechet_distance":
            return {"key": "Fréchet distance", "recipe": "the recipe's own sampler"}
        of = "the model's own masses" if self._masses().of == "model" else "the masses of the data"
        return {"key": f"KL divergence from {of}", "recipe": "the recipe's own sampler"}

    def _save_samples(self, name: str, x: Tensor) -> None:
        path = self.folder / SAMPLES / f"{name}.npz"
        draft = path.with_name(f".{path.name}")
        with draft.open("wb") as file:
            if self.data.kind == "image":
                np.savez_compressed(file, images=to_uint8(x).permute(0, 2, 3, 1).numpy())
            else:
                np.savez_compressed(file, points=x.float().numpy())
        draft.replace(path)

    def _finished(self) -> list[dict[str, Any]]:
        path = self.folder / ROWS
        if not path.exists():
            return []
        try:
            rows = json.loads(path.read_text())
            kept = [row for row in rows if row["settings"]["protocol"] == self.protocol]
            kept = [row for row in kept if (self.folder / SAMPLES / f"{row['sampler']}.npz").exists()]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path} is damaged: delete it and compare again") from None
        if len(kept) < len(rows):
            self.progress.say(
                f"{path} holds {len(rows) - len(kept)} samplers compared by another protocol: they are replaced."
            )
        return kept

    def _save(self, rows: Sequence[dict[str, Any]]) -> None:
        write_synced(self.folder / ROWS, json.dumps(rows, indent=1, allow_nan=False).encode())


def _row(name: str, course: Course, curve: list[dict[str, Any]], n: int, protocol: dict[str, Any]) -> dict[str, Any]:
    """A sampler's row; null stands for what so few steps do not tell."""
    gradients = course.samples[-1][0]
    mixing, log_z = course.mixing, course.log_z
    per_second = gradients * n / course.seconds
    row: dict[str, Any] = {
        "sampler": name,
        "gradients": gradients,
        "acceptance": course.acceptance if math.isfinite(course.acceptance) else None,
        "ess_per_gradient": mixing and mixing.ess_per_gradient,
        "ess_per_second": mixing and mixing.ess_per_gradient * per_second,
        "rhat": mixing and mixing.rhat,
        "rhat_between_starts": mixing and mixing.rhat_between_starts,
        "slowest": mixing and mixing.slowest,
        "quality": curve[-1]["quality"],
        "quality_stderr": curve[-1]["quality_stderr"],
        "curve": curve,
        "n": n,
        "seconds": course.seconds,
        "settings": {**course.settings, "overrides": course.words, "protocol": protocol},
    }
    if log_z is not None:
        row["log_z"] = {"value": log_z.value, "stderr": log_z.stderr, "lower": log_z.lower, "upper": log_z.upper}
    return row


def _known(only: Sequence[str] | None, names: Sequence[str]) -> Sequence[str]:
    for name in only or ():
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
            raise InputError(f"there is no sampler {name!r}: {hint}")
    return only or names

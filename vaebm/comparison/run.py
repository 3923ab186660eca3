"""Running a comparison: every candidate spends the same budget on a model, and what it drew on the way is scored.

What is finished is kept as `folder` says, so a stopped comparison goes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaebm.comparison.advice import advise
from vaebm.comparison.candidate import Candidate, Setup
from vaebm.comparison.data_noise import data_noise
from vaebm.comparison.folder import Comparison, ComparisonFolder, row_of
from vaebm.comparison.kernel_candidate import kernel_candidates
from vaebm.comparison.mixing import TestFunctions
from vaebm.comparison.particles import ImportanceCandidate, SMCCandidate
from vaebm.comparison.scorer import ImageScorer, ModeProbabilities, PointScorer, Scorer
from vaebm.data import DataSet
from vaebm.errors import InputError, check_choice
from vaebm.evaluation import Evaluation
from vaebm.experiment.evaluate import evaluation_of
from vaebm.experiment.recipe import Recipe
from vaebm.experiment.run_directory import Run
from vaebm.files import locked, sha256, user_path
from vaebm.metrics.measurement import Measurement
from vaebm.models import NoiseSpaceModel, in_noise_space
from vaebm.progress import Progress, silent
from vaebm.training.engine import threads
from vaebm.version import __version__

POINTS, MAX_IMAGES = 10_000, 720
MIN_SAMPLES = 64
MAX_PROBES = 128


def candidates(model: NoiseSpaceModel) -> dict[str, Candidate]:
    """All samplers by name; `recipe` where it differs from all others."""
    found = [*kernel_candidates(model), ImportanceCandidate(), SMCCandidate()]
    return {candidate.name: candidate for candidate in found}


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
    """Runs what is not there yet.

    Args:
        run: with a model.
        out: the folder of the comparison; RUN/samplers unless given.
        gradients: evaluations to spend on each sample, those that learn the sampler's numbers included.
        n: samples of each sampler; enough to tell them apart in minutes unless given.
        only: names of samplers; all unless given.
        seed: of all draws.
        overrides: of the model's start and of what is shown.
        device: where the model runs; the CPU unless given.
        progress: told of what takes long.

    Raises:
        InputError: no model, one whose chains leave codes alone, an unknown name, or too few gradients or samples.
    """
    recipe, progress = run.with_overrides(overrides), progress or silent()
    with threads(recipe.threads):
        model, data = in_noise_space(run.model(device)), run.data()
        model.update_settings(recipe.model_settings())
        if not model.moves.follows_h:
            raise InputError(
                f"the chains of {run.path} leave codes alone (fix_codes), and the samplers compared here move them:"
                " there is nothing to compare"
            )
        known = candidates(model)
        for name in only or ():
            check_choice("sampler", name, known)
        evaluation = evaluation_of(run, recipe, data, model, None, progress)
        if n is None:
            n = {"image": min(2 * evaluation.n, MAX_IMAGES), "points": POINTS}[data.modality.name]
        if n < MIN_SAMPLES:
            raise InputError(f"{n} samples tell no sampler from another: give at least {MIN_SAMPLES}")
        protocol = _protocol(run, recipe, model, index(gradients), index(n), index(seed))
        folder = ComparisonFolder(run.path / "samplers" if out is None else user_path(out), protocol)
        under_way = _Run(folder, model, data, evaluation, progress)
        with locked(folder.folder / ".lock", folder.folder), model.frozen():
            return under_way.compare([known[name] for name in only or known], list(known))


def _protocol(run: Run, recipe: Recipe, model: NoiseSpaceModel, gradients: int, n: int, seed: int) -> dict[str, Any]:
    return {
        "version": __version__,
        "gradients": gradients,
        "n": n,
        "seed": seed,
        "show": model.settings.show,
        "target": model.settings.target,
        "recipe": {
            "sampler": recipe.sampler.model_dump(mode="json"),
            "latent_step_scale": recipe.latent_step_scale,
            "init": recipe.init.model_dump(mode="json"),
        },
        "model_sha256": sha256(run.path / "model" / "model.safetensors"),
        "device": model.device.type,
    }


@dataclass(eq=False)
class _Run:
    """A comparison under way."""

    folder: ComparisonFolder
    model: NoiseSpaceModel
    data: DataSet
    evaluation: Evaluation
    progress: Progress

    def __post_init__(self) -> None:
        self.n, self.seed = self.folder.protocol["n"], self.folder.protocol["seed"]
        self.held_out = self.data.test.batch(torch.arange(min(self.n, len(self.data.test)))).x
        self.mode_probabilities: ModeProbabilities | None = None
        self.scorer: Scorer
        if self.evaluation.spaces:
            self.scorer = ImageScorer(self.evaluation, self.model, self.n, self._generator(1))
        else:
            self.mode_probabilities = self.folder.mode_probabilities(self.model, self.data, self.progress)
            self.scorer = PointScorer(self.data, self.mode_probabilities)

    def compare(self, chosen: Sequence[Candidate], order: Sequence[str]) -> Comparison:
        """Runs those of the candidates that have no row yet; rows come in the order of all names."""
        rows = [{k: v for k, v in row.items() if k != "advice"} for row in self.folder.rows(self.progress)]
        missing = [candidate for candidate in chosen if candidate.name not in {row["sampler"] for row in rows}]
        with self.progress.task("samplers", len(missing) + 1, "samplers") as task:
            setup = self._setup()
            x, start = self._scored(setup.start)
            references = self.scorer.references(self.held_out)
            self.folder.save_samples("start", x)
            self.folder.save_samples("held_out", self.held_out)
            task.advance()
            for candidate in missing:
                row = self._row(candidate, setup)
                if row is not None:
                    rows.append(row)
                    self.folder.save_rows(rows)
                task.advance()
        if not rows:
            raise InputError("none of these samplers can do anything with so few gradients: raise --gradients")
        rows.sort(key=lambda row: order.index(row["sampler"]) if row["sampler"] in order else len(order))
        measured = {m.name: (m.value, m.stderr) for m in start}
        advice = advise(rows, self.scorer.key, self.scorer.key_label, measured)
        if advice is None:
            self.progress.say("There is no advice: the chains of none of these samplers have moved.")
        for row in rows:
            if advice is not None and row["sampler"] == advice.sampler:
                row["advice"] = advice.text
        self.folder.save_rows(rows)
        folder, probabilities = self.folder, self.mode_probabilities
        return Comparison(folder.folder, rows, self.scorer.key, start, references, probabilities, folder.protocol)

    def _setup(self) -> Setup:
        generator, model = self._generator(0), self.model
        start = model.sample_base(self.n, generator)
        probes = max(4, min(MAX_PROBES, self.n // 20))
        rows = torch.randint(len(self.data.test), (probes,), generator=torch.Generator().manual_seed(self.seed))
        from_data = data_noise(model, self.data.test.batch(rows).x.to(model.device), generator)

        def features(eps: Tensor) -> dict[str, Tensor]:
            noise = torch.Generator(model.device).manual_seed(0)  # the same for every step
            return self.scorer.features(model.render(eps, "sample", noise).cpu())

        functions = TestFunctions(model.noise.dim, features, generator)
        starts = torch.cat([start[:probes], from_data])
        return Setup(model, start, starts, self.folder.protocol["gradients"], functions, self.seed)

    def _row(self, candidate: Candidate, setup: Setup) -> dict[str, Any] | None:
        with self.progress.task(candidate.name, candidate.evaluations(setup), "gradients") as task:
            found = candidate.run(setup, task.advance)
        if found is None:
            self.progress.say(f"{candidate.name} is left out: {setup.gradients} gradients a sample are too few for it.")
            return None
        curve = []
        for gradients, eps in found.samples:
            x, measured = self._scored(eps)
            quality = {m.name: m.value for m in measured}
            errors = {m.name: m.stderr for m in measured}
            curve.append({"gradients": gradients, "quality": quality, "quality_stderr": errors})
        self.folder.save_samples(candidate.name, x)
        return row_of(candidate, found, curve, self.n, self.folder.protocol)

    def _scored(self, eps: Tensor) -> tuple[Tensor, list[Measurement]]:
        x = self.model.render(eps, self.model.settings.show, self._generator(0)).cpu()
        return x, self.scorer.measure(x, eps)

    def _generator(self, part: int) -> torch.Generator:
        return torch.Generator(self.model.device).manual_seed(self.seed + part)

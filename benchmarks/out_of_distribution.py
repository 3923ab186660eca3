"""Can a model tell other data from its own? The study behind docs/studies/out-of-distribution.md.

    python benchmarks/out_of_distribution.py runs/results/digits-0 --n 360
    python benchmarks/out_of_distribution.py --train fashion_mnist cifar10 --seeds 0 1 2
    python benchmarks/out_of_distribution.py --print

For each run: test data of its own against those of other sets, their mirror images, textures made by code, noise and
constant images, one sample at a time. Scores are the default one, each part (its sign as a detector would take it),
typicality |log p - median|, and of the pixels alone the residual of a PCA and an isolation forest. Sets of another size
are resized, the run's own are not, which alone can tell two sets apart: `resized` says so. Where `VAEBM_DATA` holds
them, Omniglot (white on black) and the ORL faces are among the others. Beside it, whether p-values of test data are
uniform (scores of test data against those that calibrate, two-sample Kolmogorov-Smirnov), and the seconds that 10,000
images take.

`--train` trains a small model of a set first, in runs/out_of_distribution. Each run and set is a cell of
results/out_of_distribution.jsonl and is not measured again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from scipy.stats import ks_2samp
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from torch import Tensor

from results import hardware, version
from vaebm.data.samples import read_samples
from vaebm.experiment.run_directory import Run
from vaebm.experiment.train import train
from vaebm.metrics.measurement import Measurement
from vaebm.models.score import ScoredModel

RESULTS = Path(__file__).parent.parent / "results" / "out_of_distribution.jsonl"
SETS = ("mnist", "fashion_mnist", "digits", "cifar10")
UNIFORM, SECONDS, TIMED = "p_value_uniform", "score_seconds", 10_000
ENERGY = "energy={image: {kind: residual, stem: 16, widths: [16, 32], halve: [0, 1]}, latent: {kind: mixture}}"
PHASES = (
    "energy_stage.phases={ratio: {kind: density_ratio, iterations: 300, learning_rate: 5.0e-4, energy_square: 1e-3}}"
)
SHORT = {  # a recipe, and what is cut from it
    "fashion_mnist": (
        "fashion_mnist-small",
        ["vae_stage.iterations=2000", "code_mixture.components=20", "energy_stage.phases.rounds=null"],
    ),
    "cifar10": (
        "cifar10-small",
        ["vae_stage.iterations=1500", "energy.noise_std=0", "energy_stage.phases={denoising: null, divergence: null}"],
    ),
}
LIKELY = ("log_likelihood", "log_density")  # parts that are high where a sample is likely; gradients are not among them
PIXELS_FITTED = 10_000  # training images that PCA and forest see
VARIANCE_KEPT = 0.9  # by the PCA


def others(run: Run, test: Tensor, n: int) -> Iterator[tuple[str, Tensor, bool]]:
    """Name, images and whether they were resized, of each set that is not the run's own."""
    shape = tuple(test.shape[1:])
    for name in SETS:
        if name != run.recipe.data.kind:
            samples = read_samples(name, shape)
            yield name, samples.x[:n], bool(samples.said)
    given = Path(os.environ.get("VAEBM_DATA", ""))
    if (drawn := given / "omniglot" / "images_background_small1.zip").is_file():
        yield "omniglot", -read_samples(drawn, shape).x[:n], True
    if (faces := given / "orl_faces" / "att_faces.tar.xz").is_file():
        with tempfile.TemporaryDirectory() as folder, tarfile.open(faces) as archive:
            archive.extractall(folder, filter="data")
            yield "faces", read_samples(folder, shape, skip_bad=True).x[:n], True
    yield "textures", textures(test), False
    yield "mirrored left to right", test.flip(-1), False
    yield "upside down", test.flip(-2), False
    generator = torch.Generator().manual_seed(0)
    yield "noise", 2.0 * torch.rand(test.shape, generator=generator) - 1.0, False
    yield "constant", torch.linspace(-1.0, 1.0, len(test)).view(-1, 1, 1, 1).expand_as(test).contiguous(), False


def textures(like: Tensor) -> Tensor:
    """Waves of one direction and length an image, (n, C, H, W), each channel with a mean and a contrast of its own."""
    generator = torch.Generator().manual_seed(0)
    n, channels, height, width = like.shape
    angle, frequency, phase = torch.rand(3, n, 1, 1, generator=generator).mul(math.pi).unbind()
    down, across = torch.arange(height).view(-1, 1), torch.arange(width)
    wave = torch.sin(frequency * (angle.cos() * across + angle.sin() * down) + 2 * phase)
    mean, contrast = torch.rand(2, n, channels, 1, 1, generator=generator).unbind()
    return ((2 * mean - 1) + contrast * wave.unsqueeze(1)).clamp(-1, 1)


def scores_of(model: ScoredModel, x: Tensor) -> dict[str, Tensor]:
    """All scores by name, high where strange."""
    scored = model.score(x)
    found = {"default": scored.score}
    for name, part in scored.parts.items():
        likely = name.startswith(LIKELY) and not name.endswith("gradient")
        found[name] = -part if likely else part
    return found


def pixel_scores(train: Tensor) -> tuple[PCA, IsolationForest]:
    """Fitted to training images."""
    flat = train.flatten(1).numpy()
    return PCA(VARIANCE_KEPT, random_state=0).fit(flat), IsolationForest(random_state=0).fit(flat)


def residual(pca: PCA, x: Tensor) -> Tensor:
    flat = x.flatten(1).numpy()
    return torch.from_numpy(np.square(flat - pca.inverse_transform(pca.transform(flat))).sum(1))


def auroc(own: Tensor, other: Tensor) -> tuple[float, float]:
    """The area, and its standard error by Hanley & McNeil (1982)."""
    truth = np.repeat([0, 1], [len(own), len(other)])
    area = float(roc_auc_score(truth, torch.cat([own, other]).numpy()))
    q1, q2 = area / (2.0 - area), 2.0 * area**2 / (1.0 + area)
    spread = area * (1 - area) + (len(other) - 1) * (q1 - area**2) + (len(own) - 1) * (q2 - area**2)
    return area, math.sqrt(max(spread, 0.0) / (len(own) * len(other)))


def measure(run: Run, n: int, done: set[tuple[str, int, str]]) -> None:
    """Writes the cells of a run that are missing."""
    kind, seed = run.recipe.data.kind, run.recipe.seed
    model, data = run.model("cpu"), run.data()
    assert isinstance(model, ScoredModel)
    test = data.test.batch(torch.arange(min(n, len(data.test)))).x
    fitted = data.train.batch(torch.arange(min(PIXELS_FITTED, len(data.train)))).x
    pca, forest = pixel_scores(fitted)

    def everything(x: Tensor) -> dict[str, Tensor]:
        forest_score = torch.from_numpy(-forest.score_samples(x.flatten(1).numpy()))
        return scores_of(model, x) | {"PCA residual": residual(pca, x), "isolation forest": forest_score}

    added = {"recipe": run.recipe.name, "seed": seed, "hardware": hardware(), "version": version()}

    def write(found: list[Measurement]) -> None:
        with RESULTS.open("a") as file:
            for one in found:
                file.write(json.dumps(one.to_json() | added) + "\n")

    if (kind, seed, UNIFORM) not in done:
        all_of_test = data.test.batch(torch.arange(min(TIMED, len(data.test)))).x
        model.score(test[:20])  # calibrates
        started = time.perf_counter()
        scores = model.score(all_of_test).score
        seconds = time.perf_counter() - started
        assert model.score_density is not None
        tested = ks_2samp(scores, model.score_density.scores)
        about = {"own": kind, "other": UNIFORM, "score": "default"}
        write(
            [
                Measurement(UNIFORM, float(tested.pvalue), 0.0, len(scores), about, "vaebm"),
                Measurement(SECONDS, seconds, 0.0, len(scores), {**about, "other": SECONDS}, "vaebm"),
            ]
        )
        print(f"{kind}, seed {seed}: Kolmogorov-Smirnov p = {tested.pvalue:.3f}, {seconds:.1f} s", flush=True)
    own = everything(test)
    median = own["log_likelihood_lower"].median()
    for name, x, resized in others(run, test, n):
        if (kind, seed, name) in done:
            continue
        strange = everything(x)
        rows = {score: auroc(own[score], strange[score]) for score in own}
        typical = [(scores["log_likelihood_lower"] - median).abs() for scores in (own, strange)]
        rows["typicality"] = auroc(typical[0], typical[1])
        settings = {"own": kind, "other": name, "resized": resized}
        write(
            [
                Measurement("ood_auroc", area, stderr, len(x), {**settings, "score": score}, "vaebm")
                for score, (area, stderr) in rows.items()
            ]
        )
        print(f"{kind}, seed {seed}, against {name}: {rows['default'][0]:.4f}", flush=True)


def table(rows: list[dict[str, object]]) -> str:
    """Means over seeds, a table for each set."""
    lines = [
        f"{row['settings']['own']}, seed {row['seed']}: {row['name']} {row['value']:.3g} (n = {row['n']})"  # type: ignore[index]
        for row in rows
        if row["name"] in (UNIFORM, SECONDS)
    ]
    rows = [row for row in rows if row["name"] == "ood_auroc"]
    for own in dict.fromkeys(row["settings"]["own"] for row in rows):  # type: ignore[index]
        mine = [row for row in rows if row["settings"]["own"] == own]  # type: ignore[index]
        names = list(dict.fromkeys(row["settings"]["other"] for row in mine))  # type: ignore[index]
        lines += [f"| {own}, AUROC | {' | '.join(names)} |", "| --- " * (len(names) + 1) + "|"]
        for score in dict.fromkeys(row["settings"]["score"] for row in mine):  # type: ignore[index]
            cells = []
            for other in names:
                wanted = {"other": other, "score": score}
                values = [row["value"] for row in mine if wanted.items() <= row["settings"].items()]  # type: ignore[attr-defined]
                cells.append(f"{statistics.mean(values):.3f}")  # type: ignore[type-var]
            lines.append(f"| {score} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", help="runs of images")
    parser.add_argument("--n", type=int, default=1000, help="images of each set")
    parser.add_argument("--train", nargs="*", choices=list(SHORT), default=[], help="sets to train small models of")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of these models")
    parser.add_argument("--print", action="store_true", help="print tables of what was measured")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    done = {(row["settings"]["own"], row["seed"], row["settings"]["other"]) for row in rows}
    for path in arguments.runs:
        measure(Run.open(path), arguments.n, done)
    for name in arguments.train:
        recipe, cut = SHORT[name]
        for seed in arguments.seeds:
            overrides = [f"seed={seed}", *cut, ENERGY, PHASES]
            out = RESULTS.parent.parent / "runs" / "out_of_distribution" / f"{name}-{seed}"
            measure(train(recipe, out, overrides=overrides, device="cpu"), arguments.n, done)
    if arguments.print:
        print(table([json.loads(line) for line in RESULTS.read_text().splitlines()]))


if __name__ == "__main__":
    main()

"""Can a model tell other data from its own? The study behind docs/studies/out-of-distribution.md.

    python benchmarks/out_of_distribution.py runs/results/fashion_mnist-small-0
    python benchmarks/out_of_distribution.py runs/results/digits-0 --n 360
    python benchmarks/out_of_distribution.py --print

For each run: test data of its own against those of other sets, their mirror images, noise and constant images, one
sample at a time. Scores are the default one, each part (its sign as a detector would take it), typicality
|log p - median|, and of the pixels alone the residual of a PCA and an isolation forest. Sets of another size are
resized, the run's own are not, which alone can tell two sets apart: `resized` says so. Each run and set is a cell of
results/out_of_distribution.jsonl and is not measured again.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from torch import Tensor

from results import hardware, version
from vaebm.data.samples import read_samples
from vaebm.experiment.run_directory import Run
from vaebm.metrics.measurement import Measurement
from vaebm.models.score import ScoredModel

RESULTS = Path(__file__).parent.parent / "results" / "out_of_distribution.jsonl"
SETS = ("mnist", "fashion_mnist", "digits")
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
    yield "mirrored left to right", test.flip(-1), False
    yield "upside down", test.flip(-2), False
    generator = torch.Generator().manual_seed(0)
    yield "noise", 2.0 * torch.rand(test.shape, generator=generator) - 1.0, False
    yield "constant", torch.linspace(-1.0, 1.0, len(test)).view(-1, 1, 1, 1).expand_as(test).contiguous(), False


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

    own = everything(test)
    median = own["log_likelihood_lower"].median()
    for name, x, resized in others(run, test, n):
        if (kind, seed, name) in done:
            continue
        strange = everything(x)
        rows = {score: auroc(own[score], strange[score]) for score in own}
        typical = [(scores["log_likelihood_lower"] - median).abs() for scores in (own, strange)]
        rows["typicality"] = auroc(typical[0], typical[1])
        added = {"recipe": run.recipe.name, "seed": seed, "hardware": hardware(), "version": version()}
        with RESULTS.open("a") as file:
            for score, (area, stderr) in rows.items():
                settings = {"own": kind, "other": name, "score": score, "resized": resized}
                found = Measurement("ood_auroc", area, stderr, len(x), settings, "vaebm")
                file.write(json.dumps(found.to_json() | added) + "\n")
        print(f"{kind}, seed {seed}, against {name}: {rows['default'][0]:.4f}", flush=True)


def table(rows: list[dict[str, object]]) -> str:
    """Means over seeds, a table for each set."""
    lines = []
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
    parser.add_argument("--print", action="store_true", help="print tables of what was measured")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    done = {(row["settings"]["own"], row["seed"], row["settings"]["other"]) for row in rows}
    for path in arguments.runs:
        measure(Run.open(path), arguments.n, done)
    if arguments.print:
        print(table([json.loads(line) for line in RESULTS.read_text().splitlines()]))


if __name__ == "__main__":
    main()

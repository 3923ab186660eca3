"""Tables: mixed columns in minutes, and how well scores find anomalies. The study behind docs/studies/tables.md.

    python benchmarks/tables.py mixed --seeds 3           # 20,000 rows of 12 columns: time, tests, tails
    python benchmarks/tables.py anomalies --seeds 5       # three public tables of scikit-learn
    python benchmarks/tables.py --print

mixed       a table made by code: correlated numbers, a Pareto tail of index 2, counts, two modes, three categories that
            depend on each other, missing values that depend on another column. Trained by `vaebm train x.csv`, 2,000
            samples, all rows scored; seconds of wall and of processor, one thread. Whether p-values of test rows are
            uniform: scores of test rows against those that calibrate (two-sample Kolmogorov-Smirnov).
anomalies   a model of half of the ordinary rows; the other half against the anomalies, one row at a time. Ordinary and
            anomalous: benign and malignant (breast cancer), the second and third cultivar and the first (wine), nine
            digits and the digit 0 (digits, an image a row). Columns of which 99 % are one value are left out. A seed
            draws the halves and trains the model.

Each table and seed is a cell of results/tables.jsonl and is not measured again.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import ks_2samp
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

from results import hardware, version
from vaebm.data.samples import read_samples
from vaebm.experiment.evaluate import evaluate
from vaebm.experiment.run_directory import Run
from vaebm.experiment.sample import write_samples
from vaebm.experiment.score import write_scores
from vaebm.experiment.train import train
from vaebm.models.score import ScoredModel
from vaebm.vae import elbo

RESULTS = Path(__file__).parent.parent / "results" / "tables.jsonl"
ROWS = 20_000
MEASURED = ["two_sample_auroc", "columns_passed", "column_gap", "correlation_gap", "tail_gap"]
MOSTLY_ONE = 0.99
ELBO_DRAWS = 20


def write_mixed(path: Path, n: int = ROWS) -> None:
    """The table made by code."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((n, 3))
    age = np.clip(np.rint(40 + 12 * z[:, 0] + 3 * rng.standard_normal(n)), 18, 90).astype(int)
    height = 170 + 8 * z[:, 1] + 2 * rng.standard_normal(n)
    weight = 75 + 0.9 * (height - 170) + 9 * z[:, 2] + 0.1 * (age - 40)
    income = 20_000 * (1 - rng.random(n)) ** -0.5 * np.exp(0.3 * z[:, 0])
    region = rng.choice(["north", "south", "east", "west"], n, p=[0.4, 0.3, 0.2, 0.1])
    at_desk = 1 / (1 + np.exp(-(z[:, 0] + (region == "north"))))
    job = np.where(rng.random(n) < at_desk, "office", np.where(rng.random(n) < 0.5, "field", "none"))
    plans = [rng.choice(["a", "b", "c"], n, p=p) for p in ([0.7, 0.2, 0.1], [0.1, 0.3, 0.6])]
    plan = np.where(job == "office", *plans)
    kids, visits = rng.poisson(np.exp(0.4 * z[:, 0])), rng.negative_binomial(2, 0.1, n)
    modes = np.where(rng.random(n) < 0.5, rng.normal(-2, 0.5, n), rng.normal(2, 0.5, n)) + 0.3 * z[:, 1]
    pressure = 120 + 10 * z[:, 2] + 0.3 * (age - 40) + 5 * rng.standard_normal(n)
    lab = np.exp(0.8 * z[:, 2] + 0.5 * rng.standard_normal(n))
    plan = np.where(rng.random(n) < 0.04, "", plan)
    unseen = rng.random(n) < 0.15 + 0.1 * (age > 50)
    columns = {
        "age": age, "height": height.round(3), "weight": weight.round(3), "income": income.round(2), "region": region,
        "job": job, "plan": plan, "kids": kids, "visits": visits, "modes": modes.round(4),
        "pressure": np.where(unseen, "", pressure.round(2).astype(str)), "lab": lab.round(4),
    }  # fmt: skip
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def mixed(seed: int, folder: Path) -> dict[str, object]:
    """Times and measurements of one seed."""
    write_mixed(folder / "mixed.csv")
    found: dict[str, object] = {}

    def timed(what: str, run: Callable[[], object]) -> None:
        wall, processor = time.perf_counter(), time.process_time()
        run()
        found[f"seconds_{what}"] = round(time.perf_counter() - wall, 1)
        found[f"cpu_seconds_{what}"] = round(time.process_time() - processor, 1)

    out = folder / "run"
    timed("train", lambda: train(folder / "mixed.csv", out, overrides=[f"seed={seed}"], device="cpu"))
    timed("sample", lambda: write_samples(out, 2000, folder / "rows.csv"))
    timed("score", lambda: write_scores(out, folder / "mixed.csv", folder / "scores.csv"))
    run = Run.open(out)
    model = run.model("cpu")
    assert isinstance(model, ScoredModel)
    tested = model.score(run.data().test.all()).score
    assert model.score_density is not None
    found["p_value_uniform"] = float(ks_2samp(tested, model.score_density.scores).pvalue)
    for m in evaluate(run, only=MEASURED):
        found[f"{m.name} {m.subject}"] = m.value
        if "worst" in m.settings:
            found[f"worst {m.subject}"] = m.settings["worst"]
    return found


def tables() -> dict[str, tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    """Rows, and which of them are anomalies, by name."""
    cancer, wine, digits = load_breast_cancer(), load_wine(), load_digits()
    return {
        "breast cancer": (cancer.data, cancer.target == 0),
        "wine": (wine.data, wine.target == 0),
        "digits": (digits.data, digits.target == 0),
    }


def anomalies(name: str, seed: int, folder: Path) -> dict[str, object]:
    """AUROC of each score, of one table and seed."""
    rows, strange = tables()[name]
    order = np.random.default_rng(seed).permutation(np.flatnonzero(~strange))
    ordinary, fresh = order[: len(order) // 2], order[len(order) // 2 :]
    mostly = [max(np.unique(column, return_counts=True)[1]) / len(ordinary) for column in rows[ordinary].T]
    kept = np.array(mostly) < MOSTLY_ONE
    truth = np.repeat([False, True], [len(fresh), int(strange.sum())])
    seen, asked = rows[ordinary][:, kept], np.concatenate([rows[fresh], rows[strange]])[:, kept]
    np.save(folder / "ordinary.npy", seen)
    np.save(folder / "asked.npy", asked)
    run = train(folder / "ordinary.npy", folder / "run", overrides=[f"seed={seed}"], device="cpu")
    model = run.model("cpu")
    assert isinstance(model, ScoredModel)
    x = read_samples(folder / "asked.npy", model.data_shape, columns=model.columns).x
    scored = model.score(x)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        bound = torch.stack([elbo(model.vae, x, generator).value for _ in range(ELBO_DRAWS)]).mean(0)
    forest = IsolationForest(random_state=seed).fit(seen)
    scores = {
        "default score": scored.score.numpy(),
        "-ELBO": -bound.numpy(),
        "-log p, VAE (bound)": -scored.parts["log_likelihood_lower"].numpy(),
        "-log h": -scored.parts["log_density"].numpy(),
        "energy": scored.parts["energy"].numpy(),
        "isolation forest": -forest.score_samples(asked),
    }
    found: dict[str, object] = {f"auroc {which}": float(roc_auc_score(truth, score)) for which, score in scores.items()}
    return found | {"rows": len(ordinary), "columns": int(kept.sum()), "asked": len(truth)}


def cells() -> list[dict[str, object]]:
    if not RESULTS.exists():
        return []
    return [json.loads(line) for line in RESULTS.read_text().splitlines()]


def show(rows: list[dict[str, object]]) -> None:
    """Means and standard deviations over seeds."""
    for name in dict.fromkeys(str(row["table"]) for row in rows):
        chosen = [row for row in rows if row["table"] == name]
        print(f"\n{name}: {len(chosen)} seeds")
        for key in chosen[0]:
            values = [float(value) for row in chosen if isinstance(value := row.get(key), int | float)]
            if values and key != "seed":
                spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
                print(f"  {key:<40} {statistics.mean(values):.3f}{spread}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?", choices=("mixed", "anomalies"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--print", action="store_true", help="measure nothing, print what is there")
    args = parser.parse_args()
    names = [] if args.print or args.study is None else ["mixed"] if args.study == "mixed" else list(tables())
    for seed in range(args.seeds):
        for name in names:
            if any(row["table"] == name and row["seed"] == seed for row in cells()):
                continue
            with tempfile.TemporaryDirectory() as folder:
                found = mixed(seed, Path(folder)) if name == "mixed" else anomalies(name, seed, Path(folder))
            cell = {"table": name, "seed": seed, **found, "version": version(), "hardware": hardware()}
            with RESULTS.open("a") as file:
                file.write(json.dumps(cell) + "\n")
            print(json.dumps(cell), flush=True)
    show(cells())


if __name__ == "__main__":
    main()

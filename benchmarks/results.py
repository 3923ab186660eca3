"""Results as the documentation quotes them: trains a recipe with several seeds, measures it, writes results/NAME.json.

    python benchmarks/results.py digits --seeds 0 1 2
    python benchmarks/results.py digits vae.likelihood.kind=gaussian --name digits-gaussian --seeds 0 1 2
    python benchmarks/results.py mnist-small evaluation.features.inception-768.n=5000
    python benchmarks/results.py --print digits gaussians25
    python benchmarks/results.py --docs

Runs go to runs/results/NAME-SEED and are resumed if they are there. Images are measured with their pixel noise, with
as much of it as serves each best and as decoder means, of the same samples, unless the recipe names its shows.
Overrides of the evaluation are no part of the run: what `vaebm train` measures at its end may be less than what is
measured here. Each line of the file is a measurement, with recipe, seed, seconds of training, hardware, command and
version added; what the file holds of other seeds is kept. Then the table is printed (`benchmarks/results_table.py`);
`--docs` writes those of all files into docs/results.md.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from results_table import Record, fill, read_records, table

from vaebm.errors import InputError
from vaebm.experiment.environment import processor
from vaebm.experiment.evaluate import evaluate
from vaebm.experiment.run_directory import Run
from vaebm.experiment.train import train
from vaebm.progress import on_terminal

ROOT = Path(__file__).parent.parent
RESULTS, PAGE = ROOT / "results", ROOT / "docs" / "results.md"


def hardware(device: str = "cpu") -> str:
    """The accelerator's name, or the processor's as the system tells it, and PyTorch's threads."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    features = torch.backends.cpu.get_cpu_capability()
    return f"{processor()}, {features}, {torch.get_num_threads()} threads"


def version() -> str:
    """The commit that the working tree stands on; "unknown" where it is a copy without its history."""
    asked = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "unknown"


def shows(run: Run) -> list[str]:
    """Overrides for an evaluation: the recipe's shows, else, of images, its own and the usual three."""
    recipe = run.recipe
    if recipe.evaluation.shows is not None or run.data().modality.name != "image":
        return []
    names = dict.fromkeys((recipe.show, "sample", "scaled", "mean"))
    return [f"evaluation.shows=[{', '.join(names)}]"]


def records_of(recipe: str, overrides: Sequence[str], name: str, seed: int, device: str) -> list[Record]:
    """Trains and measures one seed, or goes on with it."""
    measured = [override for override in overrides if override.startswith("evaluation.")]
    overrides = [f"seed={seed}", *(override for override in overrides if override not in measured)]
    path = ROOT / "runs" / "results" / f"{name}-{seed}"
    run = train(recipe, path, overrides=overrides, device=device, progress=on_terminal())
    measurements = evaluate(run, device=device, overrides=[*measured, *shows(run)], progress=on_terminal())
    added = {
        "recipe": recipe,
        "seed": seed,
        "seconds": next(event["seconds"] for event in reversed(run.events()) if event["event"] == "complete"),
        "hardware": hardware(device),
        "command": shlex.join(["vaebm", "train", recipe, *overrides]),
        "version": version(),
    }
    return [measurement.to_json() | added for measurement in measurements]


def _with_origin(fresh: Sequence[Record], kept: Sequence[Record]) -> list[Record]:
    """Records of a seed; a measurement of the same run that was only read again keeps what made it."""

    def what(record: Record) -> str:
        return json.dumps(
            [record[key] for key in ("seed", "seconds", "name", "subject", "value", "n", "settings")], sort_keys=True
        )

    known = {what(record): record for record in kept}
    return [known.get(what(record), record) for record in fresh]


def main() -> None:
    """Trains, measures, writes, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?")
    parser.add_argument("overrides", nargs="*", help="key=value")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--name", help="of the results file; the recipe's name unless given")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    parser.add_argument("--print", nargs="+", default=[], metavar="NAME", help="only print the tables of these results")
    parser.add_argument("--docs", action="store_true", help="only write the tables into docs/results.md")
    arguments = parser.parse_intermixed_args()
    for name in arguments.print:
        sys.stdout.write(table(read_records(RESULTS / f"{name}.json")))
    if arguments.docs:
        PAGE.write_text(fill(PAGE.read_text(), RESULTS))
    if arguments.print or arguments.docs:
        return
    if arguments.recipe is None:
        parser.error("name a recipe, or --print or --docs")
    name = arguments.name or arguments.recipe
    target = RESULTS / f"{name}.json"
    target.parent.mkdir(exist_ok=True)
    for seed in arguments.seeds:
        try:
            fresh = records_of(arguments.recipe, arguments.overrides, name, seed, arguments.device)
        except InputError as wrong:
            parser.exit(2, f"{wrong}\n")
        kept = read_records(target) if target.exists() else []
        records = sorted([*(r for r in kept if r["seed"] != seed), *_with_origin(fresh, kept)], key=lambda r: r["seed"])
        target.write_text("[\n" + ",\n".join(json.dumps(record) for record in records) + "\n]\n")
    sys.stdout.write(table(read_records(target)))


if __name__ == "__main__":
    main()

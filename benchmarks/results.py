"""Results as the documentation quotes them: trains a recipe with several seeds, measures it, writes results/NAME.json.

    python benchmarks/results.py digits --seeds 0 1 2
    python benchmarks/results.py digits vae.likelihood.kind=gaussian --name digits-gaussian --seeds 0 1 2
    python benchmarks/results.py gaussians25 --seeds 0 1 2

Runs go to runs/results/NAME-SEED and are resumed if they are there. Each line of the file is a measurement with recipe,
seed, seconds of training, hardware, command and version added. Afterwards medians over seeds are printed.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import torch

from vaebm.experiment.evaluate import evaluate
from vaebm.experiment.train import train
from vaebm.progress import on_terminal

ROOT = Path(__file__).parent.parent


def hardware() -> str:
    """The processor's name, as the system tells it, and PyTorch's threads."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    features = torch.backends.cpu.get_cpu_capability()
    return f"{names[0] if names else platform.processor()}, {features}, {torch.get_num_threads()} threads"


def version() -> str:
    """The commit that the working tree stands on."""
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def main() -> None:
    """Trains, measures, writes, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*", help="key=value")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--name", help="of the results file; the recipe's name unless given")
    arguments = parser.parse_intermixed_args()
    name = arguments.name or arguments.recipe
    records = []
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for seed in arguments.seeds:
        overrides = [f"seed={seed}", *arguments.overrides]
        run = train(
            arguments.recipe,
            ROOT / "runs" / "results" / f"{name}-{seed}",
            overrides=overrides,
            device="cpu",
            progress=on_terminal(),
        )
        measurements = evaluate(run, device="cpu", progress=on_terminal())
        seconds = next(event["seconds"] for event in reversed(run.events()) if event["event"] == "complete")
        added = {
            "recipe": arguments.recipe,
            "seed": seed,
            "seconds": seconds,
            "hardware": hardware(),
            "command": shlex.join(["vaebm", "train", arguments.recipe, *overrides]),
            "version": version(),
        }
        for measurement in measurements:
            records.append({**measurement.to_json(), **added})
            values[measurement.name, measurement.subject].append(measurement.value)
    target = ROOT / "results" / f"{name}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text("[\n" + ",\n".join(json.dumps(record) for record in records) + "\n]\n")
    for (measured, subject), found in values.items():
        spread = " ".join(f"{value:.4g}" for value in found)
        sys.stdout.write(f"{measured:22s} {subject:15s} median {statistics.median(found):9.4g}   seeds: {spread}\n")


if __name__ == "__main__":
    main()

"""What trials of reliability share: the run, its commands, lines of results, and how two runs differ."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent.parent / "results" / "reliability.jsonl"
Row = dict[str, Any]

RECIPE = """\
summary: every stage on digits, in seconds
data: {kind: digits}
vae: {kind: mlp, latent_dim: 8, hidden: [64], likelihood: {kind: censored, scale: global}}
code_mixture: {components: 30}
energy:
  image: {kind: residual, stem: 8, widths: [8, 16], halve: [0]}
  latent: {kind: correction, hidden: [32]}
sampler: {kind: underdamped, step_size: 0.2, friction: 0.5, steps: 20}
vae_stage: {iterations: 300}
energy_stage:
  batch_size: 32
  latent: {iterations: 100}
  phases:
    ratio: {kind: density_ratio, iterations: 60, validate_every: 20}
    rounds: {kind: ratio_rounds, rounds: 2, iterations_per_round: 10, chains: 128, restart_steps: 10}
    divergence: {kind: contrastive_divergence, iterations: 15, buffer: 128}
evaluation: {n: 200, annealing: false}
logging: {every: 5}
threads: 1
"""


def append(**row: Any) -> None:
    TARGET.parent.mkdir(exist_ok=True)
    with TARGET.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def rows(trial: str) -> list[Row]:
    told = TARGET.read_text(encoding="utf-8").splitlines() if TARGET.exists() else []
    return [row for row in map(json.loads, told) if row["trial"] == trial]


def vaebm(*words: str | Path, cwd: Path, **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vaebm", *map(str, words)]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def done(*words: str | Path, cwd: Path) -> float:
    """Runs a command to its end; the seconds that it took."""
    started = time.perf_counter()
    process = vaebm(*words, cwd=cwd)
    _, said = process.communicate()
    if process.returncode:
        raise SystemExit(f"{words} ended with {process.returncode}: {said}")
    return time.perf_counter() - started


def told(run: Path) -> list[Row]:
    """What metrics.jsonl says, but for times."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    kept = [row for row in lines if row.get("event") != "damaged_checkpoint"]
    return [{name: value for name, value in row.items() if name not in ("seconds", "message")} for row in kept]


def measured(run: Path) -> list[Row]:
    found = json.loads((run / "measurements.json").read_text(encoding="utf-8"))
    return [one for one in found if "seconds" not in one["name"]]


def files(folder: Path) -> dict[str, int]:
    """Sizes by name; a checkpoint by its place from the newest, since moments decide the names of some."""
    names = sorted(path.name for path in (folder / "checkpoints").glob("[0-9]*"))
    place = {f"checkpoints/{name}/": f"checkpoints/{len(names) - i}/" for i, name in enumerate(names)}
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            name = str(path.relative_to(folder))
            name = next((new + name.removeprefix(old) for old, new in place.items() if name.startswith(old)), name)
            found[name] = path.stat().st_size
    return found


def differences(run: Path, whole: Path) -> list[str]:
    """What is not as in the undisturbed run."""
    found = [] if told(run) == told(whole) else ["metrics.jsonl"]
    if (whole / "measurements.json").exists() and measured(run) != measured(whole):
        found.append("measurements.json")
    exact = [*whole.glob("model/*"), *whole.glob("samples/**/*.png"), *whole.glob("samples/draws/*")]
    for path in (path for path in exact if path.is_file()):
        other = run / path.relative_to(whole)
        if not other.is_file() or other.read_bytes() != path.read_bytes():
            found.append(str(path.relative_to(whole)))
    return found


def orphans(run: Path, whole: Path) -> Row:
    """Files that an undisturbed run does not leave."""
    more = {name: size for name, size in files(run).items() if name not in files(whole)}
    return {"orphans": sorted(more), "orphan_bytes": sum(more.values())}

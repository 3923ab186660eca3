"""Samplers against those of ebmkit 0.16 and Pyro 1.9, on the same targets, in turn. The tables in docs/benchmarks.md.

    python -m pip install -c constraints.txt -r benchmarks/requirements.txt
    OMP_NUM_THREADS=1 python benchmarks/samplers.py --repeats 3
    OMP_NUM_THREADS=1 python benchmarks/samplers.py --only banana funnel --repeats 1
    python benchmarks/samplers.py --print results/samplers-cpu.jsonl

Effective sample size (ESS): the smallest bulk ESS, by arviz-stats, over the coordinates and their squares. A sampler
that gives a chain fewer than 5 in its whole run has not mixed: its figure is only a bound, and it is nobody's best. Nor
is one whose averages are off: further from the truth than chance allows, by the spread between chains.

Gradients are counted by the target, one for each chain at each evaluation (of ebmkit's NUTS, whose chains wait for each
other in lockstep, only those that a chain alone would have made; of Pyro, whose chains run one after another, the sum
of all leapfrogs). Seconds are of one CPU thread, as the system accounts them, so that other work on the machine does
not count. Warm-ups come before the draws that are counted; their gradients are recorded apart. Chains start from exact
draws of the target where it has any.

ESS per gradient comes from 32 or 128 chains with history (Pyro: 4). ESS per second is that of 1,000 chains, by the time
that so many take for a draw; Pyro's way there is the better of two: one after another, at the rate of the 4, and all as
one chain of 1,000 times the dimension. It is measured with the target as it is, and compiled: for ours together with
its score by `sampling.compiled`, for the peers, which have nothing of the kind, by torch.compile.

Each finished cell is a line of the results and is not run again.

What a sampler does not learn is chosen for it from a grid, in runs that are not counted: step size and leapfrogs of
ebmkit's HMC (and of ours, on the same grid); step size, leapfrogs and ladder of ebmkit's tempering.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from sampler_problems import PROBLEMS, Method, Problem, Sampler, smallest_ess
from scipy.stats import t as student
from torch import Tensor

from results import hardware, version

ROOT = Path(__file__).parent.parent
FEWEST = 5.0  # effective draws of a chain, below which it has not mixed


def methods() -> dict[str, Method]:
    """All samplers by name; the peers are imported only where they are run."""
    import sampler_ours
    import sampler_peers

    return {**sampler_ours.METHODS, **sampler_peers.METHODS}


# Measuring


def biased(problem: Problem, history: Tensor) -> float:
    """The largest distance of an average from the truth, in standard errors between chains, over what chance allows."""
    if problem.means is None:
        return math.nan
    by_chain = problem.quantities(history).double().mean(dim=0)
    chains, quantities = by_chain.shape
    score = (by_chain.mean(dim=0) - problem.means).abs() / (by_chain.std(dim=0) / math.sqrt(chains))
    return float(score.max()) / float(student.ppf(1 - 1e-3 / 2 / quantities, chains - 1))


def ess_by_error(problem: Problem, history: Tensor) -> float:
    """Of one chain: variance over the squared error of a chain's average; the smallest over the quantities."""
    if problem.means is None:
        return math.nan
    values = problem.quantities(history).double()
    errors = (values.mean(dim=0) - problem.means).square().mean(dim=0)
    return float((values.var(dim=(0, 1)) / errors).min())


def measure(problem: Problem, name: str, sampler: Sampler, seed: int) -> dict[str, Any]:
    started = time.perf_counter()
    result = sampler(problem, seed)
    ess, draws = smallest_ess(problem, result.history), len(result.history)
    return {
        "sampler": name,
        "seed": seed,
        "ess_per_gradient": ess / draws / result.gradients,
        "ess_per_second": ess / draws / result.seconds[0],
        "ess_per_second_compiled": ess / draws / min(result.seconds),
        "ess_by_error_per_gradient": ess_by_error(problem, result.history) / draws / result.gradients,
        "ess_of_a_chain": ess,
        "gradients_per_draw": result.gradients,
        "microseconds_per_gradient": 1e6 * result.seconds[0] / result.gradients,
        "microseconds_per_gradient_compiled": 1e6 * result.seconds[1] / result.gradients,
        "warmup_gradients": result.warmup_gradients,
        "off": biased(problem, result.history),
        "settings": result.settings,
        "wall_seconds": time.perf_counter() - started,
    }


# The report


def hold(row: dict[str, Any]) -> bool:
    """Whether a sampler's figures may be a side's best."""
    return row["exact"] and row["ess_of_a_chain"] >= FEWEST and not row["off"] > 1


def medians(rows: list[dict[str, Any]], problem: str) -> list[dict[str, Any]]:
    """One row a sampler, the medians over repeats; ranges of the figures beside."""
    found = []
    for name in dict.fromkeys(row["sampler"] for row in rows if row["problem"] == problem):
        mine = [row for row in rows if row["problem"] == problem and row["sampler"] == name]
        middle = dict(mine[0])
        for key, value in mine[0].items():
            if isinstance(value, float):
                values = [row[key] for row in mine]
                middle[key], middle[f"{key} range"] = statistics.median(values), (min(values), max(values))
        found.append(middle)
    return found


def figure(row: dict[str, Any], key: str) -> str:
    low, high = row[f"{key} range"]
    return f"{row[key]:.3g} ({low:.3g}–{high:.3g})"


def verdicts(rows: list[dict[str, Any]], ours: str, theirs: str, factor: float, by_hand: bool = True) -> list[str]:
    """The best of each side on each target, by a figure of ours and one of theirs; with those tuned by hand, or not."""
    lines = ["| target | ours | | best of theirs | | ratio | holds |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for problem in dict.fromkeys(row["problem"] for row in rows):
        able = [row for row in medians(rows, problem) if hold(row) and (by_hand or "by hand" not in row["sampler"])]
        mine = max((row for row in able if row["side"] == "vaebm"), key=lambda row: row[ours], default=None)
        yours = max((row for row in able if row["side"] != "vaebm"), key=lambda row: row[theirs], default=None)
        first = f"{mine['sampler']} | {figure(mine, ours)}" if mine else "none mixed |"
        second = f"{yours['sampler']} | {figure(yours, theirs)}" if yours else "none mixed |"
        ratio = mine[ours] / yours[theirs] if mine and yours else math.inf if mine else 0.0
        lines.append(f"| {problem} | {first} | {second} | {ratio:.2g} | {'yes' if ratio >= factor else '**no**'} |")
    return [*lines, ""]


def markdown(rows: list[dict[str, Any]]) -> str:
    """The verdict on each target, then all samplers."""
    lines = ["### ESS per gradient", "", *verdicts(rows, "ess_per_gradient", "ess_per_gradient", 1.0)]
    lines += ["### ESS per second, 1,000 chains: ours with `sampling.compiled`, theirs as they are", ""]
    lines += verdicts(rows, "ess_per_second_compiled", "ess_per_second", 3.0)
    lines += ["### ESS per second, 1,000 chains: ours with `sampling.compiled`, theirs with torch.compile", ""]
    lines += verdicts(rows, "ess_per_second_compiled", "ess_per_second_compiled", 3.0)
    lines += ["### ESS per second, 1,000 chains, as above: only samplers that tune themselves", ""]
    lines += verdicts(rows, "ess_per_second_compiled", "ess_per_second_compiled", 3.0, by_hand=False)
    lines += ["### ESS per second, 1,000 chains: nothing compiled", ""]
    lines += verdicts(rows, "ess_per_second", "ess_per_second", 3.0)
    for problem in dict.fromkeys(row["problem"] for row in rows):
        lines += [f"### {problem}", ""]
        heads = ["sampler", "ESS / gradient", "by error", "ESS / s", "compiled", "gradients a draw", "warm-up"]
        heads += ["numbers", ""]
        lines += [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
        for row in sorted(medians(rows, problem), key=lambda row: -row["ess_per_gradient"]):
            marks = [] if row["exact"] else ["biased by its step size"]
            marks += ["has not mixed"] if row["ess_of_a_chain"] < FEWEST else []
            marks += ["averages off"] if row["off"] > 1 else []
            cells = [
                row["sampler"],
                figure(row, "ess_per_gradient"),
                f"{row['ess_by_error_per_gradient']:.2g}",
                figure(row, "ess_per_second"),
                figure(row, "ess_per_second_compiled"),
                f"{row['gradients_per_draw']:.3g}",
                f"{row['warmup_gradients']:.0f}",
                row["settings"],
                ", ".join(marks),
            ]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Measures what is missing in results/samplers-MACHINE.jsonl, prints Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", help="targets whose names hold one of these words")
    parser.add_argument("--samplers", nargs="+", help="samplers whose names hold one of these words")
    parser.add_argument("--machine", default="cpu", help="names the file")
    parser.add_argument("--print", type=Path, help="only print the tables of a file")
    arguments = parser.parse_args()
    if arguments.print:
        print(markdown(read(arguments.print)))
        return
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    target = ROOT / "results" / f"samplers-{arguments.machine}.jsonl"
    target.parent.mkdir(exist_ok=True)
    rows = read(target) if target.exists() else []
    added = {"hardware": hardware(), "command": shlex.join(["python", *sys.argv]), "version": version()}
    every = methods()
    for name, make in PROBLEMS.items():
        if arguments.only and not any(word in name for word in arguments.only):
            continue
        problem = make()
        chosen = [
            method
            for method in every
            if (problem.ladder or not every[method].tempered)
            and (not arguments.samplers or any(word in method for word in arguments.samplers))
        ]
        done = {(row["sampler"], row["seed"]) for row in rows if row["problem"] == name}
        missing = [(method, seed) for seed in range(arguments.repeats) for method in chosen]
        missing = [cell for cell in missing if cell not in done]
        samplers = {method: every[method].prepare(problem) for method in dict.fromkeys(m for m, _ in missing)}
        for method, seed in missing:
            sort = {"problem": name, "side": every[method].side, "exact": every[method].exact}
            rows.append({**sort, **measure(problem, method, samplers[method], seed), **added})
            with target.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            short = {key: f"{value:.3g}" if isinstance(value, float) else value for key, value in rows[-1].items()}
            print({key: short[key] for key in short if key not in added}, file=sys.stderr, flush=True)
    print(markdown(rows))


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


if __name__ == "__main__":
    main()

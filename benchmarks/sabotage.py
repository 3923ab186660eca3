"""What training does when it is sabotaged: the study behind the section Sabotage of docs/studies/stability.md.

    OMP_NUM_THREADS=1 python benchmarks/sabotage.py --seeds 0 1 2
    python benchmarks/sabotage.py --table

The recipe is `digits`. Its density ratio has neither a sampler nor a replay buffer to damage, so a phase of contrastive
divergence on persistent chains follows where that is the stage. Each cell is one act at a random iteration of one
stage of one seed:

    learning rate x 100, step size x 100    from that iteration on, in every try: a setting that is wrong
    NaN pixels, buffer, weights x 1e3       once: an accident

It begins where an undisturbed run of the same seed began that stage, and is held against that run: `energy_gain` of
held-out data, and the Fréchet distance of 1,440 samples together. Each finished cell is a line
of results/sabotage.jsonl and is not run again; `--table` prints them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from results import hardware, version
from vaebm.data import Batch, Split
from vaebm.errors import Diverged
from vaebm.experiment.evaluate import evaluate
from vaebm.experiment.recipe import Recipe, load_recipe
from vaebm.experiment.run_directory import METRICS, RECIPE, Run
from vaebm.experiment.train import train
from vaebm.training.estimators.contrastive_divergence import ContrastiveDivergence
from vaebm.training.estimators.density_ratio import DensityRatio
from vaebm.training.stage import Stage
from vaebm.training.vae import VAEStage

ROOT = Path(__file__).parent.parent
TARGET, RUNS = ROOT / "results" / "sabotage.jsonl", ROOT / "runs" / "sabotage"
STAGES: dict[str, type[Any]] = {"vae": VAEStage, "ratio": DensityRatio, "divergence": ContrastiveDivergence}
ITERATIONS = {"vae": 2000, "ratio": 600, "divergence": 150}
DIVERGENCE = (
    "energy_stage.phases.divergence={kind: contrastive_divergence, iterations: 150, learning_rate: 1e-4,"
    " validate_every: 50, energy_square: 1e-2, buffer: 1024, replay_prob: 0.95, replay_ramp_iterations: 50,"
    " sampler: {kind: mala, step_size: 0.17, steps: 6, warmup: 0}}"
)
KEPT = ["checkpoint.keep=1000", "checkpoint.every_seconds=1000"]
DRAWS = ["evaluation.draws=4"]
EDGE = 50  # iterations of a stage before and after which nothing is done to it
NOTICED, TOLERANCE = 50, 0.15  # iterations, and the part of the undisturbed figure that may be missing
broken_batches: list[int] = []  # one entry for each batch whose pixels are to be broken
Row = dict[str, Any]
Act = Callable[[Any], object]


def rate_times_100(stage: Any) -> None:
    """What the recipe would have said."""
    stage.optimizer._learning_rate = 100 * stage.learning_rate if hasattr(stage, "learning_rate") else 0.1


def step_times_100(stage: ContrastiveDivergence) -> None:
    """The sampler's, in the settings of the phase."""
    assert stage.settings.sampler is not None
    sampler = stage.settings.sampler.model_copy(update={"step_size": 17.0})
    stage.settings = stage.settings.model_copy(update={"sampler": sampler})


@torch.no_grad()
def weights_times_1000(stage: Stage) -> None:
    """Of the net that is learned."""
    net = stage.training.model.vae if isinstance(stage, VAEStage) else stage.energy  # type: ignore[attr-defined]
    for weight in net.parameters():
        weight.mul_(1e3)


def corrupt_buffer(stage: ContrastiveDivergence) -> None:
    """Half of its bytes are another machine's: random bits, which are numbers of any size, and some that are none."""
    assert stage.buffer is not None
    positions = stage.buffer.positions
    assert positions is not None
    generator = torch.Generator().manual_seed(stage.training.seed)
    bits = torch.randint(-(2**31), 2**31, positions.shape, generator=generator).to(torch.int32).view(torch.float32)
    half = torch.rand(len(positions), generator=generator) < 0.5
    positions[half] = bits[half]


def break_a_batch(stage: Stage) -> None:
    """The next one that is drawn."""
    broken_batches.append(stage.training.seed)  # type: ignore[attr-defined]


LASTING: dict[str, Act] = {"learning rate x 100": rate_times_100, "step size x 100": step_times_100}
ONCE: dict[str, Act] = {
    "NaN pixels": break_a_batch,
    "corrupted buffer": corrupt_buffer,
    "weights x 1e3": weights_times_1000,
}
CELLS = {
    "vae": ["learning rate x 100", "NaN pixels", "weights x 1e3"],
    "ratio": ["none", "learning rate x 100", "NaN pixels", "weights x 1e3"],
    "divergence": ["none", *LASTING, *ONCE],
}
HELD_AGAINST = {"vae": "ratio", "ratio": "ratio", "divergence": "divergence"}


@contextmanager
def sabotaged(stage_type: type[Any], sabotage: str, at: int) -> Iterator[None]:
    """Within, a stage of the type meets the act at an iteration."""
    step, batch, done = stage_type.step, Split.batch, list[int]()

    def sabotaged_step(stage: Any, iteration: int) -> dict[str, float]:
        if sabotage in LASTING and iteration >= at:
            LASTING[sabotage](stage)
        elif iteration == at and not done:
            done.append(at)
            ONCE[sabotage](stage)
        figures: dict[str, float] = step(stage, iteration)
        return figures

    def broken_batch(split: Split, indices: Tensor, generator: torch.Generator | None = None) -> Batch:
        given = batch(split, indices, generator)
        if broken_batches:
            broken_batches.pop()
            given.x[0] = torch.nan
        return given

    with patch.object(stage_type, "step", sabotaged_step), patch.object(Split, "batch", broken_batch):
        yield


def figures(run: Run) -> Row:
    """Of a run with a model: what it gained, how far its samples are, and whether it is of use."""
    found = evaluate(run, only=["energy_gain", "frechet_distance"], subjects=["vaebm"], overrides=DRAWS, device="cpu")
    model = run.model()
    finite = all(bool(value.isfinite().all()) for value in [*model.parameters(), model.sample(16)])
    gain = next(m.value for m in found if m.name == "energy_gain")
    distance = next(m.value for m in found if m.name == "frechet_distance")
    return {"gain": gain, "distance": distance, "usable": finite}


def recipe_of(stage: str, seed: int) -> Recipe:
    """With the phase of contrastive divergence where that is the stage."""
    phase = [DIVERGENCE] if stage == "divergence" else []
    return load_recipe("digits", [f"seed={seed}", *KEPT, *phase]).for_device(torch.device("cpu"))


def undisturbed(stage: str, seed: int) -> Run:
    """The run that cells of a stage are held against, trained once a seed."""
    path = RUNS / f"undisturbed-{seed}"
    if stage != "divergence":
        return train("digits", path, overrides=[f"seed={seed}", *KEPT], device="cpu")
    longer = RUNS / f"undisturbed-divergence-{seed}"
    if not longer.exists():
        begin(longer, stage, seed)
    return train(longer, device="cpu")


def begin(path: Path, stage: str, seed: int) -> None:
    """Makes a run that stands where an undisturbed one began a stage."""
    whole = undisturbed("ratio", seed)
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    for name in ("data.json", METRICS):
        shutil.copy2(whole.path / name, path / name)
    total = 0
    for name, iterations in ITERATIONS.items():
        if name == stage:
            break
        total += iterations
    for checkpoint in (whole.path / "checkpoints").iterdir():
        if checkpoint.name <= f"{total:08d}":
            shutil.copytree(checkpoint, path / "checkpoints" / checkpoint.name)
    (path / RECIPE).write_text(recipe_of(stage, seed).to_yaml())


def cell(stage: str, sabotage: str, seed: int) -> Row:
    """One act, and what became of it."""
    key = sum(map(ord, stage + sabotage)) + 1000 * seed
    generator = torch.Generator().manual_seed(key)
    at = int(torch.randint(EDGE, ITERATIONS[stage] - EDGE, (), generator=generator))
    path, ended, reason = RUNS / "cell", "complete", None
    begin(path, stage, seed)
    try:
        with sabotaged(STAGES[stage], sabotage, at):
            train(path, device="cpu")
    except Diverged as given_up:
        ended, reason = "status 3", str(given_up)
    run = Run.open(path)
    alarms = [event for event in run.events() if event["event"] in ("rollback", "diverged")]
    first = re.search(r"iteration (\d+)", alarms[0]["message"]) if alarms else None
    return {
        "stage": stage,
        "sabotage": sabotage,
        "seed": seed,
        "act": at,
        "noticed_after": None if first is None else int(first[1]) - at,
        "rollbacks": sum(event["event"] == "rollback" for event in alarms),
        "ended": ended,
        "reason": reason or (alarms[0]["message"] if alarms else None),
        **figures(run),
    }


def within(row: Row, whole: Row) -> bool:
    """Whether it ended as well as the undisturbed run of its seed."""
    near = row["distance"] <= (1 + TOLERANCE) * whole["distance"]
    return bool(near and row["gain"] >= whole["gain"] - TOLERANCE * abs(whole["gain"]))


def table(rows: list[Row]) -> str:
    """A line for each stage and act; seeds beside each other."""
    whole = {(row["stage"], row["seed"]): row for row in rows if row["sabotage"] == "none"}
    lines = [
        "| stage | act | noticed after (iterations) | returns | ended | gain (nats) | distance |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]

    def ended(row: Row) -> str:
        as_well = within(row, whole[HELD_AGAINST[row["stage"]], row["seed"]])
        return str(row["ended"]) if row["ended"] != "complete" or as_well else "worse"

    def side_by_side(found: list[Row], said: Callable[[Row], str]) -> str:
        return ", ".join(said(row) for row in found)

    for stage, sabotage in ((stage, act) for stage, acts in CELLS.items() for act in acts):
        found = sorted(
            (row for row in rows if (row["stage"], row["sabotage"]) == (stage, sabotage)), key=lambda row: row["seed"]
        )
        cells = [
            side_by_side(found, lambda row: "not" if row["noticed_after"] is None else str(row["noticed_after"])),
            side_by_side(found, lambda row: str(row["rollbacks"])),
            side_by_side(found, ended),
            side_by_side(found, lambda row: f"{row['gain']:.2f}"),
            side_by_side(found, lambda row: f"{row['distance']:.2f}"),
        ]
        lines.append(f"| {' | '.join([stage, sabotage, *cells])} |")
    return "\n".join(lines)


def main() -> None:
    """Runs what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--stages", nargs="+", choices=list(CELLS), default=list(CELLS))
    parser.add_argument("--table", action="store_true", help="only print the table of what is there")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in TARGET.read_text().splitlines()] if TARGET.exists() else []
    if arguments.table:
        sys.stdout.write(table(rows) + "\n")
        return
    done = {(row["stage"], row["sabotage"], row["seed"]) for row in rows}
    for stage in arguments.stages:
        for seed, act in itertools.product(arguments.seeds, CELLS[stage]):
            if (stage, act, seed) in done:
                continue
            if act == "none":
                nothing = {"act": None, "noticed_after": None, "rollbacks": 0, "ended": "complete", "reason": None}
                row = {"stage": stage, "sabotage": act, "seed": seed, **nothing, **figures(undisturbed(stage, seed))}
            else:
                row = cell(stage, act, seed)
            line = json.dumps({**row, "hardware": hardware(), "version": version()})
            with TARGET.open("a") as file:
                file.write(line + "\n")
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()

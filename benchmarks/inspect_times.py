"""Is `vaebm inspect` right? Estimated times of a step of every stage, and of a thousand samples, against measured ones.

    python benchmarks/inspect_times.py digits gaussians25

Every stage begins with untrained weights: rejection in E_z then keeps as many draws as the estimate assumes.
Both are in processor time of the main thread, so that other programs on the machine do not count.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from pathlib import Path

from vaebm.data import PublishedSettings
from vaebm.experiment.inspect import inspect_recipe
from vaebm.experiment.recipe import load_recipe
from vaebm.experiment.train import build_model
from vaebm.progress import silent
from vaebm.training.engine import Engine
from vaebm.training.stage import Training

SECONDS, STEPS = 5.0, 20  # of measuring a stage
SAMPLES = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+")
    print("| recipe | step of | estimated, ms | measured, ms | ratio |\n| --- | --- | --- | --- | --- |")
    for name in parser.parse_args().recipes:
        compare(name)


def compare(name: str) -> None:
    few = ["code_mixture.codes=1000", "energy_stage.latent.codes=2000"]
    recipe = load_recipe(name, few)
    estimated = inspect_recipe(recipe, "cpu")
    engine = Engine("cpu", 0, None, Path(tempfile.mkdtemp()))
    recipe = recipe.for_device(engine.device)
    data = recipe.data.stand_in() if isinstance(recipe.data, PublishedSettings) else recipe.data.load()
    model = build_model(recipe, data, engine.device)
    begun = copy.deepcopy(model.state_dict())
    stages = recipe.training_settings().stages(Training(model, data.train, engine, silent(), 0))
    for stage, expected in zip(stages, estimated.numbers["stages"], strict=True):
        if expected.get("pool_seconds"):
            continue  # a round of chains has to be over before its first step
        stage.begin()
        stage.step(0)
        times: list[float] = []
        while len(times) < STEPS and sum(times) < SECONDS:
            started = time.thread_time()
            stage.step(1 + len(times))
            times.append(time.thread_time() - started)
        row(name, stage.name, expected["seconds_per_iteration"], statistics.median(times))
        model.load_state_dict(begun)
        model.eval()
    started = time.thread_time()
    model.sample(SAMPLES)
    row(
        name,
        "1,000 samples",
        estimated.numbers["seconds_per_thousand_samples"],
        (time.thread_time() - started) * 1000 / SAMPLES,
    )


def row(name: str, what: str, estimated: float, measured: float) -> None:
    print(
        f"| {name} | {what} | {1e3 * estimated:,.1f} | {1e3 * measured:,.1f} | {estimated / measured:.2f} |", flush=True
    )


if __name__ == "__main__":
    main()

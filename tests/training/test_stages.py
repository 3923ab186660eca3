"""Stages follow each other in the order of the recipe, each begun, stepped and ended once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vaebm.experiment.recipe import load_recipe
from vaebm.experiment.train import build_model, train
from vaebm.progress import silent
from vaebm.training.engine import Engine
from vaebm.training.stage import Training


def stages_of(recipe_file: Path, engine: Engine, *overrides: str) -> list[str]:
    recipe = load_recipe(recipe_file, ["data.train_size=20", "data.test_size=20", *overrides])
    data = recipe.data.load()
    training = Training(build_model(recipe, data, engine.device), data.train, engine, silent(), 0)
    return [stage.name for stage in recipe.training_settings().stages(training)]


def test_in_the_order_of_the_recipe(points: Path, engine: Engine, stages: list[str], tmp_path: Path) -> None:
    assert stages_of(points, engine) == stages
    lines = points.read_text().splitlines()
    places = [next(i for i, line in enumerate(lines) if line.startswith(f"    {name}:")) for name in stages[2:]]
    lines[places[0] : places[-1] + 1] = [lines[place] for place in reversed(places)]
    points.write_text("\n".join(lines))
    assert stages_of(points, engine) == [*stages[:2], *reversed(stages[2:])]


def test_null_removes_a_phase(points: Path, engine: Engine) -> None:
    removed = [f"energy_stage.phases.{name}=null" for name in ("ratio", "divergence")]
    assert stages_of(points, engine, *removed) == ["vae", "latent_energy", "rounds", "importance"]


def test_a_phase_may_come_twice_under_two_names(points: Path, engine: Engine) -> None:
    again = "energy_stage.phases.again={kind: density_ratio, iterations: 1}"
    assert stages_of(points, engine, again)[-1] == "again"


def test_only_what_has_something_to_learn_is_a_stage(points: Path, engine: Engine, stages: list[str]) -> None:
    assert stages_of(points, engine, "energy.image=null") == stages[:2]
    assert stages_of(points, engine, "energy.latent=null") == ["vae", *stages[2:]]
    assert stages_of(points, engine, "energy.latent.kind=mixture") == ["vae", *stages[2:]]
    assert stages_of(points, engine, "energy.latent=null", "energy.image=null") == ["vae"]


def test_metrics_tell_every_stage_in_order(points: Path, tmp_path: Path, stages: list[str]) -> None:
    run = train(points, tmp_path / "run", device="cpu", overrides=["logging.every=3"])
    rows: list[dict[str, Any]] = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [row["stage"] for row in rows if row.get("event") == "stage"] == stages
    assert [row["iterations"] for row in rows if row.get("event") == "stage"] == [4] * len(stages)
    told = [(row["stage"], row["iteration"]) for row in rows if "event" not in row]
    assert told == [(stage, iteration) for stage in stages for iteration in (3, 4)]
    seconds = [row["seconds"] for row in rows if "event" not in row]
    assert seconds == sorted(seconds)
    assert rows[-1]["event"] == "complete"
    figures = {row["stage"]: row for row in rows if "event" not in row}
    assert {"loss", "elbo", "kl_z", "kl_weight", "gradient_norm"} <= figures["vae"].keys()
    assert {"loss", "gap", "ratio_excess"} <= figures["latent_energy"].keys()
    assert {"loss", "gap", "ratio_excess", "proposal_ess"} <= figures["ratio"].keys()
    assert {"loss", "gap", "ratio_excess", "acceptance", "stuck_fraction"} <= figures["rounds"].keys()
    assert {"loss", "gap", "acceptance", "stuck_fraction"} <= figures["divergence"].keys()
    assert {"loss", "gap", "proposal_ess"} <= figures["importance"].keys()


@pytest.mark.parametrize("stage", ["vae_stage", "energy_stage"])
def test_more_processes_than_rows_are_refused(stage: str, points: Path, engine: Engine) -> None:
    engine.world_size = 2
    assert engine.per_process(5) == 2
    with pytest.raises(ValueError, match=r"batch_size.*2 processes"):
        engine.per_process(1)

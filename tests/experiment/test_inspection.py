"""What a recipe will cost, and what happened in a run."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from vaebm.experiment import machine
from vaebm.experiment.catalogue import names
from vaebm.experiment.evaluate import evaluate
from vaebm.experiment.inspect import inspect_recipe, inspect_run
from vaebm.experiment.recipe import load_recipe
from vaebm.experiment.run_directory import Run
from vaebm.experiment.train import train
from vaebm.sampling import KERNELS

KEY = "flops_per_thousand_samples"

ROUNDS = (
    "energy_stage.phases.rounds={kind: ratio_rounds, rounds: 3, iterations_per_round: 2, chains: 32, restart_steps: 3}"
)
DIVERGENCE = "energy_stage.phases.divergence={kind: contrastive_divergence, iterations: 4, buffer: 512}"


def test_a_recipe(points_recipe: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    recipe = load_recipe(points_recipe, [ROUNDS, DIVERGENCE, "energy.latent.kind=correction"])
    inspection = inspect_recipe(recipe, device="cpu")
    lines = inspection.sentences
    assert lines[0] == "recipe points: four Gaussians, learned in a second"
    assert lines[1].startswith("data: 400 training, 10,000 validation and 200 held-out points in the plane")
    assert re.fullmatch(
        r"model: [\d,]+ weights in the vae, [\d,]+ weights in the energy; 2 latents, chains move in 4 dimensions",
        lines[2],
    )
    stages = [line.split(":")[0] for line in lines[3:8]]
    assert stages == [f"stage {name}" for name in ("vae", "latent_energy", "ratio", "rounds", "divergence")]
    assert re.fullmatch(
        r"stage rounds: 6 iterations, [\d.e-]+ GFLOP and [\d.]+ ms each, chains [\d.]+ s: [\d.]+ s", lines[6]
    )
    assert re.fullmatch(r"memory while training: about [\d,]+ MiB beside PyTorch itself", lines[8])
    assert re.fullmatch(r"training on cpu: about [\d.]+ s; 1,000 samples: about [\d.]+ s", lines[9])
    assert len(lines) == 10
    numbers = json.loads(json.dumps(inspection.numbers))
    assert numbers["recipe"] == "points"
    assert numbers["device"] == "cpu"
    assert numbers["noise_dim"] == 4
    # Encoder 2-8-4, decoder 2-8-2, one scale.
    assert numbers["weights"]["vae"] == (2 * 8 + 8 + 8 * 4 + 4) + (2 * 8 + 8 + 8 * 2 + 2) + 1
    assert [stage["iterations"] for stage in numbers["stages"]] == [10, 1500, 10, 6, 4]
    assert numbers["seconds"] == pytest.approx(sum(stage["seconds"] for stage in numbers["stages"]))
    assert numbers["memory_bytes"] > 0
    assert numbers["seconds_per_thousand_samples"] > 0
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", [name for name in names() if name not in ("folder", "table")])
def test_every_recipe_is_inspected_without_its_data(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is allocated at full size: CelebA-HQ's NVAE has as many weights as all others together."""
    monkeypatch.setattr(machine, "BUDGET", 0.05)
    numbers = inspect_recipe(load_recipe(name), device="cpu").numbers
    learned = [stage for stage in numbers["stages"] if stage["name"] != "base"]  # whose moments need no product
    assert learned
    for stage in learned:
        assert stage["flops_per_iteration"] > 0
        assert 0 < stage["seconds_per_iteration"] < math.inf
        assert stage["activation_bytes"] > 0
    assert numbers["seconds_per_thousand_samples"] > 0


def test_the_operations_of_a_small_vae(points_recipe: Path) -> None:
    """Encoder 2-8-4 and decoder 2-8-2: a product forwards, one for each weight, and one for each input but the data."""
    recipe = load_recipe(points_recipe)
    stage = inspect_recipe(recipe, device="cpu").numbers["stages"][0]
    forwards, first = 2 * 8 + 8 * 4 + 2 * 8 + 8 * 2, 2 * 8
    assert stage["flops_per_iteration"] == 2 * recipe.vae_stage.batch_size * (3 * forwards - first)


def test_chains_cost_in_proportion_to_their_steps(points_recipe: Path) -> None:
    ten, twenty, forty = (
        inspect_recipe(load_recipe(points_recipe, [f"sampler.steps={steps}"]), device="cpu").numbers[KEY]
        for steps in (10, 20, 40)
    )
    assert forty - twenty == pytest.approx(2 * (twenty - ten))
    assert twenty > ten > 0


@pytest.mark.parametrize("kind", sorted(KERNELS))
def test_every_kernel_is_counted(kind: str, points_recipe: Path) -> None:
    recipe = load_recipe(points_recipe, [f"sampler={{kind: {kind}}}", DIVERGENCE])
    numbers = inspect_recipe(recipe, device="cpu").numbers
    assert numbers[KEY] > 0
    assert numbers["stages"][-1]["flops_per_iteration"] > numbers["stages"][1]["flops_per_iteration"]


def test_a_spline_flow_is_counted(points_recipe: Path) -> None:
    plain, flow = (
        inspect_recipe(load_recipe(points_recipe, [f"energy.latent.kind={kind}"]), device="cpu").numbers["weights"]
        for kind in ("mixture", "spline_flow")
    )
    assert flow["energy"] > plain["energy"]


def test_a_run_that_is_done(points_run: Run) -> None:
    inspection = inspect_run(points_run)
    lines = inspection.sentences
    assert lines[0] == f"run {points_run.path}: recipe points, seed 0"
    assert re.match(
        r"trained by python \S+, torch \S+, numpy \S+, vaebm \S+, processor .*threads 1, processes 1", lines.pop(1)
    )
    assert re.fullmatch(
        r"stage vae: 10 of 10 iterations, \d+ s from the start; ELBO -?[\d.]+ nats, KL by group: z [\d.]+", lines[1]
    )
    assert re.fullmatch(
        r"stage ratio: 10 of 10 iterations, \d+ s from the start; energy gap -?[\d.]+ nats \(samples .* data\)",
        lines[2],
    )
    assert re.fullmatch(r"complete: trained in \d+ s", lines[3])
    assert lines[4] == f"nothing measured yet: run `vaebm evaluate {points_run.path}`"
    measured = evaluate(points_run, only=["modes_covered"])
    lines = inspect_run(points_run).sentences
    assert any(re.fullmatch(r"vaebm: modes_covered \d ± [\d.]+ \(n = 200\)", line) for line in lines)
    numbers = json.loads(json.dumps(inspect_run(points_run).numbers))
    assert numbers["complete"] is True
    assert numbers["seed"] == 0
    assert [event["event"] for event in numbers["events"]] == ["stage", "stage", "complete"]
    assert numbers["last"]["ratio"]["iteration"] == 10
    assert [m["subject"] for m in numbers["measurements"]] == [m.subject for m in measured]
    assert {"truth", "vae", "vae_mixture", "vaebm"} <= {m.subject for m in measured}


def test_a_run_that_is_not_done(points_run: Run) -> None:
    (points_run.path / "model").rename(points_run.path / "away")
    log = points_run.path / "metrics.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:4]) + '{"stage": "rat')
    lines = inspect_run(points_run).sentences
    assert lines[3] == "stage ratio: begun, of 10 iterations"
    assert lines[-1] == f"not finished: go on with `vaebm train {points_run.path}`"
    log.unlink()
    assert inspect_run(points_run).sentences[1:] == [lines[1], lines[-1]]


def test_an_image_recipe(tmp_path: Path) -> None:
    overrides = ["vae.hidden=[8]", "energy.image.widths=[4]", "energy.image.halve=[]", "energy.image.stem=4"]
    inspection = inspect_recipe(load_recipe("digits", [*overrides, "code_mixture.components=2"]), device="cpu")
    assert "chains move in 80 dimensions" in inspection.sentences[2]
    assert inspection.numbers["stages"][0]["name"] == "vae"


def test_what_it_says_of_a_chain_phase(points_recipe: Path, tmp_path: Path) -> None:
    run = train(points_recipe, tmp_path / "run", device="cpu", overrides=[DIVERGENCE, "logging.every=1"])
    assert re.search(r"; energy gap .* data\), acceptance [\d.]+$", inspect_run(run).sentences[4])

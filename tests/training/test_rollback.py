"""What is sabotaged is noticed, returned from, and ends healthy or with its reason and a model that serves."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any, SupportsFloat

import pytest
import torch
from torch import Tensor

import vaebm
from vaebm.data import Batch, Split
from vaebm.errors import Diverged, Preempted
from vaebm.experiment.run_directory import Run
from vaebm.experiment.train import train
from vaebm.progress import Task
from vaebm.training.checkpoint import Checkpoints
from vaebm.training.estimators.contrastive_divergence import ContrastiveDivergence
from vaebm.training.vae import VAEStage

RECIPE = """\
data: {kind: gaussians, side: 2, train_size: 400, test_size: 200}
vae: {kind: mlp, latent_dim: 2, hidden: [8], likelihood: {kind: gaussian}}
code_mixture: {components: 2, codes: 200}
energy: {image: {kind: mlp, hidden: [16, 16]}}
sampler: {kind: langevin, step_size: 0.05, steps: 4}
vae_stage: {iterations: 20, batch_size: 16}
energy_stage:
  batch_size: 16
  phases:
    divergence:
      {kind: contrastive_divergence, iterations: 30, buffer: 64, replay_prob: 0.9, replay_ramp_iterations: 2}
divergence_monitor: {window: 5}
logging: {every: 1}
checkpoint: {every_iterations: 10, every_seconds: 1000}
threads: 1
"""
STEP = ContrastiveDivergence.step


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


def rollbacks(run: Path) -> list[dict[str, Any]]:
    return [event for event in Run.open(run).events() if event["event"] == "rollback"]


def alarmed_at(event: dict[str, Any]) -> int:
    return int(event["message"].split("iteration ")[1].split(":")[0])


def told(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows.pop()["event"] == "complete"
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


def serves(run: Path) -> bool:
    model = vaebm.load(run)
    return all(bool(value.isfinite().all()) for value in [*model.parameters(), model.sample(4)])


def once(iteration: int, sabotage: Callable[[ContrastiveDivergence], object]) -> Callable[..., dict[str, float]]:
    """A step that is sabotaged the first time that it comes to an iteration."""
    done: list[int] = []

    def step(stage: ContrastiveDivergence, at: int) -> dict[str, float]:
        if at == iteration and not done:
            done.append(at)
            sabotage(stage)
        return STEP(stage, at)

    return step


@torch.no_grad()
def weights_times_1000(stage: ContrastiveDivergence) -> None:
    for weight in stage.energy.parameters():
        weight.mul_(1e3)


def buffer_of(value: float) -> Callable[[ContrastiveDivergence], object]:
    def corrupt(stage: ContrastiveDivergence) -> None:
        assert stage.buffer is not None
        positions = stage.buffer.positions
        assert positions is not None
        positions.fill_(value)

    return corrupt


SABOTAGES = {
    "weights": (weights_times_1000, "learning_rate"),
    "a buffer that is not finite": (buffer_of(torch.nan), None),
    "a buffer that is far outside": (buffer_of(1e4), None),
}


@pytest.mark.parametrize("what", SABOTAGES)
def test_what_breaks_once_is_returned_from(
    what: str, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotage, step = SABOTAGES[what]
    monkeypatch.setattr(ContrastiveDivergence, "step", once(17, sabotage))
    run = train(recipe, tmp_path / "run", device="cpu")
    (event,) = rollbacks(run.path)
    assert 17 <= alarmed_at(event) <= 20
    assert (event["stage"], event["step"], event["iteration"], event["total"]) == ("divergence", step, 10, 30)
    assert run.history()[-1]["iteration"] == 30
    assert [row["iteration"] for row in run.history()] == [*range(1, 21), *range(1, 31)]  # none is told twice
    assert serves(run.path)


@pytest.mark.parametrize("lasting", [False, True])
def test_data_that_are_not_finite(lasting: bool, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches, original = [0], Split.batch

    def batch(split: Split, indices: Tensor, generator: torch.Generator | None = None) -> Batch:
        given = original(split, indices, generator)
        batches[0] += len(indices) == 16
        if batches[0] == 37 or (lasting and batches[0] > 37):
            given.x[3] = torch.nan
        return given

    monkeypatch.setattr(Split, "batch", batch)
    if lasting:
        with pytest.raises(Diverged, match=r"1 data points .* rows \d+ .* 3 returns"):
            train(recipe, tmp_path / "run", device="cpu")
    else:
        train(recipe, tmp_path / "run", device="cpu")
    events = rollbacks(tmp_path / "run")
    assert len(events) == (3 if lasting else 1)
    assert all(event["step"] is None for event in events)
    assert serves(tmp_path / "run")


def test_a_sampler_whose_step_is_too_long(recipe: Path, tmp_path: Path) -> None:
    train(recipe, tmp_path / "run", device="cpu", overrides=["sampler.step_size=5"])
    events = rollbacks(tmp_path / "run")
    assert {event["step"] for event in events} == {"step_size"}
    assert all("sampler.step_size" in event["message"] for event in events)
    assert serves(tmp_path / "run")
    own = ["energy_stage.phases.divergence.sampler={kind: mala, step_size: 20, steps: 4, warmup: 0}"]
    train(recipe, tmp_path / "own", device="cpu", overrides=own)
    first, second = rollbacks(tmp_path / "own")
    assert "energy_stage.phases.divergence.sampler.step_size times 0.3 and" in first["message"]
    assert "energy_stage.phases.divergence.sampler.step_size times 0.03 and" in second["message"]


@pytest.mark.parametrize(
    ("stage", "setting"),
    [("vae", "vae_stage.learning_rate=1e30"), ("divergence", "energy_stage.phases.divergence.learning_rate=1e8")],
)
def test_a_learning_rate_that_no_try_can_mend(stage: str, setting: str, recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=f"{stage}.*{setting.split('=', 1)[0]}.*3 returns"):
        train(recipe, tmp_path / "run", device="cpu", overrides=[setting])
    events = rollbacks(tmp_path / "run")
    assert [event["step"] for event in events] == ["learning_rate"] * 3
    assert all(event["stage"] == stage and alarmed_at(event) < 20 for event in events)
    assert serves(tmp_path / "run")
    assert Run.open(tmp_path / "run").diverged is not None


def test_a_stage_takes_the_shorter_step(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []

    def step(stage: VAEStage, at: int) -> dict[str, float]:
        figures = original(stage, at)
        rates.append(stage.optimizer._optimizer.param_groups[0]["lr"])
        return {**figures, "loss": torch.nan} if at == 4 and len(rates) < 11 else figures

    original = VAEStage.step
    monkeypatch.setattr(VAEStage, "step", step)
    train(recipe, tmp_path / "run", device="cpu")
    for first, second, third in zip(rates[:5], rates[5:10], rates[10:15], strict=True):
        assert second == pytest.approx(0.3 * first)
        assert third == pytest.approx(0.03 * first)


def test_each_return_goes_further_back_with_other_noise(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From iteration 27: to 20, which is healthy; then to 10; then, where nothing else is left, to 0 again."""
    noise: list[Tensor] = []

    def step(stage: ContrastiveDivergence, at: int) -> dict[str, float]:
        if at == 27:
            noise.append(stage.training.engine.generator.get_state())
        return {**STEP(stage, at), **({"loss": torch.nan} if at == 27 else {})}

    monkeypatch.setattr(ContrastiveDivergence, "step", step)
    with pytest.raises(Diverged):
        train(recipe, tmp_path / "run", device="cpu", overrides=["divergence_monitor.rollbacks=4"])
    assert [event["iteration"] for event in rollbacks(tmp_path / "run")] == [20, 10, 0, 0]
    assert len({bytes(state.tolist()) for state in noise}) == 5


@pytest.mark.parametrize("every_seconds", [0, 1000])
def test_a_run_cut_anywhere_about_its_alarms_equals_one_that_never_was(
    every_seconds: int, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two alarms, and ends of all sorts: a signal, a kill without a word, one in the middle of a return."""
    cuts: dict[int, int] = {}  # what comes at a step of the phase, counted over all sessions
    steps = [0]

    def step(stage: ContrastiveDivergence, at: int) -> dict[str, float]:
        steps[0] += 1
        cut = cuts.pop(steps[0], None)
        if cut == signal.SIGTERM:
            os.kill(os.getpid(), signal.SIGTERM)
        if cut == signal.SIGKILL:
            raise Killed
        if at == {1.0: 17, 0.3: 14}.get(stage.optimizer.pace):
            weights_times_1000(stage)
        return STEP(stage, at)

    def drop_after(checkpoints: Checkpoints, iteration: int) -> None:
        original(checkpoints, iteration)
        if cuts.pop(-iteration, None):
            raise Killed

    original = Checkpoints.drop_after
    monkeypatch.setattr(ContrastiveDivergence, "step", step)
    monkeypatch.setattr(Checkpoints, "drop_after", drop_after)
    overrides = [f"checkpoint.every_seconds={every_seconds}"]
    train(recipe, tmp_path / "whole", device="cpu", overrides=["checkpoint.every_seconds=1000"])
    assert [event["iteration"] for event in rollbacks(tmp_path / "whole")] == [10, 0]
    alarms = steps[0]
    steps[0] = 0
    cuts |= {8: signal.SIGTERM, 18: signal.SIGTERM, 19: signal.SIGKILL, 27: signal.SIGTERM, 34: signal.SIGKILL}
    cuts |= {45: signal.SIGTERM, 60: signal.SIGKILL, -30: 1, -20: 1}
    for _ in range(20):
        with suppress(Killed, Preempted):
            train(recipe, tmp_path / "cut", device="cpu", overrides=overrides)
            break
    assert not cuts
    assert steps[0] > alarms
    assert told(tmp_path / "cut") == told(tmp_path / "whole")
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_what_an_alarm_can_return_to_stays_on_disk(recipe: Path, tmp_path: Path) -> None:
    """The fixed ones of the stage that is under way; at the end the newest alone."""
    seen: list[list[str]] = []

    class Watched:
        def task(self, name: str, total: int, unit: str, done: int = 0) -> AbstractContextManager[Task]:
            return nullcontext(self)

        def say(self, line: str) -> None:
            pass

        def advance(self, n: int = 1, words: str = "", **figures: SupportsFloat) -> None:
            seen.append(sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()))

    overrides = ["checkpoint.every_seconds=0", "checkpoint.keep=2"]
    train(recipe, tmp_path / "run", device="cpu", overrides=overrides, progress=Watched())
    assert ["00000030", "00000040", "00000047", "00000048"] in seen
    assert max(map(len, seen)) == 4
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == ["00000049", "00000050"]


class Killed(Exception):
    """The process was killed: nothing is saved."""

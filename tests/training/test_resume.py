"""A run that was stopped or killed, however often and wherever, ends bit-identical to one that never was."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, SupportsFloat

import pytest
import torch

from vaebm.errors import Interrupted, Preempted
from vaebm.experiment.run_directory import Run
from vaebm.experiment.train import train
from vaebm.experiment.train_energy import train_energy
from vaebm.progress import Task
from vaebm.training import vae
from vaebm.training.stage import Training
from vaebm.vae import ExternalVAE

KILLS = 10
NOISY = [
    "vae.likelihood.kind=gaussian",
    "energy.noise_std=0.2",
    "energy_stage.phases.denoising={kind: denoising, iterations: 4}",
    "energy_stage.phases.divergence.denoising=1",
]


def weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


def figures(run: Path) -> list[dict[str, Any]]:
    """What metrics.jsonl says, but for the time it took."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in ("seconds", "message")} for row in rows]


class SignalAt:
    """Progress that sends this process one signal, when the next iteration ends."""

    def __init__(self, number: signal.Signals) -> None:
        self.number, self.depth, self.sent = number, 0, False

    @contextmanager
    def task(self, name: str, total: int, unit: str, done: int = 0) -> Iterator[Task]:
        self.depth += 1
        yield self
        self.depth -= 1

    def say(self, line: str) -> None:
        pass

    def advance(self, n: int = 1, words: str = "", **figures: SupportsFloat) -> None:
        if self.depth == 1 and not self.sent:  # of a stage, and not of the chains within
            self.sent = True
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("data", ["points", "images"])
def test_a_run_stopped_after_every_iteration_equals_one_that_never_was(
    data: str, tmp_path: Path, request: pytest.FixtureRequest, stages: list[str]
) -> None:
    recipe = request.getfixturevalue(data)
    train(recipe, tmp_path / "whole", device="cpu")
    for stop in range(4 * len(stages)):
        number = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)[stop % 3]
        with pytest.raises(Interrupted if number == signal.SIGINT else Preempted):
            train(recipe, tmp_path / "stopped", device="cpu", progress=SignalAt(number))
        assert not (tmp_path / "stopped" / "model").exists()
    train(recipe, tmp_path / "stopped", device="cpu")
    assert figures(tmp_path / "stopped") == figures(tmp_path / "whole")
    assert weights(tmp_path / "stopped") == weights(tmp_path / "whole")


def test_an_energy_for_a_vae_trained_elsewhere_is_resumed_to_the_bit(tmp_path: Path) -> None:
    """Each time by somebody who builds the VAE anew: its likelihood is as the run left it."""
    data = torch.rand(60, 1, 6, 6, generator=torch.Generator().manual_seed(2))
    overrides = [
        "vae_stage={iterations: 3, batch_size: 16}",
        "code_mixture={components: 2, codes: 200}",
        "energy_stage.phases={ratio: {iterations: 2}, rounds: null}",
        "energy.image={kind: mlp, hidden: [8]}",
    ]

    def vae() -> ExternalVAE:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 6))
            decoder = torch.nn.Sequential(torch.nn.Linear(3, 36), torch.nn.Unflatten(1, (1, 6, 6)))
        return ExternalVAE(encoder, decoder, (1, 6, 6), (3,))

    train_energy(vae(), data, tmp_path / "whole", overrides=overrides, device="cpu")
    for _ in range(5):
        stop = SignalAt(signal.SIGTERM)
        with pytest.raises(Preempted):
            train_energy(vae(), data, tmp_path / "cut", overrides=overrides, device="cpu", progress=stop)
    train_energy(vae(), data, tmp_path / "cut", overrides=overrides, device="cpu")
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")
    assert figures(tmp_path / "cut") == figures(tmp_path / "whole")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_heard_between_two_stages(
    number: signal.Signals, points: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where work takes minutes and looks at nothing, as a fit to the codes of many images does."""

    sent: list[float] = []

    def fit(training: Training) -> None:
        sent.append(time.perf_counter())
        os.kill(os.getpid(), number)
        time.sleep(30)

    whole = train(points, tmp_path / "whole", device="cpu")
    with monkeypatch.context() as patch:
        patch.setattr(vae, "set_code_mixture", fit)
        with pytest.raises(Interrupted if number == signal.SIGINT else Preempted):
            train(points, tmp_path / "run", device="cpu")
    assert time.perf_counter() - sent[0] < 0.9  # at once: there is no iteration to finish
    run = train(points, tmp_path / "run", device="cpu")
    assert weights(run.path) == weights(whole.path)
    assert figures(run.path) == figures(whole.path)


def test_a_damaged_checkpoint_costs_only_the_time_since_the_one_before(points: Path, tmp_path: Path) -> None:
    run = train(points, tmp_path / "run", device="cpu", overrides=["checkpoint.every_seconds=0"])
    end, told = weights(run.path), figures(run.path)
    newest = max((run.path / "checkpoints").iterdir())
    os.truncate(newest / "state-0.safetensors", 100)
    remove(run.path / "model")
    train(run.path, device="cpu")
    assert weights(run.path) == end
    again = figures(run.path)
    assert [row for row in again if row.get("event") != "damaged_checkpoint"] == told
    assert len(again) == len(told) + 1
    assert any(newest.name in str(event["message"]) for event in run.events() if "message" in event)


def test_checkpoints_do_not_change_what_is_trained(points: Path, tmp_path: Path) -> None:
    train(points, tmp_path / "rarely", device="cpu", overrides=["checkpoint.every_seconds=1000"])
    train(points, tmp_path / "often", device="cpu", overrides=["checkpoint.every_seconds=0", "checkpoint.keep=99"])
    assert len(list((tmp_path / "often" / "checkpoints").iterdir())) == 4 * 6 + 1
    assert len(list((tmp_path / "rarely" / "checkpoints").iterdir())) == 3
    assert weights(tmp_path / "often") == weights(tmp_path / "rarely")


@pytest.mark.parametrize("more", [[], NOISY], ids=["samples", "noise"])
def test_every_checkpoint_leads_to_the_same_end(more: list[str], images: Path, tmp_path: Path) -> None:
    overrides = ["checkpoint.every_seconds=0", "checkpoint.keep=99", *more]
    run = train(images, tmp_path / "run", device="cpu", overrides=overrides)
    end, told = weights(run.path), figures(run.path)
    for name in sorted((run.path / "checkpoints").iterdir(), reverse=True)[1::5]:
        for newer in (run.path / "checkpoints").iterdir():
            if newer > name:
                remove(newer)
        remove(run.path / "model")
        train(run.path, device="cpu")
        assert weights(run.path) == end, name
        assert figures(run.path) == told


def test_the_seed_decides(points: Path, tmp_path: Path) -> None:
    first = train(points, tmp_path / "a", device="cpu", overrides=["seed=1"])
    second = train(points, tmp_path / "b", device="cpu", overrides=["seed=2"])
    torch.rand(3)  # the global generator has no part in it
    again = train(points, tmp_path / "c", device="cpu", overrides=["seed=1"])
    assert weights(first.path) == weights(again.path)
    assert weights(first.path) != weights(second.path)


def test_training_leaves_the_process_as_it_was(points: Path, tmp_path: Path) -> None:
    before, count = torch.get_rng_state(), torch.get_num_threads()
    train(points, tmp_path / "run", device="cpu", overrides=[f"threads={count + 1}"])
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == count


def test_killed_before_the_first_checkpoint(points: Path, tmp_path: Path) -> None:
    """What was logged without any checkpoint is not told twice; a half-written recipe is no obstacle."""
    whole = train(points, tmp_path / "whole", device="cpu")
    killed = tmp_path / "killed"
    killed.mkdir()
    (killed / ".recipe.yaml.draft").write_text("summary: ev")
    run = Run.create(killed, whole.recipe)
    (killed / "metrics.jsonl").write_text('{"event": "stage", "stage": "vae", "iterations": 4}\n{"stage": "va')
    (killed / "checkpoints" / ".draft-00000000").mkdir(parents=True)
    train(points, run.path, device="cpu")
    assert figures(killed) == figures(whole.path)
    assert weights(killed) == weights(whole.path)


def test_killed_between_the_last_line_and_the_model(points: Path, tmp_path: Path) -> None:
    run = train(points, tmp_path / "run", device="cpu")
    end, told = weights(run.path), figures(run.path)
    assert told[-1] == {"event": "complete"}
    (run.path / "model").rename(run.path / ".model-draft")
    train(points, run.path, device="cpu")
    assert (weights(run.path), figures(run.path)) == (end, told)
    assert not (run.path / ".model-draft").exists()


LAUNCHER = """
import os, signal, sys, threading, time

# What takes long to import, once for all that are forked from here.
import omegaconf, sklearn.datasets, sklearn.mixture, sklearn.model_selection, torch._dynamo
import vaebm.experiment.train
from vaebm.cli import main

def kill_at(log, lines, delay):
    while not os.path.exists(log) or open(log).read().count("\\n") < lines:
        time.sleep(0.001)
    time.sleep(delay)
    os.kill(os.getpid(), signal.SIGKILL)

for command in sys.stdin:
    lines, delay, log, *words = command.split()
    child = os.fork()
    if child == 0:
        if int(lines):
            threading.Thread(target=kill_at, args=(log, int(lines), float(delay)), daemon=True).start()
        os._exit(main(words))
    print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.timeout(240)
def test_a_run_killed_at_ten_random_moments_equals_one_that_never_was(
    images: Path, tmp_path: Path, stages: list[str]
) -> None:
    length = 30
    each = [f"energy_stage.phases.{name}.iterations={length}" for name in ("ratio", "divergence", "importance")]
    words = [str(images), "vae_stage.iterations=30", "energy_stage.latent.iterations=30", *each]
    words += ["energy_stage.phases.rounds.iterations_per_round=15", "checkpoint.every_seconds=0.05"]
    words = ["train", *words, "--device", "cpu", "--only-train", "--quiet", "--out"]
    whole = subprocess.run([sys.executable, "-m", "vaebm", *words, tmp_path / "whole"], capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr

    moments = random.Random(4)
    lines = len(stages) * (length + 1)
    log = tmp_path / "killed" / "metrics.jsonl"
    hit = set()
    with subprocess.Popen(
        [sys.executable, "-c", LAUNCHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as launcher:
        commands, answers = launcher.stdin, launcher.stdout
        assert commands is not None
        assert answers is not None

        def start(line: int, delay: float, commands: IO[str] = commands, answers: IO[str] = answers) -> int:
            print(line, delay, log, *words, log.parent, file=commands)
            return int(next(said for said in answers if said.startswith("ended")).split()[1])

        for kill in range(KILLS):
            line = int(lines * (kill + moments.uniform(0.1, 0.7)) / KILLS)
            status = start(line, moments.uniform(0, 0.01))
            assert status == -signal.SIGKILL
            told = log.read_text().splitlines()
            hit.add(next(json.loads(line)["stage"] for line in reversed(told) if line.endswith("}")))
        assert start(0, 0.0) == 0
        commands.close()

    assert hit == set(stages)
    assert figures(log.parent) == figures(tmp_path / "whole")
    assert weights(log.parent) == weights(tmp_path / "whole")


def remove(path: Path) -> None:
    for file in path.iterdir():
        file.unlink()
    path.rmdir()

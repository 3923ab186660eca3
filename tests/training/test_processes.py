"""Two processes on the CPU train one model: the same weights in both, resumable, refused where only one would go on."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import vaebm
from vaebm.experiment.train import train
from vaebm.training.engine import fastest_device

# Recipes of the package, made small by overrides that stand one a line.
TINY = """\
gaussians25
data.train_size=400
data.test_size=200
vae.hidden=[8]
energy.image.hidden=[8]
energy.latent={kind: correction, hidden: [8]}
code_mixture={components: 2, codes: 200}
sampler={kind: langevin, step_size: 0.01, steps: 2}
init.importance_samples=2
vae_stage.iterations=4
vae_stage.batch_size=16
energy_stage.batch_size=16
energy_stage.latent={iterations: 4, batch_size: 16}
energy_stage.phases.ratio.iterations=4
energy_stage.phases.rounds={kind: ratio_rounds, rounds: 2, iterations_per_round: 2, chains: 32, restart_steps: 3}
energy_stage.phases.divergence={kind: contrastive_divergence, iterations: 4, buffer: 64, replay_ramp_iterations: 2}
checkpoint={every_seconds: 0, keep: 99}
logging.every=2
""".splitlines()

# Weight normalisation starts from a batch, of which each process draws its own; then a phase that runs away.
IMAGES = """\
digits
vae={kind: conv, latent_dim: 2, widths: [4, 4]}
energy.image={kind: residual, stem: 4, widths: [4], halve: []}
code_mixture={components: 2, codes: 200}
sampler={kind: langevin, step_size: 0.01, steps: 2}
vae_stage.iterations=2
energy_stage.latent.iterations=2
energy_stage.phases.ratio={iterations: 3, spectral: 0.1}
energy_stage.phases.divergence={kind: contrastive_divergence, iterations: 50, warmup_iterations: 0, learning_rate: 10}
divergence_monitor.energy_gap=0.5
checkpoint={every_seconds: 0, keep: 99}
""".splitlines()


def torchrun(*words: str) -> subprocess.CompletedProcess[str]:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    device = [] if fastest_device(None).type == "cpu" else ["--device", "cpu"]  # the README's command names none
    command = [*launch, "-m", "vaebm", "train", *words, "--only-train", *device]
    return subprocess.run(command, capture_output=True, text=True)


def states(run: Path, name: str) -> list[dict[str, torch.Tensor]]:
    """The model's weights in each process's part of a checkpoint."""
    parts = sorted((run / "checkpoints" / name).glob("state-*.safetensors"))
    return [
        {key.split(".model.", 1)[1]: value for key, value in load_file(part).items() if ".state.model." in key}
        for part in parts
    ]


def rows(run: Path) -> list[dict[str, Any]]:
    told = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in ("seconds", "message")} for row in told]


def cut_short(run: Path, checkpoints: int) -> None:
    """As if training had been killed after so many checkpoints."""
    shutil.rmtree(run / "model")
    for newer in sorted((run / "checkpoints").iterdir())[checkpoints:]:
        shutil.rmtree(newer)


@pytest.mark.timeout(200)
def test_two_processes_train_one_model(tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = torchrun(*TINY, "--out", str(run))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(run)]
    names = sorted(path.name for path in (run / "checkpoints").iterdir())
    weights = vaebm.load(run).state_dict().keys()
    for name in names:
        first, second = states(run, name)
        assert first.keys() == second.keys() == weights
        assert all(torch.equal(first[key], second[key]) for key in first), name
    # Each draws for itself: were both the same, two processes would learn no more than one.
    state = [load_file(part) for part in sorted((run / "checkpoints" / names[-1]).glob("state-*.safetensors"))]
    generators = [next(value for key, value in part.items() if key.endswith("state.generator")) for part in state]
    assert not torch.equal(*generators)
    assert bool(vaebm.load(run).sample(3).isfinite().all())
    end = (run / "model" / "model.safetensors").read_bytes()
    told = rows(run)
    assert [row["event"] for row in told if "event" in row] == ["stage"] * 5 + ["complete"]

    # One process goes on with the work of two, and two with that of one; two with that of two to the same end.
    cut_short(run, len(names) // 2)
    one = shutil.copytree(run, tmp_path / "one")
    train(one, device="cpu")
    whole = [{name: value for name, value in row.items() if name == "iteration"} for row in told]
    for resume in (lambda: None, lambda: torchrun(str(one), "--quiet")):
        resume()
        assert [{name: value for name, value in row.items() if name == "iteration"} for row in rows(one)] == whole
        assert bool(vaebm.load(one).sample(3).isfinite().all())
        cut_short(one, len(names) - 3)
    done = torchrun(str(run), "--quiet")
    assert done.returncode == 0, done.stderr
    assert (run / "model" / "model.safetensors").read_bytes() == end
    assert rows(run) == told


@pytest.mark.timeout(200)
def test_a_lost_process_ends_the_other_in_words(tmp_path: Path) -> None:
    """Without a launcher that would end it."""
    run = tmp_path / "run"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "vaebm", "train", *TINY, "vae_stage.iterations=1000000", "checkpoint.keep=2"]
    command += ["--out", str(run), "--device", "cpu", "--quiet", "--only-train"]
    first, second = (
        subprocess.Popen(
            command,
            env={**os.environ, **address, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    )
    while first.poll() is None and not any(run.glob("checkpoints/0*")):
        time.sleep(0.1)
    second.kill()
    second.communicate()
    _, said = first.communicate(timeout=60)
    assert first.returncode == 2
    assert said.splitlines()[-1].startswith("vaebm: one of the 2 processes has ended")


@pytest.mark.timeout(200)
def test_weights_that_start_from_data_agree_and_divergence_in_one_ends_both(tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = torchrun(*IMAGES, "--out", str(run))
    assert done.returncode != 0
    assert "vaebm: training diverged in divergence, iteration" in done.stderr
    assert [row["event"] for row in rows(run) if "event" in row][-4:] == ["rollback"] * 3 + ["diverged"]
    assert (run / "model" / "model.safetensors").is_file()
    with pytest.raises(vaebm.Diverged, match="was given up before"):
        train(run, device="cpu")
    for path in (run / "checkpoints").iterdir():
        first, second = (load_file(path / f"state-{rank}.safetensors") for rank in (0, 1))
        for key in first:
            if "generator" not in key:  # averages of weights, moments and spectral vectors too
                assert torch.equal(first[key], second[key]), (path.name, key)

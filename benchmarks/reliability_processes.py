"""Two processes against one, and one of two that is killed: trials of benchmarks/reliability.py."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from reliability_trials import Row, append, rows, told, vaebm

TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "vaebm")
SEEDS = 2
PLANE = (
    "gaussians25", "vae_stage.iterations=600", "vae_stage.kl_zero_iterations=50", "vae_stage.kl_warmup_iterations=200",
    "energy_stage.phases.ratio.iterations=300", "checkpoint.every_seconds=1",
    "checkpoint.every_iterations=50", "checkpoint.keep=99", "--device", "cpu",
)  # fmt: skip


def elbo(run: Path) -> float:
    words = ("evaluate", run, "--only", "elbo", "--json", "--quiet")
    process = vaebm(*words, cwd=run.parent)
    out, said = process.communicate()
    if process.returncode:
        raise SystemExit(said)
    return float(next(one["value"] for one in json.loads(out) if one["name"] == "elbo"))


def trained(run: Path, processes: int, *words: str | Path) -> None:
    launcher = TWO if processes == 2 else ("-m", "vaebm")
    command = [sys.executable, *launcher, "train", *map(str, words), "--quiet", "--only-train", "--out", str(run)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    if ended.returncode:
        raise SystemExit(ended.stderr[-2000:])


def contrast(run: Path) -> float:
    """Mean logistic loss over the last third of the energy's training."""
    losses = [row["contrast"] for row in told(run) if row.get("stage") == "ratio" and "contrast" in row]
    return sum(losses[-len(losses) // 3 :]) / len(losses[-len(losses) // 3 :])


def processes(folder: Path) -> None:
    known = {(row["what"], row.get("seed")) for row in rows("processes")}
    for seed in range(SEEDS):
        for what, count, more in (
            ("one", 1, ()),
            ("two", 2, ()),
            ("one, half the batch", 1, ("vae_stage.batch_size=256",)),
        ):
            if (what, seed) not in known:
                run = folder / f"{what.replace(', ', '-').replace(' ', '-')}-{seed}"
                trained(run, count, *PLANE, *more, f"seed={seed}")
                append(trial="processes", what=what, seed=seed, elbo=elbo(run), contrast=contrast(run))
    for what, first, second in (("two, then one", "two", 1), ("one, then two", "one", 2)):
        for seed in range(SEEDS):
            if (what, seed) in known:
                continue
            run = folder / f"{what.replace(', ', '-').replace(' ', '-')}-{seed}"
            shutil.rmtree(run, ignore_errors=True)
            shutil.copytree(folder / f"{first}-{seed}", run)
            shutil.rmtree(run / "model")
            (run / "measurements.json").unlink()
            for newer in sorted((run / "checkpoints").iterdir())[8:]:  # in the middle of the VAE
                shutil.rmtree(newer)
            trained(run, second, *PLANE, f"seed={seed}")
            append(trial="processes", what=what, seed=seed, elbo=elbo(run), contrast=contrast(run))
    for what in ("one killed, torchrun", "one killed, no launcher"):
        for seed in range(SEEDS):
            if (what, seed) not in known:
                append(trial="processes", what=what, seed=seed, **lose_one(folder, "torchrun" in what, seed))


def lose_one(folder: Path, launched: bool, number: int) -> Row:
    """Kills one of two processes at a random moment, and waits for the other to end."""
    run = folder / f"lost-{number}-{int(launched)}"
    shutil.rmtree(run, ignore_errors=True)
    words = ["train", *PLANE, "vae_stage.iterations=100000", "--quiet", "--only-train", "--out", str(run)]
    here = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(29_600 + number)}
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    if launched:
        survivor = subprocess.Popen([sys.executable, *TWO, *words], **streams)  # type: ignore[call-overload]
    else:
        command = [sys.executable, "-m", "vaebm", *words]
        survivor, lost = (
            subprocess.Popen(command, env={**here, "RANK": str(rank), "LOCAL_RANK": str(rank)}, **streams)  # type: ignore[call-overload]
            for rank in (0, 1)
        )
    while survivor.poll() is None and not (run.exists() and any(run.glob("checkpoints/0*"))):
        time.sleep(0.1)
    time.sleep(random.Random(number).uniform(0, 5))
    if launched:
        listed = Path(f"/proc/{survivor.pid}/task/{survivor.pid}/children").read_text(encoding="utf-8").split()
        ranks = {pid: Path(f"/proc/{pid}/environ").read_bytes() for pid in listed}
        victim = next(int(pid) for pid, environment in ranks.items() if b"\0RANK=1\0" in environment)
        os.kill(victim, signal.SIGKILL)
    else:
        lost.kill()
        lost.wait()
    started = time.perf_counter()
    try:
        _, said = survivor.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        survivor.kill()
        _, said = survivor.communicate()
    seconds = round(time.perf_counter() - started, 1)
    lines = [line for line in said.splitlines() if "vaebm: " in line]
    return {"seconds": seconds, "status": survivor.returncode, "said": lines[:2], "traceback": "Traceback" in said}

"""Trials that a run cannot be lost: what docs/studies/reliability.md reports.

    python benchmarks/reliability.py kills       # 50 SIGKILLs and 50 SIGTERMs or SIGUSR1s at random moments
    python benchmarks/reliability.py latency     # how soon SIGTERM is answered on images of 64 x 64
    python benchmarks/reliability.py damage      # 200 random damages to checkpoint files
    python benchmarks/reliability.py disk        # a disk that is full at each place that writes; needs root
    python benchmarks/reliability.py processes   # two processes against one; one of two killed
    python benchmarks/reliability.py             # prints what is there

A trial is a command that is disturbed and given again until it ends. What it leaves is compared with what the same
command left undisturbed: weights, stored draws, pictures, samples and the checkpoints' number by their bytes, logs and
measurements without their times. Each disturbance and each end is a line of results/reliability.jsonl, which is written
at once; what stands there is not done again.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from reliability_disk import disk
from reliability_processes import processes
from reliability_trials import RECIPE, Row, append, differences, done, orphans, rows, vaebm

SIGNALS = 50  # of each sort
DAMAGES, RESUMED = 200, 20
EVERY = ("0", "0.5")  # seconds between checkpoints: one after each iteration, or two a second


def place(run: Path) -> str:
    """What a process is doing, as the run's files tell."""
    if not (run / "metrics.jsonl").exists():
        return "start"
    if any((run / "checkpoints").glob(".draft-*")):
        return "writing a checkpoint"
    if (run / ".model-draft").exists():
        return "writing the model"
    if (run / "model" / "model.safetensors").exists():
        return "reporting" if (run / "samples" / "records").exists() else "measuring"
    lines = [line for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    last = json.loads(lines[-1]) if lines else {}
    if last.get("stage") == "vae" and last.get("iteration") in (80, 300):
        return "fitting the mixture"
    return str(last.get("stage", "start"))


def kills(folder: Path) -> None:
    (folder / "recipe.yaml").write_text(RECIPE)
    whole = folder / "whole"
    seconds = done("train", "recipe.yaml", "--out", whole, "--device", "cpu", cwd=folder)
    draw = ("--n", "3000", "--device", "cpu", "sampler.steps=60")
    drawing = done("sample", whole, *draw, "--out", "whole.npz", cwd=folder)
    print(f"undisturbed: training {seconds:.1f} s, sampling {drawing:.1f} s", flush=True)
    for sort in ("kill", "term"):
        chain = 0
        while (given := len([row for row in rows("kills") if row["sort"] == sort and "number" in row])) < SIGNALS:
            chance = random.Random(f"{sort} {given} {len(rows('kills'))}")
            # Every fifth signal, sampling in place of training.
            samples = given % 10 in (4, 9)
            run = folder / f"{sort}-{given}"
            every = EVERY[chain % 2]
            words: tuple[str | Path, ...] = (
                "train",
                "recipe.yaml",
                f"checkpoint.every_seconds={every}",
                "--out",
                run,
                "--device",
                "cpu",
            )
            out = folder / f"{sort}-{given}.npz"
            if samples:
                words = ("sample", whole, *draw, "--out", out)
            chain += 1
            start = given
            while given < SIGNALS:
                number = signal.SIGKILL if sort == "kill" else (signal.SIGTERM, signal.SIGUSR1)[given % 5 == 0]
                hit = disturb(words, folder, number, chance.uniform(0, drawing if samples else seconds), run, samples)
                if hit is None:
                    break
                append(trial="kills", sort=sort, number=number.name, chain=start, **hit)
                given += 1
            else:
                done(*words, cwd=folder)
            if samples:
                left = [path.name for path in folder.glob(f".{out.name}*")]
                same = [] if out.read_bytes() == (folder / "whole.npz").read_bytes() else [out.name]
                end = {"differences": same, "orphans": left, "orphan_bytes": 0}
            else:
                end = {"differences": differences(run, whole), **orphans(run, whole)}
            append(trial="kills", sort=sort, chain=start, every_seconds=every, command=words[0], **end)
            print(sort, given, end, flush=True)
            if not end["differences"]:
                shutil.rmtree(run, ignore_errors=True)


def disturb(
    words: tuple[str | Path, ...], cwd: Path, number: signal.Signals, moment: float, run: Path, samples: bool
) -> Row | None:
    """Starts a command and sends it a signal at a moment; None where it ended before."""
    before = children_seconds()
    process = vaebm(*words, cwd=cwd)
    with collect_streams(process) as said:
        try:
            process.wait(moment)
            if process.returncode:
                raise SystemExit(f"{words} ended with {process.returncode}: {said()}")
            return None
        except subprocess.TimeoutExpired:
            pass
        where = "sampling" if samples else place(run)
        used, sent = cpu_seconds(process.pid), time.perf_counter()
        process.send_signal(number)
        process.wait()
        seconds, used = time.perf_counter() - sent, children_seconds() - before - used
    row: Row = {"moment": round(moment, 2), "where": where, "status": process.returncode, "seconds": round(seconds, 3)}
    row["cpu_seconds"] = round(used, 3)  # what it computed after the signal: a busy machine does not count
    if number != signal.SIGKILL:
        row["said"] = said().splitlines()[-1:]
    return row


def cpu_seconds(pid: int) -> float:
    """That a process has computed so far."""
    told = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return sum(map(int, told[11:13])) / os.sysconf("SC_CLK_TCK")


def children_seconds() -> float:
    """That all children which have ended have computed."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class collect_streams:  # noqa: N801 - reads as the verb that it is
    """Within, a process never waits for a reader; gives a function for what it wrote to standard error."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process, self.lines = process, collections.deque[str](maxlen=50)

    def __enter__(self) -> Any:
        import threading

        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.threads = [
            threading.Thread(target=self.process.stdout.read, daemon=True),
            threading.Thread(target=lambda: self.lines.extend(self.process.stderr), daemon=True),  # type: ignore[arg-type]
        ]
        for thread in self.threads:
            thread.start()
        return lambda: "".join(self.lines)

    def __exit__(self, *_: object) -> None:
        for thread in self.threads:
            thread.join(5)


def spoil(checkpoints: Path, name: str, chance: random.Random) -> tuple[str, set[str]]:
    """Damages one checkpoint; what was done, and the names of those that are no longer what they were called."""
    how = chance.choice(["cut", "flipped", "emptied", "file missing", "folder missing", "file swapped", "renamed"])
    folder = checkpoints / name
    file = folder / chance.choice(["state-0.json", "state-0.safetensors"])
    if how == "cut":
        os.truncate(file, chance.randrange(1, file.stat().st_size))
    elif how == "flipped":
        content = bytearray(file.read_bytes())
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        file.write_bytes(content)
    elif how == "emptied":
        file.write_bytes(b"")
    elif how == "file missing":
        file.unlink()
    elif how == "folder missing":
        shutil.rmtree(folder)
        return how, set()
    elif how == "file swapped":
        other = chance.choice(sorted(path.name for path in checkpoints.iterdir() if path.name != name))
        first, second = file.read_bytes(), (checkpoints / other / file.name).read_bytes()
        file.write_bytes(second)
        (checkpoints / other / file.name).write_bytes(first)
        return how, {name, other}
    else:
        new = f"{int(name) + 1000:08d}"
        folder.rename(checkpoints / new)
        return how, {new}
    return how, {name}


def damage(folder: Path) -> None:
    from vaebm.experiment.train import train
    from vaebm.training.checkpoint import Checkpoints
    from vaebm.training.engine import Engine

    (folder / "recipe.yaml").write_text(RECIPE)
    whole = folder / "damage"
    train(folder / "recipe.yaml", whole, device="cpu", overrides=["checkpoint.every_seconds=0.2", "checkpoint.keep=99"])
    engine = Engine("cpu", 0, None, folder)
    for number in range(len(rows("damage")), DAMAGES):
        chance = random.Random(number)
        run = shutil.copytree(whole, folder / "damaged")
        checkpoints = Checkpoints(run / "checkpoints", 99, engine)
        names = checkpoints.names()
        left = names[: chance.randint(5, len(names))]  # so that the newest is any one of them
        for name in set(names) - set(left):
            shutil.rmtree(run / "checkpoints" / name)
        done_to, bad = [], set[str]()
        for name in left[::-1][: chance.choice([1, 1, 2])]:  # the newest, or the newest two
            if name not in bad:
                how, spoilt = spoil(run / "checkpoints", name, chance)
                done_to.append(how)
                bad |= spoilt
        healthy = max(name for name in checkpoints.names() if name not in bad)
        state = checkpoints.load_newest()
        row: Row = {
            "how": done_to,
            "named": set(checkpoints.damaged) == {name for name in bad if name > healthy},
            "newest_used": state is not None and f"{state['total']:08d}" == healthy,
        }
        if number % (DAMAGES // RESUMED) == 0:
            shutil.rmtree(run / "model")
            train(run, device="cpu")
            row["differences"] = [name for name in differences(run, whole) if name != "model/README.md"]
        append(trial="damage", number=number, **row)
        shutil.rmtree(run)


STARTS = 30
FACES = (
    "data.size=64",
    "code_mixture.codes=4000",
    "vae_stage.iterations=80",
    "energy_stage.phases.ratio.iterations=20",
    "evaluation.n=100",
)
ROUNDS = ("rounds=1", "iterations_per_round=10", "chains=512", "restart_steps=5")


def latency(folder: Path) -> None:
    """SIGTERM at random moments while a command starts, and while faces of 64 x 64 are trained on and measured."""
    (folder / "recipe.yaml").write_text(RECIPE)
    for number in range(len(rows("start")), STARTS):
        run = folder / f"start-{number}"
        early = ("train", "recipe.yaml", "--out", run, "--device", "cpu")
        hit = disturb(early, folder, signal.SIGTERM, random.Random(number).uniform(0, 3), run, samples=False)
        append(trial="start", load=round(os.getloadavg()[0], 1), **(hit or {}))
    if not (folder / "faces").exists():
        archive = Path(os.environ["VAEBM_DATA"]) / "orl_faces" / "att_faces.tar.xz"
        with tarfile.open(archive) as tar:
            tar.extractall(folder / "faces", filter="data")
    rounds = (f"energy_stage.phases.rounds.{setting}" for setting in ROUNDS)
    run = folder / "latency"
    words: tuple[str | Path, ...] = (
        "train",
        folder / "faces",
        *FACES,
        *rounds,
        "evaluation.annealing=false",
        "--out",
        run,
        "--device",
        "cpu",
    )
    while (given := len(rows("latency"))) < SIGNALS:
        moment = random.Random(given).uniform(2, 12 + given)
        hit = disturb(words, folder, signal.SIGTERM, moment, run, samples=False)
        if hit is None:
            break
        append(trial="latency", load=round(os.getloadavg()[0], 1), **hit)


TRIALS = {"damage": damage, "disk": disk, "kills": kills, "latency": latency, "processes": processes}


def counted(values: Iterable[Any]) -> str:
    return ", ".join(f"{value} {count}" for value, count in collections.Counter(values).most_common())


def slowest(found: list[Row], clock: str) -> str:
    known = sorted(row[clock] for row in found if clock in row)
    return f"median {statistics.median(known):.2f}, longest {known[-1]:.2f}" if known else "none"


def summary() -> Iterator[str]:
    """What the lines of the results say."""
    told = rows("kills")
    for sort in ("kill", "term"):
        hits = [row for row in told if row["sort"] == sort and "number" in row]
        ends = [row for row in told if row["sort"] == sort and "number" not in row]
        yield f"{len(hits)} signals ({counted(row['number'] for row in hits)})"
        yield f"  at {counted(row['where'] for row in hits)}"
        yield f"  statuses: {counted(row['status'] for row in hits)}"
        wrong = sum(bool(row["differences"]) for row in ends)
        yield f"  {len(ends)} commands came to their end, {wrong} of them different from the undisturbed one"
        yield f"  files beyond those: {counted(row['orphan_bytes'] for row in ends)} (bytes, commands)"
    for what in ("kills", "start", "latency_before", "latency"):
        hits = [row for row in rows(what) if row.get("status", -9) != -9]
        if hits:
            yield f"{what}: {len(hits)} signals, statuses {counted(row['status'] for row in hits)}"
            for clock in ("seconds", "cpu_seconds"):
                yield f"  {clock}: {slowest(hits, clock)}"
            yield f"  at {counted(row['where'] for row in hits)}"
    told = rows("damage")
    yield f"{len(told)} damages: {counted(' and '.join(sorted(row['how'])) for row in told)}"
    for what in ("named", "newest_used"):
        yield f"  {what}: {sum(row[what] for row in told)}"
    resumed = [row["differences"] for row in told if "differences" in row]
    yield f"  {len(resumed)} resumed to the end, {sum(map(bool, resumed))} of them to another one"
    for row in (*rows("disk"), *rows("processes")):
        yield json.dumps(row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trial", nargs="?", choices=sorted(TRIALS))
    parser.add_argument("--folder", type=Path, help="where the runs lie; a temporary folder unless given")
    arguments = parser.parse_args()
    if arguments.trial is not None:
        folder = arguments.folder or Path(tempfile.mkdtemp(prefix="reliability-"))
        folder.mkdir(parents=True, exist_ok=True)
        TRIALS[arguments.trial](folder)
    else:
        print("\n".join(summary()))


if __name__ == "__main__":
    main()

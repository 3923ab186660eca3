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
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent.parent / "results" / "reliability.jsonl"
Row = dict[str, Any]

SIGNALS = 50  # of each sort
DAMAGES, RESUMED = 200, 20
RECIPE = """\
summary: every stage on digits, in seconds
data: {kind: digits}
vae: {kind: mlp, latent_dim: 8, hidden: [64], likelihood: {kind: censored, scale: global}}
code_mixture: {components: 30}
energy:
  image: {kind: residual, stem: 8, widths: [8, 16], halve: [0]}
  latent: {kind: correction, hidden: [32]}
sampler: {kind: underdamped, step_size: 0.2, friction: 0.5, steps: 20}
vae_stage: {iterations: 300}
energy_stage:
  batch_size: 32
  latent: {iterations: 100}
  phases:
    ratio: {kind: density_ratio, iterations: 60, validate_every: 20}
    rounds: {kind: ratio_rounds, rounds: 2, iterations_per_round: 10, chains: 128, restart_steps: 10}
    divergence: {kind: contrastive_divergence, iterations: 15, buffer: 128}
evaluation: {n: 200, annealing: false}
logging: {every: 5}
threads: 1
"""
EVERY = ("0", "0.5")  # seconds between checkpoints: one after each iteration, or two a second


def append(**row: Any) -> None:
    TARGET.parent.mkdir(exist_ok=True)
    with TARGET.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def rows(trial: str) -> list[Row]:
    told = TARGET.read_text(encoding="utf-8").splitlines() if TARGET.exists() else []
    return [row for row in map(json.loads, told) if row["trial"] == trial]


def vaebm(*words: str | Path, cwd: Path, **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vaebm", *map(str, words)]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def done(*words: str | Path, cwd: Path) -> float:
    """Runs a command to its end; the seconds that it took."""
    started = time.perf_counter()
    process = vaebm(*words, cwd=cwd)
    _, said = process.communicate()
    if process.returncode:
        raise SystemExit(f"{words} ended with {process.returncode}: {said}")
    return time.perf_counter() - started


def told(run: Path) -> list[Row]:
    """What metrics.jsonl says, but for times."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    kept = [row for row in lines if row.get("event") != "damaged_checkpoint"]
    return [{name: value for name, value in row.items() if name not in ("seconds", "message")} for row in kept]


def measured(run: Path) -> list[Row]:
    found = json.loads((run / "measurements.json").read_text(encoding="utf-8"))
    return [one for one in found if "seconds" not in one["name"]]


def files(folder: Path) -> dict[str, int]:
    """Sizes by name; a checkpoint by its place from the newest, since moments decide the names of some."""
    names = sorted(path.name for path in (folder / "checkpoints").glob("[0-9]*"))
    place = {f"checkpoints/{name}/": f"checkpoints/{len(names) - i}/" for i, name in enumerate(names)}
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            name = str(path.relative_to(folder))
            name = next((new + name.removeprefix(old) for old, new in place.items() if name.startswith(old)), name)
            found[name] = path.stat().st_size
    return found


def differences(run: Path, whole: Path) -> list[str]:
    """What is not as in the undisturbed run."""
    found = [] if told(run) == told(whole) else ["metrics.jsonl"]
    if (whole / "measurements.json").exists() and measured(run) != measured(whole):
        found.append("measurements.json")
    exact = [*whole.glob("model/*"), *whole.glob("samples/**/*.png"), *whole.glob("samples/draws/*")]
    for path in (path for path in exact if path.is_file()):
        other = run / path.relative_to(whole)
        if not other.is_file() or other.read_bytes() != path.read_bytes():
            found.append(str(path.relative_to(whole)))
    return found


def orphans(run: Path, whole: Path) -> Row:
    """Files that an undisturbed run does not leave."""
    more = {name: size for name, size in files(run).items() if name not in files(whole)}
    return {"orphans": sorted(more), "orphan_bytes": sum(more.values())}


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


LEVELS = (0.0, 0.05, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9)  # of the room that a run needs
BRIEF = ("vae_stage.iterations=50", "energy_stage.latent.iterations=20", "energy_stage.phases.ratio.iterations=20")
ROOM = 2**26  # bytes of a disk that suffices


class Disk:
    """A small file system, mounted while the block lasts, of which `free` bytes are left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Disk:
        self.folder.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "none", self.folder], check=True)
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "-l", self.folder], check=True)

    def leave(self, free: int) -> None:
        """Fills it up to `free` bytes."""
        (self.folder / "filler").unlink(missing_ok=True)
        there = os.statvfs(self.folder)
        with (self.folder / "filler").open("wb") as file:
            file.write(bytes(max(0, there.f_bavail * there.f_frsize - free)))


def refused(row: Row, process: subprocess.Popen[str]) -> None:
    """Ends a command on a full disk; notes how."""
    out, said = process.communicate()
    lines = [line for line in said.splitlines() if line.startswith("vaebm:")]
    row |= {"status": process.returncode, "said": lines, "traceback": "Traceback" in said or "defect" in said}
    row["printed"] = out.strip()[:80]


def disk(folder: Path) -> None:
    """Needs root: a file system is mounted."""
    (folder / "recipe.yaml").write_text(RECIPE)
    whole, known = folder / "whole", {row["place"] for row in rows("disk")}
    words = ("train", "recipe.yaml", *BRIEF, "--device", "cpu", "--quiet", "--out")
    if not (whole / "report.html").exists():
        done(*words, whole, cwd=folder)
    if not (shown := folder / "shown").exists():  # what the other verbs add to a run is no part of the whole one
        shutil.copytree(whole, shown)
    need = sum(files(whole).values())
    with Disk(folder / "disk") as small:
        for level in LEVELS:
            if (place := f"train with {level:.0%} of the room") in known:
                continue
            run = small.folder / "run"
            shutil.rmtree(run, ignore_errors=True)
            small.leave(int(level * need))
            row: Row = {"trial": "disk", "place": place}
            refused(row, vaebm(*words, run, cwd=folder))
            row["left"] = sorted({name.split("/")[0] for name in files(run)}) if run.exists() else []
            small.leave(ROOM // 2)
            done(*words, run, cwd=folder)
            row |= {"differences": differences(run, whole), **orphans(run, whole)}
            append(**row)
        shutil.rmtree(small.folder / "run", ignore_errors=True)
        small.leave(0)
        for place in ("progress alone", "progress and results alone"):
            if place not in known:
                run = folder / place.replace(" ", "-")
                command = [sys.executable, "-m", "vaebm", *words[:-2], words[-1], str(run)]
                with (small.folder / "log").open("w") as log:
                    printed = subprocess.DEVNULL if place == "progress alone" else log
                    ended = subprocess.run(command, check=False, cwd=folder, stdout=printed, stderr=log)
                append(trial="disk", place=place, status=ended.returncode, differences=differences(run, whole))
        for place, verb in _verbs(small.folder, shown).items():
            if place in known:
                continue
            free = 5_000 if "report" not in place and "evaluate" not in place else 0
            if place in ("report", "evaluate", "compare-samplers in the run"):
                small.leave(ROOM // 2)
                shutil.rmtree(small.folder / "run", ignore_errors=True)
                shutil.copytree(whole, small.folder / "run")
                (small.folder / "run" / ("report.html" if place == "report" else "measurements.json")).unlink()
                shutil.rmtree(small.folder / "run" / "samples")
            small.leave(free)
            row = {"trial": "disk", "place": place}
            refused(row, vaebm(*verb, cwd=folder))
            row["left"] = sorted(
                path.name for path in small.folder.iterdir() if path.name not in ("filler", "log", "run")
            )
            small.leave(ROOM // 2)
            again = vaebm(*verb, cwd=folder)
            again.communicate()
            row["again"] = again.returncode
            append(**row)
            for path in small.folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if "feature cache" not in known:
            small.leave(0)
            features = ("evaluation.features=pixels", "evaluation.n=50")
            environment = {**os.environ, "XDG_CACHE_HOME": str(small.folder)}
            row = {"trial": "disk", "place": "feature cache"}
            refused(row, vaebm("evaluate", shown, *features, "--quiet", cwd=folder, env=environment))
            append(**row)


def _verbs(out: Path, run: Path) -> dict[str, tuple[str | Path, ...]]:
    images = run.parent / "images"
    if not images.exists():
        subprocess.run([sys.executable, "-m", "vaebm", "sample", run, "--n", "300", "--out", images], check=True)
    digits = ("--input", "digits")
    return {
        "sample npz": ("sample", run, "--n", "2000", "--subject", "vae", "--out", out / "s.npz"),
        "sample npz, chains": ("sample", run, "--n", "500", "--out", out / "s.npz"),
        "sample png": ("sample", run, "--n", "500", "--subject", "vae", "--out", out / "s.png"),
        "sample folder": ("sample", run, "--n", "200", "--subject", "vae", "--out", out / "s"),
        "score csv": ("score", run, *digits, "--out", out / "s.csv"),
        "score npz": ("score", run, *digits, "--out", out / "s.npz"),
        "encode": ("encode", run, "--input", "test", "--out", out / "s.npz"),
        "reconstruct": ("reconstruct", run, "--out", out / "s.gif"),
        "data prepare": ("data", "prepare", images, "--out", out / "prepared"),
        "compare-samplers": ("compare-samplers", run, "--n", "64", "--out", out / "c"),
        "evaluate": ("evaluate", out / "run", "--only", "elbo", "--n", "50"),
        "report": ("report", out / "run"),
    }


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

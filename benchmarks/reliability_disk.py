"""A full disk, at each place that writes: a trial of benchmarks/reliability.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from reliability_trials import RECIPE, Row, append, differences, done, files, orphans, rows, vaebm

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

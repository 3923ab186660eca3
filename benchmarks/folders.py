"""Folders of images that no recipe was tuned to, each trained in the minutes given.

    OMP_NUM_THREADS=1 python benchmarks/folders.py --minutes 20
    OMP_NUM_THREADS=1 python benchmarks/folders.py --folders icons --bfloat16
    python benchmarks/folders.py --print

    faces         400 photographs of 92 x 112 (ORL)
    photographs   2,000 of CIFAR-10's training images as PNG, 32 x 32 in colour
    digits        5,000 of MNIST's training images as JPEG, 28 x 28
    icons         60 discs, boxes and rings of two colours, 48 x 48, drawn by code

`vaebm train FOLDER --minutes 20` chooses size, nets and iterations; the minutes of the clock include measuring and the
report. It runs in float32 unless `--bfloat16` lets it choose. Faces, photographs and digits are those of `VAEBM_DATA`.
Each folder and precision is a line of results/folders.jsonl and is not trained again; runs stay in runs/folders.
"""

from __future__ import annotations

import argparse
import json
import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from results import hardware, version
from vaebm.cli import main as vaebm
from vaebm.data import KINDS
from vaebm.experiment.run_directory import Run

ROOT = Path(__file__).parent.parent
RESULTS, RUNS = ROOT / "results" / "folders.jsonl", ROOT / "runs" / "folders"
NAMES = ("frechet_distance", "elbo", "energy_gain", "energy_shift", "memorised_fraction", "precision", "recall")
Row = dict[str, object]


def faces(folder: Path) -> None:
    with tarfile.open(Path(os.environ["VAEBM_DATA"]) / "orl_faces" / "att_faces.tar.xz") as archive:
        archive.extractall(folder, filter="data")


def photographs(folder: Path) -> None:
    images = KINDS["cifar10"].model_validate({}).load().train
    for place, image in enumerate(images.values[torch.arange(2000)].numpy()):
        Image.fromarray(np.moveaxis(image, 0, -1)).save(folder / f"{place:05}.png")


def digits(folder: Path) -> None:
    images = KINDS["mnist"].model_validate({}).load().train
    for place, image in enumerate(images.values[torch.arange(5000)].numpy()):
        Image.fromarray(image[0]).save(folder / f"{place:05}.jpg", quality=90)


def icons(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for place in range(60):
        front, back = (tuple(int(v) for v in rng.integers(0, 256, 3)) for _ in range(2))
        icon = Image.new("RGB", (192, 192), back)
        size, draw = int(rng.integers(50, 85)), ImageDraw.Draw(icon)
        box = (96 - size, 96 - size, 96 + size, 96 + size)
        if place % 3 == 1:
            draw.rounded_rectangle(box, radius=20, fill=front)
        else:
            draw.ellipse(box, fill=front if place % 3 == 0 else None, outline=front, width=28)
        icon.resize((48, 48), Image.Resampling.LANCZOS).save(folder / f"{place:02}.png")


FOLDERS: dict[str, Callable[[Path], None]] = {
    "faces": faces,
    "photographs": photographs,
    "digits": digits,
    "icons": icons,
}


def trained(name: str, minutes: float, bfloat16: bool) -> Row:
    """Minutes of the clock, what was chosen, and what was measured."""
    folder, out = RUNS / name, RUNS / f"{name}-{'bfloat16' if bfloat16 else 'float32'}"
    if not folder.exists():
        folder.mkdir(parents=True)
        FOLDERS[name](folder)
    precision = [] if bfloat16 else ["precision=float32"]
    started = time.perf_counter()
    status = vaebm(["train", str(folder), "--out", str(out), "--minutes", str(minutes), *precision])
    taken = (time.perf_counter() - started) / 60
    run = Run.open(out)
    recipe = run.recipe
    phases = {
        key: getattr(phase, "rounds", None) or phase.iterations for key, phase in recipe.energy_stage.phases.items()
    }
    chosen = {"shape": list(run.data().shape), "vae": recipe.vae_stage.iterations, **phases}
    found: Row = {}
    for m in run.measurements():
        if m.name in NAMES:
            features, show = m.settings.get("features", ""), m.settings.get("show", "")
            found[" ".join(filter(None, (m.name, m.subject, str(features), str(show))))] = [m.value, m.stderr]
    return {"minutes": round(taken, 2), "status": status, "chosen": chosen, "measured": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folders", nargs="+", choices=list(FOLDERS), default=list(FOLDERS))
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--bfloat16", action="store_true", help="let it choose the precision")
    parser.add_argument("--print", action="store_true", help="print what is there")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    for name in [] if arguments.print else arguments.folders:
        key = {"folder": name, "asked": arguments.minutes, "bfloat16": arguments.bfloat16}
        if any(key.items() <= row.items() for row in rows):
            continue
        row = {**key, **trained(name, arguments.minutes, arguments.bfloat16)}
        with RESULTS.open("a") as file:
            file.write(json.dumps({**row, "hardware": hardware(), "version": version()}) + "\n")
        rows.append(row)
    for row in rows:
        print(f"{row['folder']}, bfloat16 {row['bfloat16']}: {row['minutes']} minutes, {row['chosen']}")
        for key, value in row["measured"].items():
            print(f"    {key:<60} {value[0]:.4g} ± {value[1]:.2g}")


if __name__ == "__main__":
    main()

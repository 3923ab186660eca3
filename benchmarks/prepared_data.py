"""Prepared data against decoding PNGs each epoch: time and memory, written to results/prepared_data.json.

    python benchmarks/prepared_data.py
    python benchmarks/prepared_data.py --images 5000 --folder /tmp/prepared-data

It generates images of 64 x 64 pixels, prepares them as `vaebm data prepare` does, and goes over all of them once in a
shuffled order, in batches of 128: from the prepared folder, and by decoding the PNGs. Both give the uint8 batch, and
the batch as models see it (float32 in [-1, 1]). The two take turns, `--rounds` times; medians are reported. Every part
runs in a process of its own; its memory is the largest sum over its process tree of what is resident, shared pages
divided among those that share them (PSS), and beside it the peak of the largest single process (RSS).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from results import hardware, version
from vaebm.data import FolderSettings, to_model
from vaebm.data.prepare import prepare_set

SIDE, BATCH = 64, 128
TARGET = Path(__file__).parent.parent / "results" / "prepared_data.json"


def generate(folder: Path, images: int) -> None:
    """Smooth colours, a few shapes, and a little noise: PNGs of about 9 kB, as photographs of this size are."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    for start in range(0, images, 1000):
        below = folder / f"{start // 1000:03d}"
        below.mkdir(parents=True, exist_ok=True)
        generator = np.random.default_rng(start)
        for number in range(start, min(start + 1000, images)):
            a, b, c = generator.uniform(-1, 1, (3, 3, 1, 1))
            pixels = 0.5 + 0.3 * a * x + 0.3 * b * y + 0.2 * np.sin(6 * c * (x + y))
            left, top = generator.uniform(0.1, 0.9, 2)
            pixels = np.where((x - left) ** 2 + (y - top) ** 2 < 0.04, 1 - pixels, pixels)
            pixels = pixels + generator.normal(0, 0.01, pixels.shape)
            picture = (pixels.clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
            Image.fromarray(picture).save(below / f"{number:06d}.png", compress_level=6)


def shuffled(images: int) -> Iterator[torch.Tensor]:
    """One epoch's rows, a batch at a time."""
    yield from torch.randperm(images, generator=torch.Generator().manual_seed(0)).split(BATCH)


def from_prepared(prepared: Path, as_models_see: bool) -> dict[str, float]:
    split = FolderSettings(root=str(prepared)).load().train
    started, total = time.perf_counter(), 0
    for rows in shuffled(len(split)):
        batch = split.batch(rows).x if as_models_see else split.values[rows]
        total += len(batch)
    return {"seconds": time.perf_counter() - started, "images": total}


def from_pngs(folder: Path, as_models_see: bool) -> dict[str, float]:
    paths = sorted(folder.rglob("*.png"))
    started, total = time.perf_counter(), 0
    for rows in shuffled(len(paths)):
        pixels = np.empty((len(rows), SIDE, SIDE, 3), np.uint8)
        for place, row in enumerate(rows.tolist()):
            with Image.open(paths[row]) as image:
                pixels[place] = np.asarray(image.convert("RGB"))
        batch = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
        total += len(to_model(batch) if as_models_see else batch)
    return {"seconds": time.perf_counter() - started, "images": total}


def prepare(folder: Path, out: Path, workers: int) -> dict[str, float]:
    started = time.perf_counter()
    _, index = prepare_set(folder, out=out, workers=workers)
    return {"seconds": time.perf_counter() - started, "images": sum(part.images for part in index.parts.values())}


def in_process(work: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    """What `work` returns, run in a process of its own, with its peak memory in megabytes."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_report, args=(theirs, work, *arguments))
    process.start()
    peak = 0.0
    while not ours.poll(0.1):
        peak = max(peak, sum(_pss(pid) for pid in _tree(process.pid or 0)) / 1e6)
        if not process.is_alive():
            raise SystemExit("a part of the benchmark died")
    found: dict[str, float] = ours.recv()
    process.join()
    return {**found, "peak_pss_mb": round(peak), "seconds": round(found["seconds"], 2)}


def _report(pipe: Any, work: Callable[..., dict[str, float]], *arguments: Any) -> None:
    torch.set_num_threads(1)
    found = work(*arguments)
    largest = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    pipe.send({**found, "peak_rss_mb": round(largest * 1024 / 1e6)})


def _tree(root: int) -> Iterator[int]:
    yield root
    for children in Path(f"/proc/{root}/task").glob("*/children"):
        try:
            pids = children.read_text().split()
        except OSError:
            continue
        for pid in pids:
            yield from _tree(int(pid))


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def measure(folder: Path, images: int, workers: int, rounds: int) -> dict[str, Any]:
    raw, out = folder / "png", folder / f"prepared-{images}"
    if len(list(raw.rglob("*.png"))) != images:
        generate(raw, images)
    shutil.rmtree(out, ignore_errors=True)
    found: dict[str, Any] = {"prepare": {**in_process(prepare, raw, out, workers), "workers": workers}}
    sys.stdout.write(f"prepare: {found['prepare']}\n")
    for as_models_see in (False, True):
        kind = "as_models_see" if as_models_see else "uint8"
        runs: dict[str, list[dict[str, float]]] = {"prepared": [], "png": []}
        for _ in range(rounds):
            runs["prepared"].append(in_process(from_prepared, out, as_models_see))
            runs["png"].append(in_process(from_pngs, raw, as_models_see))
        rates = {name: statistics.median(one["images"] / one["seconds"] for one in some) for name, some in runs.items()}
        found[kind] = {
            **{f"{name}_images_per_second": round(rate) for name, rate in rates.items()},
            "ratio": round(rates["prepared"] / rates["png"], 1),
            "ratio_lowest": round(
                min(a["images"] / a["seconds"] for a in runs["prepared"])
                / max(a["images"] / a["seconds"] for a in runs["png"]),
                1,
            ),
            "prepared_peak_rss_mb": max(one["peak_rss_mb"] for one in runs["prepared"]),
            "prepared_peak_pss_mb": max(one["peak_pss_mb"] for one in runs["prepared"]),
        }
        sys.stdout.write(f"{kind}: {found[kind]}\n")
    return found


def main() -> None:
    """Generates, prepares, goes over, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="for images and prepared folders; a temporary one unless given")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=TARGET)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        found = measure(folder, arguments.images, arguments.workers, arguments.rounds)
    record = {
        "images": arguments.images,
        "shape": [3, SIDE, SIDE],
        "batch": BATCH,
        "rounds": arguments.rounds,
        **found,
        "hardware": hardware(),
        "command": f"python benchmarks/prepared_data.py --rounds {arguments.rounds}",
        "version": version(),
    }
    arguments.out.parent.mkdir(exist_ok=True)
    arguments.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()

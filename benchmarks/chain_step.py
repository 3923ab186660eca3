"""One chain step at the paper's CIFAR-10 size, and the energy net alone, against the released algorithm.

    python benchmarks/chain_step.py                     # both cores of a quiet machine, about ten minutes
    python benchmarks/chain_step.py --repeats 3 --batch 4 --threads 1

A chain step is one gradient of the log-density with respect to all noise (153,600 latents and 3,072 pixels a chain) and
the Langevin update. Both sides have random weights of the same sizes: an NVAE decoder of 30 groups of 20 x 16 x 16, 256
channels, with two cells between any two groups, and the energy net [128v, 128, 256v, 256, 256v, 256] (v halves).

released   plain modules in eager float32: convolution, batch normalisation and swish one after another, weights of the
           energy net normalised in every pass, log p(z) + log p(x | z) - E(x) differentiated by autograd
vaebm      the library as it runs chains: `model.frozen()`, norms folded, channels last, bfloat16 where it is native

They take turns within one process; each ratio is of two neighbours in time, and the median and quartiles of all are
reported. Peak memory is that of three steps in a fresh process, without the process before it had built its side.
`share` is the rate of the energy net as a share of the rate of one 3 x 3 convolution of 128 channels at 32 x 32
and the same batch in bfloat16: the machine's own.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from chain_step_released import CHANNELS, EXPANSION, GROUPS, HALVE, IMAGE, LATENTS, STEM, STEP_SIZE, WIDTHS, Released
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from results import hardware, version
from vaebm.energy.residual import ResidualEnergy
from vaebm.models import VAEBMSettings
from vaebm.sampling.langevin import Langevin

ROOT = Path(__file__).parent.parent
Step = Callable[[], Tensor]


class Ours:
    """The same with the library's parts, as `model.chains` runs them."""

    def __init__(self, batch: int, precision: str, compiled: bool) -> None:
        settings = VAEBMSettings.model_validate(
            {
                "vae": {
                    "kind": "nvae",
                    "widths": [CHANNELS // 2, CHANNELS],
                    "groups": [GROUPS],
                    "latents": LATENTS,
                    "cells": 2,
                    "expansion": EXPANSION,
                    "norm": "batch",
                    "likelihood": {"kind": "gaussian", "scale": "pixel"},
                },
                "energy": {"image": {"kind": "residual", "stem": STEM, "widths": WIDTHS, "halve": HALVE}},
                "sampler": {"kind": "langevin", "step_size": STEP_SIZE},
                "precision": precision,
                "compile": compiled,
            }
        )
        self.generator = torch.Generator().manual_seed(0)
        self.model = settings.build(IMAGE, self.generator)
        self.model.vae.tower = nn.Identity()  # chains do not need the encoder
        on_data = self.model.energy_net.terms["image"]
        assert isinstance(on_data, ResidualEnergy)
        nn.init.normal_(on_data.out.weight, generator=self.generator)
        if compiled:
            self.model.compile_nets()
        self.frozen = self.model.frozen()
        self.frozen.__enter__()
        self.kernel, self.x = Langevin(STEP_SIZE), torch.randn(batch, *IMAGE, generator=self.generator)
        eps = self.model.noise.standard(batch, self.generator, next(self.model.parameters()))
        self.state = self.kernel.init(eps, self.model.noise_log_density)

    def step(self) -> Tensor:
        self.state, _ = self.kernel.step(self.state, self.model.noise_log_density, self.generator)
        return self.state.position

    def gradient(self) -> Tensor:
        x = self.x.detach().requires_grad_()
        return torch.autograd.grad(self.model.energy(x).sum(), x)[0]

    def flops(self) -> tuple[float, float]:
        """As the released one's."""
        with torch.no_grad(), FlopCounterMode(display=False) as both:
            self.model.noise_log_density(self.state.position)
        with torch.no_grad(), FlopCounterMode(display=False) as energy:
            self.model.energy(self.x)
        return both.get_total_flops(), energy.get_total_flops()


SIDES: dict[str, Callable[[int, str, bool], Any]] = {
    "released": lambda batch, _, __: Released(batch),
    "vaebm": Ours,
}


def seconds(step: Step) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def in_turn(sides: dict[str, Step], repeats: int) -> dict[str, list[float]]:
    """Seconds of each side, round by round, after two rounds that do not count."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for round_ in range(repeats + 2):
        for name, step in sides.items():
            spent = seconds(step)
            if round_ > 1:
                found[name].append(spent)
    return found


def convolution_rate(batch: int, dtype: torch.dtype) -> float:
    """GFLOP/s of one 3 x 3 convolution, 128 channels at 32 x 32, channels last: the best of 30."""
    x = torch.randn(batch, 128, 32, 32).to(dtype).contiguous(memory_format=torch.channels_last)
    w = torch.randn(128, 128, 3, 3).to(dtype).contiguous(memory_format=torch.channels_last)
    fastest = min(seconds(lambda: functional.conv2d(x, w, padding=1)) for _ in range(30))
    return 2 * x.numel() * 128 * 9 / fastest / 1e9


def quartiles(values: list[float]) -> dict[str, float]:
    low, median, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return {"median": median, "low": low, "high": high}


def compared(times: dict[str, list[float]], gigaflops: dict[str, float]) -> dict[str, Any]:
    """Medians and quartiles of the seconds, of the ratios of neighbours, and rates."""
    ratios = [a / b for a, b in zip(times["released"], times["vaebm"], strict=True)]
    return {
        "seconds": {name: quartiles(values) for name, values in times.items()},
        "ratio": quartiles(ratios),
        "gflop": gigaflops,
        "gflop_per_second": {name: gigaflops[name] / statistics.median(values) for name, values in times.items()},
    }


def peak_megabytes(side: str, arguments: argparse.Namespace) -> float:
    """Growth of a fresh process that builds one side and runs three steps."""
    command = [sys.executable, __file__, "--peak", side, "--batch", str(arguments.batch)]
    command += ["--threads", str(arguments.threads), "--precision", arguments.precision]
    command += ["--compile"] if arguments.compile else []
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def megabytes(which: str) -> float:
    """VmRSS, the resident size of this process, or VmHWM, the largest since it was last forgotten."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(which)) / 1024


def measure_peak(side: str, options: tuple[int, str, bool]) -> float:
    """Growth of this process from before a side is built to the largest of three steps."""
    before = megabytes("VmRSS")
    built = SIDES[side](*options)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # forgets the largest so far: building is not running
    for _ in range(3):
        built.step()
    return megabytes("VmHWM") - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--batch", type=int, default=4, help="chains")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--precision", choices=["bfloat16", "float32"], default="bfloat16", help="of vaebm")
    parser.add_argument("--compile", action="store_true", help="vaebm with torch.compile")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "chain_step.json")
    parser.add_argument("--peak", choices=list(SIDES), help="only the peak memory of one side, in this process")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    options = (arguments.batch, arguments.precision, arguments.compile)
    if arguments.peak:
        print(measure_peak(arguments.peak, options))
        return
    sides = {name: build(*options) for name, build in SIDES.items()}
    flops = {name: side.flops() for name, side in sides.items()}
    step, energy = ({name: 2 * value[i] / 1e9 for name, value in flops.items()} for i in range(2))
    found = {
        "chain_step": compared(in_turn({name: side.step for name, side in sides.items()}, arguments.repeats), step),
        "energy": compared(in_turn({n: side.gradient for n, side in sides.items()}, 3 * arguments.repeats), energy),
    }
    rate = convolution_rate(arguments.batch, torch.bfloat16)
    found["energy"]["share"] = found["energy"]["gflop_per_second"]["vaebm"] / rate
    record = {
        "name": "chain_step",
        **found,
        "convolution_gflop_per_second": {
            "bfloat16": rate,
            "float32": convolution_rate(arguments.batch, torch.float32),
        },
        "peak_megabytes": {name: peak_megabytes(name, arguments) for name in SIDES},
        "batch": arguments.batch,
        "precision": arguments.precision,
        "compile": arguments.compile,
        "load": os.getloadavg()[0],
        "hardware": hardware(),
        "command": shlex.join(["python", *sys.argv]),
        "version": version(),
    }
    arguments.out.parent.mkdir(exist_ok=True)
    arguments.out.write_text(json.dumps(record, indent=1) + "\n")
    print(table(record))


def table(record: dict[str, Any]) -> str:
    """The record for people, in Markdown."""
    lines = ["| | released, float32 | vaebm | ratio (quartiles) |", "| --- | --- | --- | --- |"]
    for key, title in (("chain_step", "a chain step"), ("energy", "gradient of the energy net alone")):
        part = record[key]
        times = [f"{part['seconds'][name]['median'] * 1e3:.0f} ms" for name in SIDES]
        ratio = part["ratio"]
        spread = f"**{ratio['median']:.1f}** ({ratio['low']:.1f} to {ratio['high']:.1f})"
        lines.append(f"| {title} | {' | '.join(times)} | {spread} |")
        rates = [f"{part['gflop_per_second'][name]:.0f} GFLOP/s" for name in SIDES]
        share = f"{part['share']:.0%} of one bfloat16 convolution's" if "share" in part else ""
        lines.append(f"| | {' | '.join(rates)} | {share} |")
    peaks = [record["peak_megabytes"][name] for name in SIDES]
    lines.append(f"| peak memory | {peaks[0]:.0f} MB | {peaks[1]:.0f} MB | {peaks[0] / peaks[1]:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

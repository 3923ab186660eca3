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
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from results import hardware, version
from vaebm.hybrid import VAEBM
from vaebm.hybrid.settings import ModelSettings
from vaebm.sampling.langevin import Langevin

ROOT = Path(__file__).parent.parent
IMAGE = (3, 32, 32)
GROUPS, LATENTS, CHANNELS, EXPANSION = 30, 20, 256, 6
ENERGY = {"stem": 128, "widths": [128, 128, 256, 256, 256, 256], "halve": [0, 2, 4]}
STEP_SIZE = 8e-5
Step = Callable[[], Tensor]


# The released algorithm


class SqueezeExcite(nn.Module):
    """x times a gate that has seen all of the image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(channels // 16, 4)
        self.down, self.up = nn.Linear(channels, squeezed), nn.Linear(squeezed, channels)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.up(functional.relu(self.down(x.mean((2, 3))))))
        return x * gate[:, :, None, None]


class DecoderCell(nn.Module):
    """x + 0.1 SE(BN(conv1x1(swish(BN(depthwise5x5(swish(BN(conv1x1(BN(x))))))))))."""

    def __init__(self, inputs: int, outputs: int, expansion: int, enlarge: bool = False) -> None:
        super().__init__()
        wide = inputs * expansion
        self.enlarge = enlarge
        self.norms = nn.ModuleList(nn.BatchNorm2d(n) for n in (inputs, wide, wide, outputs))
        self.first = nn.Conv2d(inputs, wide, 1, bias=False)
        self.depthwise = nn.Conv2d(wide, wide, 5, padding=2, groups=wide, bias=False)
        self.last = nn.Conv2d(wide, outputs, 1, bias=False)
        self.excite = SqueezeExcite(outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if self.enlarge:
            x = functional.interpolate(x, scale_factor=2)
        y = self.first(self.norms[0](x))
        y = self.depthwise(functional.silu(self.norms[1](y)))
        y = self.norms[3](self.last(functional.silu(self.norms[2](y))))
        return self.skip(x) + 0.1 * self.excite(y)


class Decoder(nn.Module):
    """Noise of every group and of the pixels to x, log p(z) and log p(x | z)."""

    def __init__(self) -> None:
        super().__init__()
        side = IMAGE[1] // 2
        self.begin = nn.Parameter(torch.randn(1, CHANNELS, side, side))
        between = [nn.Sequential(*(cell() for _ in range(2))) for _ in range(GROUPS - 1)]
        self.cells = nn.ModuleList(between)
        self.priors = nn.ModuleList(nn.Conv2d(CHANNELS, 2 * LATENTS, 1) for _ in range(GROUPS - 1))
        self.combine = nn.ModuleList(nn.Conv2d(CHANNELS + LATENTS, CHANNELS, 1) for _ in range(GROUPS))
        self.enlarge = nn.Sequential(
            DecoderCell(CHANNELS, CHANNELS // 2, 3, enlarge=True), DecoderCell(CHANNELS // 2, CHANNELS // 2, EXPANSION)
        )
        self.out = nn.Conv2d(CHANNELS // 2, 2 * IMAGE[0], 3, padding=1)

    def forward(self, eps_x: Tensor, eps_z: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        s = self.begin.expand(eps_x.shape[0], -1, -1, -1)
        log_z = torch.zeros(eps_x.shape[0])
        for group, eps in enumerate(eps_z):
            mu, log_sigma = torch.zeros_like(eps), torch.zeros_like(eps)
            if group:
                s = self.cells[group - 1](s)
                mu, log_sigma = soft_clamp(self.priors[group - 1](functional.elu(s))).chunk(2, dim=1)
            z = mu + log_sigma.exp() * eps
            log_z = log_z + log_normal(z, mu, log_sigma)
            s = self.combine[group](torch.cat([s, z], dim=1))
        mu, log_sigma = soft_clamp(self.out(functional.elu(self.enlarge(s)))).chunk(2, dim=1)
        log_sigma = (log_sigma.exp() + 0.01).log()
        x = mu + log_sigma.exp() * eps_x
        return x, log_z, log_normal(x, mu, log_sigma)


class NormalisedConv(nn.Module):
    """Weights g v / |v|, computed in every pass."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__()
        self.v = nn.Parameter(torch.randn(outputs, inputs, size, size) / (inputs * size**2) ** 0.5)
        self.log_g, self.bias = nn.Parameter(torch.zeros(outputs)), nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        norm = self.v.square().sum((1, 2, 3), keepdim=True).sqrt()
        weight = self.log_g.exp()[:, None, None, None] * self.v / norm
        return functional.conv2d(x, weight, self.bias, padding=weight.shape[2] // 2)


class EnergyBlock(nn.Module):
    """skip(x) + conv3x3(act(conv3x3(act(x)))), act = swish / 1.1, halved at its end or not."""

    def __init__(self, inputs: int, outputs: int, halve: bool) -> None:
        super().__init__()
        self.first, self.second = NormalisedConv(inputs, outputs, 3), NormalisedConv(outputs, outputs, 3)
        self.skip = NormalisedConv(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.halve = halve

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(functional.silu(self.first(functional.silu(x) / 1.1)) / 1.1) + self.skip(x)
        return functional.avg_pool2d(y, 2) if self.halve else y


class Energy(nn.Module):
    """Stem, blocks, sum over pixels, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        widths = ENERGY["widths"]
        inputs = [ENERGY["stem"], *widths[:-1]]
        self.stem = NormalisedConv(IMAGE[0], ENERGY["stem"], 3)
        self.blocks = nn.Sequential(
            *(EnergyBlock(a, b, i in ENERGY["halve"]) for i, (a, b) in enumerate(zip(inputs, widths, strict=True)))
        )
        self.out = nn.Linear(widths[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out((functional.silu(self.blocks(self.stem(x))) / 1.1).sum((2, 3))).squeeze(1)


def cell() -> DecoderCell:
    return DecoderCell(CHANNELS, CHANNELS, EXPANSION)


def soft_clamp(raw: Tensor) -> Tensor:
    return 5 * torch.tanh(raw / 5)


def log_normal(x: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
    return (-0.5 * ((x - mu) / log_sigma.exp()).square() - log_sigma - 0.919).sum((1, 2, 3))


class Released:
    """Chains of the released algorithm: `step` moves them, `gradient` is the energy net's alone."""

    def __init__(self, batch: int) -> None:
        self.decoder, self.energy = Decoder().eval().requires_grad_(False), Energy().eval().requires_grad_(False)
        side = IMAGE[1] // 2
        self.eps_x = torch.randn(batch, *IMAGE)
        self.eps_z = [torch.randn(batch, LATENTS, side, side) for _ in range(GROUPS)]
        self.x = torch.randn(batch, *IMAGE)

    def step(self) -> Tensor:
        noise = [eps.requires_grad_() for eps in (self.eps_x, *self.eps_z)]
        x, log_z, log_x = self.decoder(noise[0], noise[1:])
        gradients = torch.autograd.grad((log_z + log_x - self.energy(x)).sum(), noise)
        with torch.no_grad():
            noise = [
                eps + STEP_SIZE / 2 * gradient + STEP_SIZE**0.5 * torch.randn_like(eps)
                for eps, gradient in zip(noise, gradients, strict=True)
            ]
        self.eps_x, *self.eps_z = (eps.detach() for eps in noise)
        return self.eps_x

    def gradient(self) -> Tensor:
        x = self.x.detach().requires_grad_()
        return torch.autograd.grad(self.energy(x).sum(), x)[0]

    def flops(self) -> tuple[float, float]:
        """Of a forward pass of both nets, and of the energy net; a gradient costs as much again."""
        with torch.no_grad(), FlopCounterMode(display=False) as both:
            self.energy(self.decoder(self.eps_x, self.eps_z)[0])
        with torch.no_grad(), FlopCounterMode(display=False) as energy:
            self.energy(self.x)
        return both.get_total_flops(), energy.get_total_flops()


# This library


class Ours:
    """The same with the library's parts, as `model.chains` runs them."""

    def __init__(self, batch: int, precision: str, compiled: bool) -> None:
        settings = ModelSettings.model_validate(
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
                "energy": {"image": {"kind": "residual", **ENERGY}},
                "sampler": {"kind": "langevin", "step_size": STEP_SIZE},
                "precision": precision,
                "compile": compiled,
            }
        )
        self.generator = torch.Generator().manual_seed(0)
        self.model = VAEBM(settings, IMAGE, self.generator)
        self.model.vae.tower = nn.Identity()  # chains do not need the encoder
        energy = self.model.energy_net.image
        nn.init.normal_(energy.out.weight, generator=self.generator)
        if compiled:
            self.model.compile_nets()
        self.frozen = self.model.frozen()
        self.frozen.__enter__()
        self.kernel, self.x = Langevin(STEP_SIZE), torch.randn(batch, *IMAGE, generator=self.generator)
        eps = self.model.noise.standard(batch, self.generator, self.model.device)
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


# Taking turns


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

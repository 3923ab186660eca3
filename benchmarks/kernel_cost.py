"""What a kernel costs besides its target: share of a step, and memory by number of steps. Table in docs/benchmarks.md.

    OMP_NUM_THREADS=1 python benchmarks/kernel_cost.py

Share: 1 - (gradient evaluations of the bare target, as many as the step makes) / (the step), both at the same
positions, in turn, in CPU time of one thread; median over rounds, with quartiles. Memory: the largest resident size of
a process that ran 100 or 10,000 steps of 1,000 chains without history.
"""

from __future__ import annotations

import argparse
import gc
import json
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from results import hardware, version
from tests.densities import Banana, GaussianGrid
from vaebm.experiment.recipe import load_recipe
from vaebm.models import in_noise_space
from vaebm.sampling import KERNELS, LogDensity, sample_chains
from vaebm.sampling.hmc import HMC
from vaebm.sampling.kernel import Kernel
from vaebm.sampling.langevin import MALA, Langevin
from vaebm.sampling.mclmc import MCLMC, AdjustedMCLMC
from vaebm.sampling.tempering import Tempering
from vaebm.sampling.underdamped import Underdamped

ROOT = Path(__file__).parent.parent
FEW, MANY = 100, 10_000  # steps between which memory may not grow


def kernels(dim: int) -> dict[str, Kernel]:
    """Every kernel as a warm-up would leave it: with a mass for each coordinate, and small steps."""
    mass = torch.ones(dim)
    made: dict[str, Kernel] = {
        "langevin": Langevin(1e-4, inverse_mass=mass),
        "underdamped": Underdamped(1e-2, inverse_mass=mass),
        "mala": MALA(1e-4, inverse_mass=mass),
        "hmc": HMC(1e-2, num_leapfrog_steps=5, jitter=0, inverse_mass=mass),
        "mclmc": MCLMC(1e-2, inverse_mass=mass),
        "adjusted_mclmc": AdjustedMCLMC(1e-2, num_leapfrog_steps=5, jitter=0, inverse_mass=mass),
        "tempering": Tempering(MALA(1e-4, inverse_mass=mass), betas=(1.0, 0.5, 0.25, 0.12)),
    }
    assert set(made) == set(KERNELS)
    return made


def model_target(recipe_name: str) -> tuple[LogDensity, int]:
    """A recipe's model with random weights, in noise space."""
    recipe = load_recipe(recipe_name)
    shape = {"digits": (1, 8, 8), "gaussians25": (2,)}[recipe_name]
    generator = torch.Generator().manual_seed(0)
    model = in_noise_space(recipe.model_settings().build(shape, generator))
    with torch.no_grad():
        for weights in model.energy_net.parameters():
            if not weights.any():  # the layers that start at zero
                weights.normal_(0, 0.01, generator=generator)
    model.frozen().__enter__()
    return model.noise_log_density, model.noise.dim


def bare(target: LogDensity, position: Tensor) -> Tensor:
    """One gradient evaluation and nothing else."""
    leaf = position.detach().requires_grad_()
    (score,) = torch.autograd.grad(target(leaf).sum(), leaf)
    return score


def seconds(function: Callable[[], Any], times: int) -> float:
    started = time.process_time()
    for _ in range(times):
        function()
    return time.process_time() - started


def share(kernel: Kernel, target: LogDensity, position: Tensor, rounds: int) -> list[float]:
    """The kernel's own share of a step, by round."""
    generator = torch.Generator().manual_seed(0)
    state = kernel.init(position, target)
    evaluations = 0

    def counted(x: Tensor) -> Tensor:
        nonlocal evaluations
        evaluations += 1
        return target(x)

    def step(target: LogDensity = target) -> None:
        nonlocal state
        state, _ = kernel.step(state, target, generator)

    step(counted)
    rows = len(state.carried[0].flatten(0, 1)) if isinstance(kernel, Tempering) else len(position)
    at = position.repeat(rows // len(position), 1)
    one = seconds(step, 3) / 3
    times = max(1, round(0.05 / one))
    shares = []
    for _ in range(rounds):
        whole = seconds(step, times)
        without = seconds(lambda: bare(target, at), times * evaluations)
        whole += seconds(step, times)
        shares.append(1 - 2 * without / whole)
    return shares


def peak(name: str, steps: int) -> int:
    """The largest resident size, in KiB, of this process after a run."""
    target, generator = Banana(), torch.Generator().manual_seed(0)
    begin = target.sample(1000, generator)
    kernel = kernels(2)[name]
    sample_chains(target.log_prob, begin, kernel, steps=steps, generator=generator, keep_history=False)
    gc.collect()
    # Not getrusage's maximum, which a process inherits from the one that started it.
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def peak_of_another_process(name: str, steps: int) -> int:
    command = [sys.executable, __file__, "--peak", name, str(steps)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


TARGETS: dict[str, tuple[int, float]] = {
    # chains, and the largest share allowed
    "digits model": (256, 0.05),
    "25 Gaussians": (10_000, 0.20),
    "gaussians25 model": (10_000, 0.20),
    "small energy": (10_000, 0.20),
}


def small_energy() -> LogDensity:
    layers = [torch.nn.Linear(2, 64), torch.nn.SiLU(), torch.nn.Linear(64, 64), torch.nn.SiLU(), torch.nn.Linear(64, 1)]
    net = torch.nn.Sequential(*layers).requires_grad_(False)
    return lambda x: -net(x)[:, 0] - x.square().sum(dim=1) / 2


def make_target(name: str) -> tuple[LogDensity, int]:
    if name == "25 Gaussians":
        return GaussianGrid().log_prob, 2
    if name == "small energy":
        return small_energy(), 2
    return model_target(name.removesuffix(" model"))


def main() -> None:
    """Measures, writes results/kernel_cost.json, prints Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--only", nargs="+", help="targets whose names hold one of these words")
    parser.add_argument("--kernels", nargs="+", choices=list(KERNELS), default=list(KERNELS))
    parser.add_argument("--peak", nargs=2, metavar=("KERNEL", "STEPS"), help="only print the largest resident size")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.peak:
        print(peak(arguments.peak[0], int(arguments.peak[1])))
        return
    added = {"hardware": hardware(), "command": shlex.join(["python", *sys.argv]), "version": version()}
    rows: list[dict[str, Any]] = []
    print(
        "| target | kernel | its own share of a step, median (quartiles) | limit | |\n| --- | --- | --- | --- | --- |"
    )
    for name, (chains, limit) in TARGETS.items():
        if arguments.only and not any(word in name for word in arguments.only):
            continue
        target, dim = make_target(name)
        position = torch.randn(chains, dim, generator=torch.Generator().manual_seed(1))
        if name == "25 Gaussians":
            position = GaussianGrid().sample(chains, torch.Generator().manual_seed(1))
        for kernel in arguments.kernels:
            found = share(kernels(dim)[kernel], target, position, arguments.rounds)
            low, middle, high = statistics.quantiles(found, n=4)
            rows.append({"target": name, "kernel": kernel, "chains": chains, "share": middle, "quartiles": [low, high]})
            verdict = "" if middle < limit else "**above**"
            share_text = f"{middle:.1%} ({low:.1%} to {high:.1%})"
            print(f"| {name} | {kernel} | {share_text} | {limit:.0%} | {verdict} |", flush=True)
    print(f"\n| kernel | {FEW} steps, MiB | {MANY:,} steps, MiB |\n| --- | --- | --- |")
    for kernel in arguments.kernels:
        sizes = [peak_of_another_process(kernel, steps) / 1024 for steps in (FEW, MANY)]
        rows.append({"target": "banana", "kernel": kernel, "chains": 1000, "peak_mib": sizes, "steps": [FEW, MANY]})
        print(f"| {kernel} | {sizes[0]:.0f} | {sizes[1]:.0f} |", flush=True)
    lines = [json.dumps({**row, **added}) for row in rows]
    (ROOT / "results" / "kernel_cost.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()

"""What a user would take instead of a VAEBM: a small flow-matching U-Net, for the same wall time on the same machine.

    python benchmarks/flow_matching.py --data mnist --minutes 12
    python benchmarks/flow_matching.py --data mnist --minutes 12 --seed 1      # goes on where it was stopped

    x_t = (1 - t) eps + t x,   t ~ U(0, 1):      minimise |v(x_t, t) - (x - eps)|^2          (Lipman et al. 2023)
    sampling   dx/dt = v(x, t) from noise at t = 0 to t = 1, 20 steps of Heun's method

A U-Net of 1.6 million weights at 32 x 32, 16 x 16 and 8 x 8 (smaller images are padded, and cut out again), group
norms, swish, no attention; Adam 1e-3 down to 0 along a cosine over the given minutes, batches of 128, the average of
weights with decay 0.999, bfloat16 where the processor multiplies it. The clock counts training alone: a run that was
stopped gets no more time than another.

Measured with the recipes' features: FID-768 of 5,000 samples against 10,000 training images and, for sets with
labels, the recipe's own classifier on 10,000, as they come and with pixels beyond 0.8 set to the end of the range;
seconds to draw. The run lies in runs/flow_matching/DATA-MINUTESmin-SEED; results go to results/flow_matching.json, one
record for each measurement, data set, seed and showing.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
import time
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

from results import hardware, version
from vaebm import metrics
from vaebm.data import KINDS, DataSet
from vaebm.evaluation.feature_space import INCEPTION_SAMPLES, FeatureSpace
from vaebm.evaluation.held_out import HeldOut
from vaebm.evaluation.metric import Given, on_features
from vaebm.evaluation.settings import FeatureSettings, FeaturesName
from vaebm.metrics.measurement import Measurement
from vaebm.models import Model
from vaebm.nn.bfloat16 import has_bfloat16
from vaebm.progress import on_terminal

ROOT = Path(__file__).parent.parent
SIDE, WIDTH, GROUPS = 32, 56, 8
BATCH, RATE, DECAY = 128, 1e-3, 0.999
HEUN_STEPS, SNAP = 20, 0.8
SAMPLES, REFERENCES, SAMPLES_AT_ONCE = 10_000, 10_000, 250
SAVE_SECONDS = 60.0


class Block(nn.Module):
    """skip(x) + conv(swish(norm(conv(swish(norm(x))) + time)))."""

    def __init__(self, inputs: int, outputs: int, time_width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.GroupNorm(GROUPS, inputs), nn.GroupNorm(GROUPS, outputs)])
        self.first, self.second = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.time = nn.Linear(time_width, outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        y = self.first(functional.silu(self.norms[0](x))) + self.time(t)[:, :, None, None]
        return self.skip(x) + self.second(functional.silu(self.norms[1](y)))


class UNet(nn.Module):
    """The velocity v(x, t): (B, C, 32, 32) and (B,) to (B, C, 32, 32)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        w, time_width = WIDTH, 2 * WIDTH
        self.time = nn.Sequential(nn.Linear(w, time_width), nn.SiLU(), nn.Linear(time_width, time_width), nn.SiLU())
        self.stem = nn.Conv2d(channels, w, 3, padding=1)
        self.down = nn.ModuleList(
            [Block(w, w, time_width), Block(w, 2 * w, time_width), Block(2 * w, 2 * w, time_width)]
        )
        self.middle = Block(2 * w, 2 * w, time_width)
        self.up = nn.ModuleList(
            [Block(4 * w, 2 * w, time_width), Block(4 * w, 2 * w, time_width), Block(3 * w, w, time_width)]
        )
        self.norm, self.out = nn.GroupNorm(GROUPS, w), nn.Conv2d(w, channels, 3, padding=1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        frequencies = torch.exp(torch.linspace(0, math.log(1000), WIDTH // 2))
        angles = t[:, None] * frequencies
        t = self.time(torch.cat([angles.sin(), angles.cos()], dim=1))
        x = self.stem(x)
        kept = []
        for level, block in enumerate(self.down):
            x = block(functional.avg_pool2d(x, 2) if level else x, t)
            kept.append(x)
        x = self.middle(x, t)
        for level, block in enumerate(self.up):
            x = block(torch.cat([x, kept.pop()], dim=1), t)
            x = functional.interpolate(x, scale_factor=2) if level < 2 else x
        return self.out(functional.silu(self.norm(x)))


class Training:
    """The net, its average, its optimizer and its clock; all of it is in one file of safetensors."""

    def __init__(self, data: DataSet, seed: int, folder: Path) -> None:
        torch.manual_seed(seed)
        self.data, self.path = data, folder / "training.safetensors"
        self.net = UNet(data.shape[0])
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = {name: value.detach().clone() for name, value in self.net.named_parameters()}
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=RATE)
        self.generator = torch.Generator().manual_seed(seed)
        self.iterations, self.seconds = 0, 0.0
        self.padding = [(SIDE - side) // 2 for side in data.shape[:0:-1] for _ in range(2)]
        if self.path.exists():
            self.load()

    def autocast(self) -> torch.autocast:
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_bfloat16(torch.device("cpu")))

    def run(self, minutes: float) -> None:
        progress, saved = on_terminal(), self.seconds
        with progress.task("flow matching", math.ceil(60 * minutes), "seconds", math.floor(self.seconds)) as task:
            try:
                while self.seconds < 60 * minutes:
                    began, whole = time.perf_counter(), math.floor(self.seconds)
                    loss = self.step(self.seconds / (60 * minutes))
                    self.seconds += time.perf_counter() - began
                    self.iterations += 1
                    task.advance(math.floor(self.seconds) - whole, loss=loss)
                    if self.seconds - saved > SAVE_SECONDS:
                        self.save()
                        saved = self.seconds
            finally:
                self.save()

    def step(self, done: float) -> Tensor:
        rows = torch.randint(len(self.data.train), (BATCH,), generator=self.generator)
        x = functional.pad(self.data.train.batch(rows).x, self.padding, value=-1.0)
        eps = torch.randn(x.shape, generator=self.generator)
        t = torch.rand(BATCH, generator=self.generator)
        share = t[:, None, None, None]
        x_t = ((1 - share) * eps + share * x).contiguous(memory_format=torch.channels_last)
        with self.autocast():
            loss = (self.net(x_t, t).float() - (x - eps)).square().mean()
        for group in self.optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (self.iterations + 1) / 100) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            decay = min(DECAY, (1 + self.iterations) / (10 + self.iterations))
            for name, value in self.net.named_parameters():
                self.average[name].lerp_(value, 1 - decay)
        return loss.detach()

    def save(self) -> None:
        state = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        state |= {f"average.{name}": value for name, value in self.average.items()}
        for i, moments in self.optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{i}.{name}": value for name, value in moments.items()}
        state["generator"] = self.generator.get_state()
        state["clock"] = torch.tensor([self.iterations, self.seconds], dtype=torch.float64)
        unfinished = self.path.with_suffix(".unfinished")
        safetensors.torch.save_file({name: value.contiguous() for name, value in state.items()}, unfinished)
        unfinished.replace(self.path)

    def load(self) -> None:
        state = safetensors.torch.load_file(self.path)

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}

        self.net.load_state_dict(part("net."))
        self.average = part("average.")
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in part("optimizer.").items():
            i, _, moment = name.partition(".")
            moments.setdefault(int(i), {})[moment] = value
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": moments})
        self.generator.set_state(state["generator"])
        self.iterations, self.seconds = int(state["clock"][0]), float(state["clock"][1])

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """(n, *shape) in [-1, 1], with the averaged weights."""
        net = UNet(self.data.shape[0]).eval()
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        net.load_state_dict(self.average)
        generator = torch.Generator().manual_seed(0)
        found = []

        def velocity(x: Tensor, t: float) -> Tensor:
            with self.autocast():
                return net(x, torch.full((len(x),), t)).float()

        with on_terminal().task("samples", n, "images") as task:
            for some in torch.arange(n).split(SAMPLES_AT_ONCE):
                x = torch.randn(len(some), self.data.shape[0], SIDE, SIDE, generator=generator)
                x = x.contiguous(memory_format=torch.channels_last)
                for i in range(HEUN_STEPS):
                    here, there = i / HEUN_STEPS, (i + 1) / HEUN_STEPS
                    v = velocity(x, here)
                    x = x + (v + velocity(x + v / HEUN_STEPS, there)) / (2 * HEUN_STEPS)
                found.append(functional.pad(x, [-side for side in self.padding]).clamp(-1, 1))
                task.advance(len(some))
        return torch.cat(found)


def snapped(x: Tensor) -> Tensor:
    """Pixels beyond 0.8 set to the end of the range: a flow has no point masses there, though the data do."""
    return torch.where(x.abs() > SNAP, x.sign(), x)


def measure(data: DataSet, x: Tensor, precision: str) -> list[dict[str, Any]]:
    """Distances of the samples as they come, and snapped."""
    of_inception = min(len(x), INCEPTION_SAMPLES)
    settings: dict[FeaturesName, FeatureSettings] = {
        "inception-768": FeatureSettings(n=of_inception, reference_n=REFERENCES, precision=precision)
    }
    if data.class_names is not None:
        settings["classifier"] = FeatureSettings(n=len(x))
    held_out, device = HeldOut.of(data), torch.device("cpu")
    spaces = [
        FeatureSpace(name, chosen, len(x), held_out, lambda: classifier(data), device, on_terminal())
        for name, chosen in settings.items()
    ]
    return [
        m.with_subject("flow_matching").with_settings(show=show).to_json()
        for show, images in (("sample", x), ("snapped", snapped(x)))
        for chosen in spaces
        for m in on_space(data, chosen, images)
    ]


def on_space(data: DataSet, space: FeatureSpace, images: Tensor) -> list[Measurement]:
    """All that can be measured of samples that no model of ours made."""
    no_model = cast(Model, None)  # metrics on features look at samples alone
    given = Given("flow_matching", data, no_model, 0, [images[: space.n]], space)
    return [
        m.with_settings(**space.protocol(metric.balls), **space.features.settings)
        for metric in on_features(space)
        for m in metric.measure(given)
    ]


def classifier(data: DataSet) -> metrics.Classifier:
    """The recipe's own, by its fixed protocol: the same one as a run's."""
    assert data.class_names is not None
    return metrics.train_classifier(data.train, len(data.class_names))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", help="mnist, fashion_mnist, cifar10, ...: at most 32 pixels")
    parser.add_argument("--minutes", type=float, default=12.0, help="of training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, default=SAMPLES, help="samples to measure; by Inception, 5,000 of them")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32", help="of the Inception net")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "flow_matching.json")
    arguments = parser.parse_args()
    data = KINDS[arguments.data]().load()
    folder = ROOT / "runs" / "flow_matching" / f"{arguments.data}-{arguments.minutes:g}min-{arguments.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    training = Training(data, arguments.seed, folder)
    training.run(arguments.minutes)
    began = time.perf_counter()
    x = training.sample(arguments.n)
    drawing = time.perf_counter() - began
    added = {
        "recipe": f"flow_matching-{arguments.data}",
        "seed": arguments.seed,
        "seconds": training.seconds,
        "iterations": training.iterations,
        "weights": sum(value.numel() for value in training.average.values()),
        "seconds_per_thousand": 1000 * drawing / arguments.n,
        "hardware": hardware(),
        "command": shlex.join(["python", *sys.argv]),
        "version": version(),
    }
    records = json.loads(arguments.out.read_text()) if arguments.out.exists() else []
    same = ("recipe", "seed", "command")
    records = [record for record in records if any(record[name] != added[name] for name in same)]
    records += [{**record, **added} for record in measure(data, x, arguments.precision)]
    arguments.out.write_text("[\n" + ",\n".join(json.dumps(record) for record in records) + "\n]\n")
    for record in records:
        if all(record[name] == added[name] for name in same):
            print(
                f"{record['name']:18s} {record['settings']['features']:14s} {record['settings']['show']:8s}"
                f" {record['value']:.4f} ± {record['stderr']:.4f}"
            )
    print(f"{training.iterations:,} iterations, {added['seconds_per_thousand']:.1f} s for 1,000 images")


if __name__ == "__main__":
    main()

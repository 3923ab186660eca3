"""Where modes and recall go lost: what docs/studies/mode-collapse.md measures beside the tables of results/.

    OMP_NUM_THREADS=1 python benchmarks/mode_collapse.py gan --seeds 0 1 2      # a small GAN on StackedMNIST
    OMP_NUM_THREADS=1 python benchmarks/mode_collapse.py perturbed              # real photographs, made worse
    python benchmarks/mode_collapse.py                                          # prints the tables of what is there

gan        a generator and a discriminator of the size of `stacked_mnist-small`'s decoder and energy, the
           non-saturating loss (Goodfellow et al., 2014), with and without the penalty (gamma / 2) |grad D|^2 on data
           (Mescheder, Geiger & Nowozin, 2018); modes and the divergence of their shares as `vaebm evaluate` counts them
perturbed  test images of CIFAR-10 with blur, noise, or with classes or images left out, against as many others:
           what each does to distance, precision and recall where nothing is generated at all

Each finished cell is a line of results/mode_collapse.jsonl and is not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaebm import metrics
from vaebm.data import KINDS, DataSet
from vaebm.energy import ResidualEnergySettings
from vaebm.metrics import inception_layer
from vaebm.nn.initialise import initialise

TARGET = Path(__file__).parent.parent / "results" / "mode_collapse.jsonl"
Row = dict[str, Any]

LATENT, BATCH, RATE, ITERATIONS, SAMPLES = 64, 64, 2e-4, 6000, 26_000
GAMMAS = (0.0, 10.0)
IMAGES = 2000  # of each side, where photographs are compared


def generator_net(generator: torch.Generator) -> nn.Module:
    """(B, 64) to (B, 3, 28, 28) in [-1, 1]: about as many weights as the recipe's decoder."""
    layers = nn.Sequential(
        nn.Linear(LATENT, 128 * 7 * 7), nn.Unflatten(1, (128, 7, 7)), nn.BatchNorm2d(128), nn.ReLU(),
        nn.Upsample(scale_factor=2), nn.Conv2d(128, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
        nn.Upsample(scale_factor=2), nn.Conv2d(64, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 3, 3, padding=1), nn.Tanh(),
    )  # fmt: skip
    initialise(layers, generator)
    return layers


def gan(data: DataSet, classifier: metrics.StackedClassifier, gamma: float, seed: int) -> Row:
    """Trains one and counts the classes of its samples."""
    generator = torch.Generator().manual_seed(seed)
    fake = generator_net(generator)
    critic = ResidualEnergySettings(stem=32, widths=[32, 64, 128], halve=[0, 1]).build(data.shape, generator)
    betas = (0.5, 0.99)
    of_fake, of_critic = (torch.optim.Adam(net.parameters(), RATE, betas) for net in (fake, critic))
    started = time.perf_counter()

    def drawn(n: int) -> Tensor:
        samples: Tensor = fake(torch.randn(n, LATENT, generator=generator))
        return samples

    for _ in range(ITERATIONS):
        rows = torch.randint(len(data.train), (BATCH,), generator=generator)
        x = data.train.batch(rows).x.requires_grad_(gamma > 0)
        of_data = -critic(x, None)
        loss = functional.softplus(-of_data).mean() + functional.softplus(-critic(drawn(BATCH).detach(), None)).mean()
        if gamma:
            (slope,) = torch.autograd.grad(of_data.sum(), x, create_graph=True)
            loss = loss + gamma / 2 * slope.square().flatten(1).sum(1).mean()
        of_critic.zero_grad()
        loss.backward()
        of_critic.step()
        of_fake.zero_grad()
        functional.softplus(critic(drawn(BATCH), None)).mean().backward()
        of_fake.step()
    fake.eval()
    with torch.no_grad():
        classes = torch.cat([classifier.predict(drawn(1000)) for _ in range(SAMPLES // 1000)])
    assert data.train.labels is not None
    found = metrics.class_modes(classes, data.train.labels, classifier.classes)
    weights = [sum(p.numel() for p in net.parameters()) for net in (fake, critic)]
    measured = {name: round(one.value, 4) for name, one in found.items()}
    seconds = round(time.perf_counter() - started)
    return {"cell": "gan", "gamma": gamma, "seed": seed, **measured, "weights": weights, "seconds": seconds}


def blurred(x: Tensor, std: float) -> Tensor:
    """(B, C, H, W) convolved with a Gaussian of this many pixels."""
    reach = max(1, round(3 * std))
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / std).square())
    kernel = (taps / taps.sum()).repeat(x.shape[1], 1, 1, 1)
    padded = functional.pad(x, (reach,) * 4, mode="reflect")
    across = functional.conv2d(padded, kernel, groups=x.shape[1])
    return functional.conv2d(across, kernel.transpose(2, 3), groups=x.shape[1])


def perturbations(data: DataSet) -> Iterator[tuple[str, Tensor]]:
    """Names, and images beside as many untouched ones."""
    generator = torch.Generator().manual_seed(0)
    test = data.test
    x = test.batch(torch.arange(IMAGES)).x
    yield "nothing", x
    for std in (0.5, 0.75, 1.0, 1.5):
        yield f"blur of {std} pixels", blurred(x, std)
    for std in (0.05, 0.13):
        yield f"noise of {std}", (x + std * torch.randn(x.shape, generator=generator)).clamp(-1, 1)
    assert test.labels is not None
    half = (test.labels < 5).nonzero()[:, 0]
    yield "five of ten classes", test.batch(half[:IMAGES]).x
    yield "a tenth of the images, ten times", x[: IMAGES // 10].repeat(10, 1, 1, 1)


def perturbed(done: list[Row]) -> Iterator[Row]:
    """Distance, precision and recall of what is done to real photographs."""
    data = KINDS["cifar10"].model_validate({}).load()
    features = inception_layer(768, precision="bfloat16")
    reference = features(data.test.batch(torch.arange(len(data.test) - IMAGES, len(data.test))).x)
    for name, images in perturbations(data):
        if any(row.get("what") == name for row in done):
            continue
        rows = features(images)
        found = metrics.precision_recall(rows, reference)
        distance = metrics.frechet_distance(rows, reference)
        of = {each: round(one.value, 4) for each, one in found.items()}
        yield {"cell": "perturbed", "what": name, "frechet_distance": round(distance.value, 4), **of}


def gans(done: list[Row], seeds: list[int]) -> Iterator[Row]:
    """The cells that are missing."""
    missing = [
        (gamma, seed)
        for seed in seeds
        for gamma in GAMMAS
        if not any((row.get("gamma"), row.get("seed")) == (gamma, seed) for row in done)
    ]
    if missing:
        data = KINDS["stacked_mnist"].model_validate({"size": 28, "test_size": SAMPLES}).load()
        classifier = metrics.train_stacked_classifier(data.train)
        for gamma, seed in missing:
            yield gan(data, classifier, gamma, seed)


def tables(rows: list[Row]) -> str:
    """What is there."""
    by_cell = {cell: [row for row in rows if row["cell"] == cell] for cell in ("gan", "perturbed")}
    lines = ["| GAN | modes of 1,000 | KL |", "| --- | --- | --- |"]
    lines += [
        f"| gamma {row['gamma']:g}, seed {row['seed']} | {row['modes_covered']:.0f} | {row['mode_kl']:.3f} |"
        for row in by_cell["gan"]
    ]
    lines += ["", "| real photographs | distance | precision | recall |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {row['what']} | {row['frechet_distance']:.3f} | {row['precision']:.3f} | {row['recall']:.3f} |"
        for row in by_cell["perturbed"]
    ]
    return "\n".join(lines)


def main() -> None:
    """Runs what is missing, prints every line and then the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cell", nargs="?", choices=["gan", "perturbed"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments = parser.parse_args()
    done = [json.loads(line) for line in TARGET.read_text().splitlines()] if TARGET.exists() else []
    wanted: Iterator[Row] = iter(())
    if arguments.cell is not None:
        wanted = gans(done, arguments.seeds) if arguments.cell == "gan" else perturbed(list(done))
    for row in wanted:
        done.append(row)
        with TARGET.open("a") as file:
            file.write(json.dumps(row) + "\n")
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()
    sys.stdout.write(tables(done) + "\n")


if __name__ == "__main__":
    main()

"""An energy for a VAE of plain torch, on MNIST, beside the built-in VAE's: python benchmarks/external_vae.py OUT.

The VAE is what a tutorial trains: strided convolutions, a sigmoid, binary cross-entropy. Its likelihood is fitted, and
the energy of `mnist-small` is trained on it with that recipe's own settings. What counts is how far the energy goes
from the mixture fitted to the same VAE's codes, in proportion, beside the same proportion of the built-in VAE in
results/mnist-small.json. The run resumes; measurements go to results/external_vae.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

import vaebm
from vaebm.data import KINDS
from vaebm.files import write_atomically
from vaebm.vae.external import load_weights

RESULTS = Path(__file__).parent.parent / "results"
LATENT, ITERATIONS, BATCH = 24, 6000, 128
MEASURED = [
    "evaluation.shows=[sample, mean, scaled]",
    "evaluation.features={inception-768: {n: 2000, reference_n: 10000, precision: bfloat16}}",
]


def plain_vae() -> tuple[nn.Module, nn.Module]:
    """Encoder to (mean, log variance) and decoder to an image in [0, 1]."""
    encoder = nn.Sequential(
        nn.Conv2d(1, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 4, 2, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(64 * 7 * 7, 256), nn.ReLU(), nn.Linear(256, 2 * LATENT),
    )  # fmt: skip
    decoder = nn.Sequential(
        nn.Linear(LATENT, 256), nn.ReLU(), nn.Linear(256, 64 * 7 * 7), nn.ReLU(), nn.Unflatten(1, (64, 7, 7)),
        nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(32, 1, 4, 2, 1), nn.Sigmoid(),
    )  # fmt: skip
    return encoder, decoder


def train(encoder: nn.Module, decoder: nn.Module, images: Tensor) -> None:
    """The negative ELBO with binary cross-entropy, by Adam."""
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 1e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, ITERATIONS)
    for iteration in range(ITERATIONS):
        x = images[torch.randint(len(images), (BATCH,))] / 255.0
        mean, log_variance = encoder(x).chunk(2, dim=1)
        z = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum() / BATCH
        loss = functional.binary_cross_entropy(decoder(z), x, reduction="sum") / BATCH + kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if iteration % 500 == 0:
            print(f"VAE: iteration {iteration}, {float(loss):.1f} nats", flush=True)


def ratio(rows: list[dict[str, object]], features: str, show: str) -> tuple[float, float, float]:
    """Distances of mixture and VAEBM, and their quotient."""
    value = {
        str(row["subject"]): float(row["value"])  # type: ignore[arg-type]
        for row in rows
        if row["name"] == "frechet_distance"
        and row["settings"].get("features") == features  # type: ignore[attr-defined]
        and row["settings"].get("show") == show  # type: ignore[attr-defined]
    }
    return value["vae_mixture"], value["vaebm"], value["vaebm"] / value["vae_mixture"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    torch.manual_seed(0)
    encoder, decoder = plain_vae()
    weights = out.with_name(f"{out.name}-vae.pt.safetensors")
    both = nn.ModuleList([encoder, decoder])
    started = time.perf_counter()
    if weights.is_file():
        load_weights(both, weights)
    else:
        images = KINDS["mnist"].model_validate({}).load().train
        train(encoder, decoder, images.values[torch.arange(len(images))])
        from safetensors.torch import save_file

        out.parent.mkdir(parents=True, exist_ok=True)
        save_file(both.state_dict(), weights)
    vae = vaebm.ExternalVAE(encoder, decoder, (1, 28, 28), (LATENT,), data_range=(0.0, 1.0))
    run = vaebm.train_energy(vae, "mnist", out, recipe="mnist-small", vae_stage={"iterations": 1000})
    seconds = time.perf_counter() - started
    found = vaebm.evaluate(run, only=["frechet_distance", "energy_shift"], overrides=MEASURED)
    rows = [measurement.to_json() for measurement in found if measurement.name in ("frechet_distance", "energy_shift")]
    hardware = (
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, {os.cpu_count()} cores"
    )
    command, version = f"python benchmarks/external_vae.py {out}", vaebm.__version__
    more = {"recipe": "mnist-small", "seed": 0, "seconds": seconds, "hardware": hardware, "command": command}
    records = [{**row, **more, "version": version} for row in rows]
    write_atomically(RESULTS / "external_vae.json", (json.dumps(records, indent=1) + "\n").encode())
    builtin = [row for row in json.loads((RESULTS / "mnist-small.json").read_text()) if row["seed"] == 0]
    for show in ("sample", "scaled"):
        for features in ("classifier", "inception-768"):
            print(
                f"{features}, {show}: mixture {{:.4f}}, VAEBM {{:.4f}}, {{:.2f}} times".format(
                    *ratio(rows, features, show)
                )
            )
            print("   built-in: mixture {:.4f}, VAEBM {:.4f}, {:.2f} times".format(*ratio(builtin, features, show)))


if __name__ == "__main__":
    main()

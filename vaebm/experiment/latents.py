"""Latents in pictures: what the codes of a model hold, and what its energy makes of them.

Every sheet has a row of what the VAE alone shows, p(x | z)'s mean, beside a row of what the model samples at the same
codes (models/conditional.py):

    reconstruct   of each input: z the encoder's mean;  z ~ h(z | x) where the energy reads z, then x ~ h(x | z)
    interpolate   from each input to the next: straight lines between their codes;  x ~ h(x | z) along the same codes
    walk          from each input: positions of a chain on h, which needs no second input
    traverse      from one input: a latent takes values from -reach to reach;  x ~ h given that value, all else free

    FILE.png      the sheet, one black pixel between images        FILE.gif   its columns one after the other
    FILE.npz      `images` (rows, columns, height, width, channels) uint8, or `points` (rows, columns, dim) float32,
                  and `rows`, what each row shows
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vaebm.data import IMAGES, modality_of
from vaebm.errors import InputError
from vaebm.experiment.sample import grid
from vaebm.files import write_atomically, write_npz
from vaebm.models import NoiseSpaceModel
from vaebm.models.conditional import check_latent, sample_data_given_codes, sample_posterior, sample_with_held_latent

DATA, OF_VAE, OF_MODEL = "data", "VAE", "model"
MILLISECONDS = 120  # of a frame of a film


class Sheet(NamedTuple):
    """Values (rows, columns, *data_shape) in the model's range, and what each row shows."""

    values: Tensor
    rows: list[str]


def reconstruct(model: NoiseSpaceModel, x: Tensor, generator: torch.Generator) -> Sheet:
    """x (n, *data_shape): three rows of n."""
    z = model.encode(x)
    refined = sample_posterior(model, x, generator) if model.energy_net.reads_z else z
    values = [x, _mean(model, z), _sample(model, sample_data_given_codes(model, refined, generator), generator)]
    return Sheet(torch.stack(values), [DATA, OF_VAE, OF_MODEL])


def interpolate(model: NoiseSpaceModel, x: Tensor, columns: int, generator: torch.Generator) -> Sheet:
    """x (n, *data_shape), n at least 2: two rows of `columns` for each pair of neighbours, both ends included.

    Raises:
        InputError: there is no pair, or no column between its ends.
    """
    if len(x) < 2 or columns < 3:
        raise InputError(f"{len(x)} inputs and {columns} columns: give at least 2 inputs and 3 columns")
    z = model.encode(x)
    share = torch.linspace(0.0, 1.0, columns, dtype=z.dtype, device=z.device)[:, None]
    values, rows = [], []
    for i, (first, second) in enumerate(pairwise(z)):
        along = torch.lerp(first, second, share)
        eps = sample_data_given_codes(model, along, generator)
        values += [_mean(model, along), _sample(model, eps, generator)]
        rows += [f"{OF_VAE}, {i} to {i + 1}", f"{OF_MODEL}, {i} to {i + 1}"]
    return Sheet(torch.stack(values), rows)


def walk(model: NoiseSpaceModel, x: Tensor, columns: int, generator: torch.Generator) -> Sheet:
    """x (n, *data_shape): a row of each, `columns` positions of a chain that begins at its code.

    The recipe's number of steps lies between two columns, so that a column is about a new sample of h.
    """
    z = model.encode(x)
    eps = sample_data_given_codes(model, z, generator)
    values = [_sample(model, eps, generator)]
    for _ in range(columns - 1):
        eps = model.chains(eps, generator).position
        values.append(_sample(model, eps, generator))
    return Sheet(torch.stack(values, 1), [f"{OF_MODEL}, from {i}" for i in range(len(x))])


def latents_by_information(model: NoiseSpaceModel, x: Tensor, generator: torch.Generator) -> list[tuple[int, float]]:
    """Latents among the codes with KL(q(z_i | x) || N(0, 1)), its mean over x in nats, the greatest first."""
    with torch.no_grad(), model.autocast():
        posterior = model.vae.infer(x, generator).posterior
    kl = 0.5 * (posterior.mean.square() + posterior.scale.square() - 1) - posterior.log_scale
    mean = kl.mean(0)
    return [(int(i), float(mean[i])) for i in mean.argsort(descending=True)]


def traverse(
    model: NoiseSpaceModel,
    x: Tensor,
    latents: list[tuple[int, float]],
    columns: int,
    reach: float,
    generator: torch.Generator,
) -> Sheet:
    """x (1, *data_shape): two rows of `columns` for each latent, from -reach to reach.

    Args:
        model: any.
        x: the input whose code is varied.
        latents: their numbers, with the information that the rows tell.
        columns: values of a latent, at least 2.
        reach: the greatest, in standard deviations of the prior.
        generator: on the model's device.

    Raises:
        InputError: fewer than 2 columns, a reach that is not positive, or a latent that cannot be held.
    """
    if columns < 2 or not 0 < reach < math.inf:
        raise InputError(f"{columns} columns up to {reach}: give at least 2 columns and a positive reach")
    for latent, _ in latents:
        check_latent(model, latent)
    with torch.no_grad():
        noise = model.vae.latent_noise(model.encode(x))
    steps = torch.linspace(-reach, reach, columns, dtype=noise.dtype, device=noise.device)
    values, rows = [], []
    for latent, information in latents:
        varied = noise.repeat(columns, 1)
        varied[:, latent] = steps
        with torch.no_grad():
            z = model.vae.latent(varied)
        eps = model.noise.with_latent(model.noise.standard(columns, generator, varied), varied)
        held = sample_with_held_latent(model, eps, latent, generator)
        values += [_mean(model, z), _sample(model, held, generator)]
        rows += [f"{name}, latent {latent} ({information:.2f} nats)" for name in (OF_VAE, OF_MODEL)]
    return Sheet(torch.stack(values), rows)


@torch.no_grad()
def _mean(model: NoiseSpaceModel, z: Tensor) -> Tensor:
    return model.likelihood(z).center


def _sample(model: NoiseSpaceModel, eps: Tensor, generator: torch.Generator) -> Tensor:
    return model.render(eps, model.show_of(model.subjects[0]), generator)


def check_file(out: Path, data_shape: Sequence[int]) -> None:
    """InputError: no file that holds a sheet of such data."""
    if out.suffix.lower() not in (".png", ".gif", ".npz") or out.is_dir():
        raise InputError(f"{out}: give FILE.png, FILE.gif or FILE.npz")
    if out.suffix.lower() != ".npz":
        IMAGES.require(data_shape, f"{out.name}", "FILE.npz")


def write_sheet(sheet: Sheet, out: Path) -> Path:
    """Into FILE.png, FILE.gif or FILE.npz.

    Raises:
        InputError: another ending, or points as a picture.
    """
    rows, columns, *shape = sheet.values.shape
    check_file(out, shape)
    ending = out.suffix.lower()
    ((name, flat),) = modality_of(shape).arrays(sheet.values.flatten(0, 1).cpu()).items()
    array = flat.reshape(rows, columns, *flat.shape[1:])
    out.parent.mkdir(parents=True, exist_ok=True)
    if ending == ".npz":
        arrays = {name: array, "rows": np.array(sheet.rows)}
        write_npz(out, arrays)
    elif ending == ".png":
        write_atomically(out, lambda file: _picture(grid(flat, columns)).save(file, format="png"))
    else:
        first, *more = [_picture(grid(array[:, i], 1)) for i in range(columns)]
        film = {"save_all": True, "append_images": more, "duration": MILLISECONDS, "loop": 0}
        write_atomically(out, lambda file: first.save(file, format="gif", **film))
    return out


def _picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)

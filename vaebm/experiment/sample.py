"""Samples into files, with pixel values that survive.

    FILE.npz     `images` (n, height, width, channels) uint8, or `points` (n, dim) float32
    FILE.png     one grid; every image with the same fixed range, nothing is stretched
    FOLDER       00000.png, 00001.png, ...

A PNG holds exactly the uint8 values of the npz. The same seed gives the same samples, stopped in between or not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vaebm.data import Modality
from vaebm.errors import InputError
from vaebm.experiment.run_directory import Run
from vaebm.experiment.unfinished import Unfinished, request_of
from vaebm.models import Model, Show
from vaebm.progress import Progress, silent

MIN_ACCEPTANCE = 0.1  # below it the steps of an unadjusted kernel do not follow the density


def draw_samples(
    model: Model,
    n: int,
    subject: str,
    show: Show | None,
    seed: int,
    progress: Progress,
    batches: Unfinished | None = None,
) -> Tensor:
    """n samples of a subject in the model's range, (n, *data_shape); the show is the model's unless given.

    Batches of chains are kept in `batches` as they end, and those that it holds already are not run again.
    """
    generator = torch.Generator(model.device).manual_seed(seed)
    more = {} if batches is None else {"batches": batches}
    draws = model.draw(n, generator, subject, progress, **more)
    rendered: Tensor = model.render(draws, model.show_of(subject, show), generator)
    return rendered


def write_samples(
    run: Run,
    n: int,
    out: Path,
    *,
    subject: str = "vaebm",
    show: Show | None = None,
    seed: int = 0,
    overrides: Sequence[str] = (),
    device: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Exactly n samples into `out`; returns where they are.

    After Ctrl-C nothing is at `out`, but what was finished is kept beside it: the same call goes on.

    Raises:
        InputError: `out` cannot be made, is a folder with other files in it, or does not suit the data.
    """
    if n < 1:
        raise InputError(f"n={n}: ask for at least one sample")
    modality = run.data().modality
    _check_target(out, modality)
    model = run.model(device)
    model.update_settings(run.with_overrides(overrides).model_settings())
    unfinished = Unfinished(out, request_of(run, model, n, seed))
    x = draw_samples(
        model, n, subject=subject, show=show, seed=seed, progress=progress or silent(), batches=unfinished
    ).cpu()
    arrays = modality.arrays(x)
    if out.suffix == ".npz":
        _write_npz(out, **arrays)
    else:
        write_images(arrays["images"], out)
    unfinished.discard()
    return out


def write_images(images: np.ndarray, out: Path) -> None:
    """Images (n, height, width, channels) uint8 into a grid, or a folder."""
    from PIL import Image

    def picture(pixels: np.ndarray) -> Image.Image:
        return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)

    if out.suffix == ".png":
        draft = out.with_name(f".{out.name}")
        picture(grid(images)).save(draft, format="png")
        draft.replace(out)
    else:
        out.mkdir(parents=True, exist_ok=True)
        digits = max(5, len(str(len(images) - 1)))
        for i, pixels in enumerate(images):
            picture(pixels).save(out / f"{i:0{digits}d}.png")


def grid(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Images (n, h, w, c) side by side, one black pixel between them: (rows (h + 1) - 1, columns (w + 1) - 1, c)."""
    n, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    sheet = np.zeros((rows * (height + 1) - 1, columns * (width + 1) - 1, channels), images.dtype)
    for i, image in enumerate(images):
        top, left = i // columns * (height + 1), i % columns * (width + 1)
        sheet[top : top + height, left : left + width] = image
    return sheet


def _write_npz(out: Path, **arrays: np.ndarray) -> None:
    draft = out.with_name(f".{out.name}")
    with draft.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    draft.replace(out)


def _check_target(out: Path, modality: Modality) -> None:
    if not modality.pictured and out.suffix != ".npz":
        raise InputError(f"{out}: {modality.noun}s go into an .npz file, as in --out {out.with_suffix('.npz')}")
    if out.suffix in (".npz", ".png"):
        if out.is_dir():
            raise InputError(f"{out} is a directory: give a file name, or a folder name without {out.suffix}")
        out.parent.mkdir(parents=True, exist_ok=True)
    elif out.suffix:
        raise InputError(f"{out}: samples are written as .npz, .png or into a folder (a name without an ending)")
    elif out.is_file():
        raise InputError(f"{out} is a file: give the name of a folder, or one that ends in .npz or .png")
    elif out.is_dir() and any(out.iterdir()):
        raise InputError(
            f"folder {out} is not empty: give a new or empty one, so that it holds exactly the samples asked for"
        )

"""Samples into files, with pixel values that survive.

    FILE.npz     `images` (n, height, width, channels) uint8, or `points` (n, dim) float32
    FILE.png     one grid; every image with the same fixed range, nothing is stretched
    FOLDER       00000.png, 00001.png, ...

A PNG holds exactly the uint8 values of the npz. The same seed gives the same samples, stopped in between or not.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vaebm.data import Modality, modality_of
from vaebm.errors import InputError, check_choice
from vaebm.experiment.run_directory import Run
from vaebm.experiment.unfinished import Unfinished, request_of
from vaebm.models import SHOWS, Model, Show
from vaebm.models.inputs import whole_number
from vaebm.progress import Progress


def draw_samples(
    model: Model,
    n: int,
    subject: str | None,
    show: Show | None,
    seed: int,
    progress: Progress | None,
    batches: Unfinished | None = None,
) -> Tensor:
    """n samples of a subject in the model's range, (n, *data_shape); subject and show are the model's unless given.

    Batches of chains are kept in `batches` as they end, and those that it holds already are not run again.

    Raises:
        InputError: there is no such subject or show.
    """
    subject = model.check_subject(subject)
    if show is not None:
        check_choice("show", show, SHOWS)
    generator = torch.Generator(model.device).manual_seed(seed)
    draws = model.draw(n, generator, subject, progress, batches)
    rendered: Tensor = model.render(draws, model.show_of(subject, show), generator)
    return rendered


def write_samples(
    run: Run | str | Path,
    n: int,
    out: str | Path,
    *,
    subject: str | None = None,
    show: Show | None = None,
    seed: int = 0,
    gradients: int | None = None,
    overrides: Sequence[str] = (),
    device: str | torch.device | None = None,
    progress: Progress | None = None,
) -> Path:
    """Exactly n samples into `out`; returns where they are.

    After Ctrl-C nothing is at `out`, but what was finished is kept beside it: the same call goes on.

    Args:
        run: a run, or its directory.
        n: how many.
        out: FILE.npz, FILE.png, or a folder.
        subject: whose samples; the model's own unless given.
        show: what of a sample is shown; what the recipe says unless given.
        seed: the same seed gives the same samples.
        gradients: bound on what a sample costs, in gradients of the model's density, warm-up included.
        overrides: `key=value` of what sampling may change.
        device: where the model is.
        progress: told of what takes long, and of what it will cost.

    Raises:
        InputError: `out` cannot be made, is a folder with other files in it, or does not suit the data; there is no
            such run, subject or show.
    """
    n, seed = whole_number("n", n, low=1), whole_number("seed", seed)
    run, out = Run.open(run), Path(out).expanduser()
    if gradients is not None:
        overrides = [*overrides, f"sampler.gradients={whole_number('gradients', gradients, low=2)}"]
    settings = run.with_overrides(overrides).model_settings()
    model = run.model(device)
    modality = modality_of(model.data_shape)
    _check_target(out, modality)
    model.update_settings(settings)
    unfinished = Unfinished(out, request_of(run, model, n, seed))
    arrays = modality.arrays(draw_samples(model, n, subject, show, seed, progress, unfinished).cpu())
    if _ending(out) == ".npz":
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

    if _ending(out) == ".png":
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


def _ending(out: Path) -> str:
    return out.suffix.lower()


def _check_target(out: Path, modality: Modality) -> None:
    if not modality.pictured and _ending(out) != ".npz":
        raise InputError(f"{out}: {modality.noun}s go into an .npz file, as in --out {out.with_suffix('.npz')}")
    if _ending(out) in (".npz", ".png"):
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

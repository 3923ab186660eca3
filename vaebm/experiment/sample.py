"""Samples into files, with pixel values that survive.

    FILE.npz     `images` (n, height, width, channels) uint8, or `points` (n, dim) float32
    FILE.png     one grid; every image with the same fixed range, nothing is stretched
    FOLDER       00000.png, 00001.png, ...; there when all of them are

Rows of a table come as a table of the same columns, into FILE.csv, FILE.parquet or FILE.npz (data/files/table.py).

A PNG holds exactly the uint8 values of the npz. The same seed gives the same samples, stopped in between or not:
batches of chains that have ended are kept beside the file that they are for,

    .NAME.unfinished/00000.safetensors    noise `eps` (rows, dim) of a batch, and the generator's state after it

and a sampling that was stopped goes on from there. Batches of another request (model, settings, number, seed, device,
version) are thrown away.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from vaebm.data import Modality, modality_of
from vaebm.data.files.table import check_parquet, write_table
from vaebm.errors import InputError, check_choice
from vaebm.experiment.run_directory import Run
from vaebm.files import locked, naming, sha256, user_path, write_atomically, write_npz
from vaebm.models import SHOWS, Model, Show
from vaebm.models.inputs import whole_number
from vaebm.progress import Progress
from vaebm.version import __version__


class Unfinished:
    """Batches on their way into `out`; `request` is what they depend on, as JSON can say it."""

    def __init__(self, out: Path, request: dict[str, Any]) -> None:
        self.folder = out.with_name(f".{out.name}.unfinished")
        self.request = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()

    def load(self, generator: torch.Generator) -> list[Tensor]:
        """Batches that are done, in order; the generator is put where they left it."""
        batches: list[Tensor] = []
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                with safe_open(path, framework="pt") as file:
                    if file.metadata() != {"request": self.request}:
                        break
                    batches.append(file.get_tensor("eps").to(generator.device))
                    state = file.get_tensor("generator")
            except (OSError, SafetensorError):
                break
        if batches:
            generator.set_state(state)
        else:
            self.discard()
        return batches

    def keep(self, index: int, eps: Tensor, generator: torch.Generator) -> None:
        """Another batch, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {"eps": eps.cpu().contiguous(), "generator": generator.get_state()}
        write_atomically(self.folder / f"{index:05d}.safetensors", save(tensors, {"request": self.request}))

    def discard(self) -> None:
        """All of them: they are in `out` now, or of no use."""
        shutil.rmtree(self.folder, ignore_errors=True)


def request_of(run: Run, model: Model, n: int, seed: int) -> dict[str, Any]:
    """What the noise of n samples depends on."""
    return {
        "version": __version__,
        "model_sha256": sha256(run.path / "model" / "model.safetensors"),
        "settings": model.settings.model_dump(mode="json"),
        "device": model.device.type,
        "n": n,
        "seed": seed,
    }


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
        out: FILE.npz, FILE.png, or a folder; of a table FILE.csv, FILE.parquet or FILE.npz.
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
    run, out = Run.open(run), user_path(out)
    if gradients is not None:
        overrides = [*overrides, f"sampler.gradients={whole_number('gradients', gradients, low=2)}"]
    settings = run.with_overrides(overrides).model_settings()
    model = run.model(device)
    modality = modality_of(model.data_shape)
    _check_target(out, modality)
    model.update_settings(settings)
    with locked(out.with_name(f".{out.name}.lock"), out):
        unfinished = Unfinished(out, request_of(run, model, n, seed))
        x = draw_samples(model, n, subject, show, seed, progress, unfinished).cpu()
        if model.columns is not None:
            write_table(out, model.columns.decode(x.numpy()))
        elif out.suffix.lower() == ".npz":
            write_npz(out, modality.arrays(x))
        else:
            write_images(modality.arrays(x)["images"], out)
        unfinished.discard()
    return out


def write_images(images: np.ndarray, out: Path) -> None:
    """Images (n, height, width, channels) uint8 into a grid, or a folder."""
    from PIL import Image

    def picture(pixels: np.ndarray) -> Image.Image:
        return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)

    if out.suffix.lower() == ".png":
        write_atomically(out, lambda file: picture(grid(images)).save(file, format="png"))
    else:
        out = out.resolve()
        draft = out.with_name(f".{out.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        digits = max(5, len(str(len(images) - 1)))
        with naming(out):
            try:
                draft.mkdir(parents=True)
                for i, pixels in enumerate(images):
                    picture(pixels).save(draft / f"{i:0{digits}d}.png")
                draft.replace(out)  # which is new, or an empty folder
            except BaseException:
                shutil.rmtree(draft, ignore_errors=True)
                raise


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


def _check_target(out: Path, modality: Modality) -> None:
    ending = out.suffix.lower()
    if not modality.pictured and ending not in modality.endings:
        endings, first = " or ".join(modality.endings), out.with_suffix(modality.endings[0])
        raise InputError(f"{out}: {modality.noun}s go into a file that ends in {endings}, as in --out {first}")
    if ending == ".parquet":
        check_parquet()
    if ending in modality.endings:
        if out.is_dir():
            raise InputError(f"{out} is a directory: give a file name, or a folder name without {out.suffix}")
    elif out.suffix:
        raise InputError(f"{out}: samples are written as .npz, .png or into a folder (a name without an ending)")
    elif out.is_file():
        raise InputError(f"{out} is a file: give the name of a folder, or one that ends in .npz or .png")
    elif out.is_dir() and any(out.iterdir()):
        raise InputError(
            f"folder {out} is not empty: give a new or empty one, so that it holds exactly the samples asked for"
        )
    out.parent.mkdir(parents=True, exist_ok=True)

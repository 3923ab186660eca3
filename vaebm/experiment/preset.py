"""A preset for a folder of images: what the pictures themselves decide.

    likelihood    censored where at least SATURATED of the pixels are exactly black or white, else Gaussian; per pixel
    size          as the images are, up to 64 x 64 (data/sets/folder.py)

All else is the recipe `folder`; an override always has the last word.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vaebm.data import SATURATED, DataSet, name_of
from vaebm.experiment.recipe import Recipe, load_recipe
from vaebm.progress import Progress


def folder_recipe(folder: Path, overrides: Sequence[str], progress: Progress) -> tuple[Recipe, DataSet]:
    """The recipe for a folder, and its data, read once.

    Raises:
        InputError: the folder's images cannot be used, or an override is wrong.
    """
    base = [f"data.root={str(folder.resolve())!r}", f"name={name_of(folder)!r}"]
    data = load_recipe("folder", [*base, *overrides]).data.load(progress)
    kind = "censored" if data.saturated_fraction >= SATURATED else "gaussian"
    recipe = load_recipe("folder", [*base, f"vae.likelihood={{kind: {kind}, scale: pixel}}", *overrides])
    progress.say(
        f"Preset `folder`: {data.saturated_fraction:.0%} of the pixels are exactly black or white, so the decoder is"
        f" {recipe.vae.likelihood.kind}; {' x '.join(map(str, data.shape[1:]))} pixels,"
        f" vae.kind={recipe.vae.kind}."
    )
    return recipe, data

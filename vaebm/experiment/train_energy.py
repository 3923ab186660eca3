"""An energy for a VAE trained elsewhere: the stages of a recipe that come after the VAE's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vaebm.data import KINDS, DataSet, modality_of
from vaebm.data.sets.given import given_data
from vaebm.errors import InputError
from vaebm.experiment.catalogue import Tree, merge, overrides_tree, read_recipe
from vaebm.experiment.recipe import validate
from vaebm.experiment.run_directory import Run
from vaebm.experiment.train import train_recipe
from vaebm.files import user_path
from vaebm.progress import Progress, silent
from vaebm.training.engine import fastest_device
from vaebm.vae import ExternalVAE

FIT: Tree = {"iterations": 500, "batch_size": 96, "learning_rate": 2e-3, "warmup_iterations": 20, "ema_decay": 0.99}
MLP_ENERGY: Tree = {"kind": "mlp", "hidden": [256, 256, 256], "fourier_features": 64}  # for points


def train_energy(
    vae: ExternalVAE,
    data: object,
    out: str | Path,
    *,
    held_out: object = None,
    recipe: str = "folder",
    overrides: Sequence[str] = (),
    device: str | None = None,
    progress: Progress | None = None,
) -> Run:
    """Fits the VAE's likelihood and a mixture of its codes, then trains the energy; an existing run is resumed.

    Args:
        vae: encoder and decoder, as `ExternalVAE` takes them; its likelihood alone changes, and it moves to the device.
        data: an array or tensor of images or points, a folder or archive of images, or the name of a data set.
        out: the run's directory.
        held_out: held-out values beside an array; one in ten of the array unless given.
        recipe: whose energy, sampler and evaluation to take.
        overrides: `key=value`, by path in the recipe.
        device: as for `train`.

    Raises:
        InputError: wrong input; nothing was changed.
        Diverged: given up; the last good model is saved in the run.
        Preempted, Interrupted: a signal came; all is saved.
    """
    if not isinstance(vae, ExternalVAE):
        raise InputError(
            f"vae is a {type(vae).__name__}: wrap its encoder and decoder, as in vaebm.ExternalVAE(encoder, decoder,"
            " data_shape=(1, 28, 28), latent_shape=(16,))"
        )
    progress = progress or silent()
    name, tree = read_recipe(recipe)
    described, read = _data(data, held_out)
    points = {"energy": {"image": MLP_ENERGY}} if modality_of(vae.data_shape).name == "points" else {}
    as_given = {**vae.settings.model_dump(mode="json"), "sha256": vae.sha256()}
    own: Tree = {"name": name, "data": described, "vae": as_given, "vae_stage": FIT}
    tree = merge({**tree, **own}, points)
    chosen = validate(merge(tree, overrides_tree(overrides)), recipe)
    out = user_path(out)
    chosen = Run.recipe_at(out, chosen).for_device(fastest_device(device))
    data_set = read or chosen.data.load(progress)
    if data_set.shape != vae.data_shape:
        raise InputError(f"the data are {data_set.shape}, but the VAE takes {vae.data_shape}: pass data of its shape")
    return train_recipe(out, chosen, data_set, device, progress, parts={"vae": vae})


def _data(data: object, held_out: object) -> tuple[dict[str, Any], DataSet | None]:
    """What the recipe says of the data, and the data where they are here already."""
    if isinstance(data, str) and data in KINDS:
        return {"kind": data}, None
    if isinstance(data, str | Path):
        path = user_path(data)
        if not path.exists():
            raise InputError(f"there is no data set or path {str(data)!r}: there are {', '.join(sorted(KINDS))}")
        return {"kind": "folder", "root": str(path.resolve())}, None
    settings, data_set = given_data(data, held_out)
    return settings.model_dump(mode="json"), data_set

"""A variational autoencoder whose samples an energy makes better: train, sample, measure, explain.

The packages in the order in which data flows through them, each with the question that it answers:

| package | question |
| --- | --- |
| `vaebm.data` | What is there to learn from, and what is held out? |
| `vaebm.distributions` | Which densities can be written down? |
| `vaebm.nn` | Which layers is everything made of? |
| `vaebm.vae` | How does noise become data, and data a code? |
| `vaebm.energy` | What does the VAE get wrong? |
| `vaebm.models` | What is the density of both together, and how is it pulled back to noise? |
| `vaebm.sampling` | How are samples drawn from a density known up to a constant? |
| `vaebm.training` | How are the VAE and then the energy learned? |
| `vaebm.metrics` | How good are the samples, and how sure is that? |
| `vaebm.experiment` | How do a recipe and a run directory tie it all together? |
| `vaebm.report` | What happened, in pictures and sentences? |
| `vaebm.cli` | How is each of these a command? |

Imports only go down, from the command line to the distributions; `vaebm.errors` and `vaebm.progress` lie below all.
The names below are those that a user needs; they are imported when first used, so that `import vaebm` and
`vaebm --help` answer at once.

    run = vaebm.train("digits", out="runs/digits", seed=1)
    model = vaebm.load("runs/digits")
    images = model.sample(64, seed=0)
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vaebm.version import __version__ as __version__

if TYPE_CHECKING:
    import torch
    from torch import nn

    from vaebm import distributions, metrics, sampling
    from vaebm.errors import Diverged, InputError
    from vaebm.experiment.catalogue import list_recipes
    from vaebm.experiment.detector import Detector
    from vaebm.experiment.evaluate import evaluate
    from vaebm.experiment.recipe import Recipe, load_recipe
    from vaebm.experiment.run_directory import Run
    from vaebm.experiment.sample import write_samples
    from vaebm.metrics.measurement import Measurement
    from vaebm.models import VAEBM, Model
    from vaebm.report.page import write_report
    from vaebm.vae.external import ExternalVAE

__all__ = [
    "VAEBM",
    "Detector",
    "Diverged",
    "ExternalVAE",
    "InputError",
    "Measurement",
    "Recipe",
    "Run",
    "distributions",
    "evaluate",
    "list_recipes",
    "load",
    "load_recipe",
    "metrics",
    "sampling",
    "train",
    "train_energy",
    "write_report",
    "write_samples",
]

_HOMES = {
    "Detector": "vaebm.experiment.detector",
    "Diverged": "vaebm.errors",
    "ExternalVAE": "vaebm.vae.external",
    "InputError": "vaebm.errors",
    "Measurement": "vaebm.metrics.measurement",
    "Recipe": "vaebm.experiment.recipe",
    "Run": "vaebm.experiment.run_directory",
    "VAEBM": "vaebm.models.vaebm",
    "evaluate": "vaebm.experiment.evaluate",
    "list_recipes": "vaebm.experiment.catalogue",
    "load_recipe": "vaebm.experiment.recipe",
    "write_report": "vaebm.report.page",
    "write_samples": "vaebm.experiment.sample",
}
"""Where each name that is no package is defined."""


def train(
    recipe: str | Path,
    out: str | Path | None = None,
    *,
    minutes: float | None = None,
    device: str | None = None,
    quiet: bool = False,
    **overrides: object,
) -> Run:
    """Train both stages of a recipe, or of a preset for a folder of images; an existing run is resumed.

    Args:
        recipe: The name of a recipe, a recipe file, a folder of images, or a run.
        out: Where the run goes; `runs/` and the recipe's name unless given.
        minutes: To train and measure in: size, iterations and samples are fitted to it. A folder gets 30 unless given.
        device: Such as "cpu" or "cuda:1"; the best one there is unless given.
        quiet: No progress on standard error.
        **overrides: Values of the recipe, nested as dicts (`energy_stage={"learning_rate": 1e-4}`) or by dotted
            names (`**{"energy_stage.learning_rate": 1e-4}`).

    Raises:
        InputError: The recipe, an override, the data or `out` cannot be used; the message says why.
        Diverged: Training was given up; the last good model is saved.
    """
    from vaebm.experiment.train import train as run_training
    from vaebm.progress import on_terminal

    return run_training(
        recipe, out, overrides=_overrides_of(overrides), minutes=minutes, device=device, progress=on_terminal(quiet)
    )


def train_energy(
    vae: ExternalVAE,
    data: object,
    out: str | Path,
    *,
    held_out: object = None,
    recipe: str = "folder",
    device: str | None = None,
    quiet: bool = False,
    **overrides: object,
) -> Run:
    """Train an energy for a VAE that was trained elsewhere; an existing run is resumed.

    Args:
        vae: The encoder and the decoder, as `vaebm.ExternalVAE(encoder, decoder, ...)` takes them.
        data: An array or tensor of images or points, a folder of images, or the name of a data set.
        out: Where the run goes.
        held_out: Held-out values beside an array; one in ten of the array unless given.
        recipe: The recipe whose energy, sampler and evaluation to take.
        device: Such as "cpu" or "cuda:1"; the best one there is unless given.
        quiet: No progress on standard error.
        **overrides: Values of the recipe, as for `train`.

    Raises:
        InputError: Something cannot be used; the message says why.
        Diverged: Training was given up; the last good model is saved.
    """
    from vaebm.experiment.train_energy import train_energy as run_training
    from vaebm.progress import on_terminal

    return run_training(
        vae,
        data,
        out,
        held_out=held_out,
        recipe=recipe,
        overrides=_overrides_of(overrides),
        device=device,
        progress=on_terminal(quiet),
    )


def load(run: str | Path, device: str | torch.device = "cpu", **parts: nn.Module) -> Model:
    """The trained model of a run, or of the folder `model` in one, ready to sample.

    Args:
        run: The directory.
        device: Where the weights go.
        **parts: Modules that the directory cannot make, such as `vae=` a VAE trained elsewhere.

    Raises:
        InputError: there is no model, or no such device; the message says why.
    """
    from vaebm.experiment.run_directory import load as load_run

    return load_run(run, device, **parts)


def _overrides_of(overrides: Mapping[str, object], prefix: str = "") -> list[str]:
    """Overrides as the command line has them.

    >>> _overrides_of({"seed": 1, "sampler": {"kind": "mala", "step_size": 1e-05}})
    ['seed=1', 'sampler.kind="mala"', 'sampler.step_size=1e-05']
    """
    words = []
    for name, value in overrides.items():
        if isinstance(value, Mapping):
            words += _overrides_of(value, f"{prefix}{name}.")
        else:
            words.append(f"{prefix}{name}={json.dumps(value, ensure_ascii=False, default=_plain)}")
    return words


def _plain(value: object) -> object:
    """A number or an array of NumPy or torch as Python has it; anything else, such as a path, as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def __getattr__(name: str) -> object:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    if name in __all__:
        return importlib.import_module(f"vaebm.{name}")
    raise AttributeError(f"module 'vaebm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

"""`vaebm reconstruct`, `interpolate` and `traverse`: what the codes of a model hold, as one sheet each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vaebm.cli.failures import writing_to
from vaebm.cli.options import Device, Overrides, Quiet, RunName, Seed, listed, name_and_overrides, number, option
from vaebm.errors import InputError

if TYPE_CHECKING:
    import torch

    from vaebm.models import NoiseSpaceModel

Given = Annotated[
    str,
    typer.Option(
        "--input",
        metavar="PATH|SPLIT",
        help="A split of the run's data, a path, or SET:SPLIT; its first N are taken.",
    ),
]
Out = Annotated[Path, option("FILE", "FILE.png for one picture, FILE.gif for a film of its columns, FILE.npz.")]
Inputs = Annotated[int, number("--n", "N", 1, "Inputs to take.", show_default=True)]
Columns = Annotated[int, number("--columns", "K", 2, "Images in a row.", show_default=True)]


def reconstruct(
    run: RunName,
    out: Out,
    overrides: Overrides = None,
    given: Given = "test",
    n: Inputs = 8,
    seed: Seed = 0,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Show data, the VAE's reconstructions, and the model's samples at their codes; one row each."""
    from vaebm.experiment.latents import reconstruct as sheet_of
    from vaebm.experiment.latents import write_sheet

    model, x, generator = _opened(run, out, overrides, given, n, seed, device, quiet)
    with writing_to(out):
        typer.echo(write_sheet(sheet_of(model, x, generator), out))


def interpolate(
    run: RunName,
    out: Out,
    overrides: Overrides = None,
    given: Given = "test",
    n: Inputs = 4,
    columns: Columns = 9,
    walks: Annotated[
        bool, typer.Option("--walk", help="A chain of the model from each input, instead of straight lines.")
    ] = False,
    seed: Seed = 0,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Show what lies between each input and the next, for the VAE and for the model, or where chains go from each."""
    from vaebm.experiment.latents import interpolate as sheet_of
    from vaebm.experiment.latents import walk, write_sheet

    model, x, generator = _opened(run, out, overrides, given, n, seed, device, quiet)
    with writing_to(out):
        typer.echo(write_sheet((walk if walks else sheet_of)(model, x, columns, generator), out))


def traverse(
    run: RunName,
    out: Out,
    overrides: Overrides = None,
    given: Given = "test",
    latents: Annotated[
        str | None, option("I,...", "Which latents; those with the most information unless given.")
    ] = None,
    top: Annotated[int, number("--top", "M", 1, "How many of those.", show_default=True)] = 8,
    columns: Columns = 9,
    reach: Annotated[float, typer.Option(metavar="R", help="The greatest value, in prior deviations.")] = 2.5,
    row: Annotated[int, number("--row", "I", 0, "Which of the inputs is varied.", show_default=True)] = 0,
    seed: Seed = 0,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Show what each latent of an input does, for the VAE and for the model with that latent held."""
    from vaebm.experiment.latents import latents_by_information, write_sheet
    from vaebm.experiment.latents import traverse as sheet_of

    model, x, generator = _opened(run, out, overrides, given, max(row + 1, 64), seed, device, quiet, row + 1)
    known = latents_by_information(model, x, generator)
    if latents is not None:
        wanted = [_latent(word) for word in listed(latents) or [""]]
        information = dict(known)
        chosen = [(latent, information.get(latent, 0.0)) for latent in wanted]
    else:
        chosen = known[:top]
    with writing_to(out):
        typer.echo(write_sheet(sheet_of(model, x[row : row + 1], chosen, columns, reach, generator), out))
    for latent, nats in chosen:
        typer.echo(f"latent {latent}: {nats:.2f} nats", err=True)


def _latent(word: str) -> int:
    if not word.isdecimal():
        raise InputError(f"--latents {word}: give whole numbers with commas between them, such as 0,3")
    return int(word)


def _opened(
    run: str,
    out: Path,
    overrides: list[str] | None,
    given: str,
    n: int,
    seed: int,
    device: str | None,
    quiet: bool,
    at_least: int | None = None,
) -> tuple[NoiseSpaceModel, torch.Tensor, torch.Generator]:
    """The model, the first n of the input, or all of at least `at_least`, and a generator."""
    name, values = name_and_overrides(run, overrides)
    import torch

    from vaebm.experiment.encode import read_input
    from vaebm.experiment.latents import check_file
    from vaebm.experiment.run_directory import Run
    from vaebm.models import in_noise_space
    from vaebm.progress import on_terminal

    found = Run.open(name)
    model = in_noise_space(found.model(device))
    if not model.vae.latent_dim:
        raise InputError(f"a {type(model).__name__} decodes no latents: name a run of kind vaebm")
    check_file(out, model.data_shape)
    model.update_settings(found.with_overrides(values).model_settings())
    inputs = read_input(found, given, model, on_terminal(quiet))
    if inputs.rows < (at_least or n):
        raise InputError(f"--input {given} holds {inputs.rows}, and {at_least or n} were asked for")
    x = inputs.first(n).to(model.device)
    return model, x, torch.Generator(model.device).manual_seed(seed)

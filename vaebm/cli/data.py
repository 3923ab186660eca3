"""`vaebm data inspect` and `vaebm data prepare`: look at a data set, or prepare one that is large."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from vaebm.cli.failures import writing_to
from vaebm.cli.options import Json, Quiet, argument, number, option

data = typer.Typer(no_args_is_help=True, help="Look at a data set, or prepare a large one.")

Subject = Annotated[str, argument("NAME|PATH", "A data set by name, a folder, zip, tar or npz of images, or a table.")]


@data.command()
def inspect(
    subject: Subject,
    out: Annotated[Path | None, option("PNG", "Also write a grid of some images there.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Say what a data set is like: counts, sizes, values, the likelihood they suggest, duplicates, broken files."""
    from vaebm.data.inspect import inspect_set
    from vaebm.progress import on_terminal

    summary = inspect_set(subject, out, on_terminal(quiet))
    typer.echo(json.dumps(asdict(summary), indent=2) if as_json else "\n".join(summary.lines()))


@data.command()
def prepare(
    subject: Subject,
    source: Annotated[
        Path | None, option("FOLDER", "Where the published files of a set by name lie.", "--from")
    ] = None,
    out: Annotated[
        Path | None,
        option("FOLDER", "The folder to make; where recipes look for them, or PATH-prepared, unless given."),
    ] = None,
    size: Annotated[int | None, number("--size", "N", 8, "Crop and resize the user's own images to N x N.")] = None,
    workers: Annotated[int | None, number("--workers", "N", 1, "Processes; one a processor unless given.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Decode a large data set once into arrays that training reads from. The same command resumes what was stopped."""
    from vaebm.data.prepare import prepare_set
    from vaebm.progress import on_terminal

    with writing_to(Path(subject) if out is None else out):
        folder, index = prepare_set(subject, source, out, size=size, workers=workers, progress=on_terminal(quiet))
    if as_json:
        splits = {name: part.images for name, part in index.parts.items()}
        said = {"folder": str(folder), "name": index.name, "shape": index.shape, "splits": splits}
        typer.echo(json.dumps({**said, "description": index.description}, indent=2))
    else:
        typer.echo(f"{index.description}\nprepared: {folder}")

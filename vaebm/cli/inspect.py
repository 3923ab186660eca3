"""`vaebm inspect`: what a recipe will cost before it is trained, or what happened in a run."""

import json
from typing import Annotated

import typer

from vaebm.cli.memory import without_collection
from vaebm.cli.options import Device, Json, Overrides, argument, name_and_overrides, no_overrides, option


def inspect(
    subject: Annotated[
        str,
        argument("RECIPE|FOLDER|TABLE|RUN", "A recipe by name or as a file, a folder of images, a table, or a run."),
    ],
    overrides: Overrides = None,
    minutes: Annotated[
        float | None, option("M", "As `train --minutes M` would fit it; a folder gets 30 unless given.")
    ] = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Say what a recipe will cost (parameters, memory, time), or what happened in a run."""
    name, values = name_and_overrides(subject, overrides)
    with without_collection():
        from vaebm.experiment.inspect import inspect_recipe, inspect_run
        from vaebm.experiment.run_directory import RECIPE, Run
        from vaebm.experiment.train import planned
        from vaebm.files import user_path
        from vaebm.progress import on_terminal

        if (user_path(name) / RECIPE).is_file():
            no_overrides(subject, overrides, "a run keeps the recipe it was trained by; inspect the recipe instead")
            inspection = inspect_run(Run.open(name))
        else:
            inspection = inspect_recipe(planned(name, values, minutes, device, on_terminal()), device=device)
    if as_json:
        typer.echo(json.dumps(inspection.numbers, indent=2))
    else:
        typer.echo("\n".join(inspection.sentences))

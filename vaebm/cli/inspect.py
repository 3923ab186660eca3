"""`vaebm inspect`: what a recipe will cost before it is trained, or what happened in a run."""

import json
from pathlib import Path
from typing import Annotated

import typer

from vaebm.cli.memory import without_collection
from vaebm.cli.options import Device, Json, Overrides, argument, name_and_overrides, no_overrides


def inspect(
    subject: Annotated[str, argument("RECIPE|RUN", "A recipe by name or as a file, or a run.")],
    overrides: Overrides = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Say what a recipe will cost (parameters, memory, time), or what happened in a run."""
    name, values = name_and_overrides(subject, overrides)
    with without_collection():
        from vaebm.experiment.catalogue import names
        from vaebm.experiment.inspect import inspect_recipe, inspect_run
        from vaebm.experiment.recipe import load_recipe
        from vaebm.experiment.run_directory import RECIPE, Run
        from vaebm.files import user_path

        if user_path(name).is_dir() and (name not in names() or (Path(name) / RECIPE).is_file()):
            no_overrides(subject, overrides, "a run keeps the recipe it was trained by; inspect the recipe instead")
            inspection = inspect_run(Run.open(name))
        else:
            inspection = inspect_recipe(load_recipe(name, values), device=device)
    if as_json:
        typer.echo(json.dumps(inspection.numbers, indent=2))
    else:
        typer.echo("\n".join(inspection.sentences))

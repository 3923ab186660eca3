"""`vaebm recipes`: the recipes that come with the package, or one recipe, complete."""

import json
from typing import Annotated

import typer

from vaebm.cli.options import Json, Overrides, argument, name_and_overrides


def recipes(
    recipe: Annotated[str | None, argument("RECIPE", "A recipe by name or as a file: print all of it.")] = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """List the recipes, one line each; or print one with every default and override filled in."""
    if recipe is not None:
        name, values = name_and_overrides(recipe, overrides)
        from vaebm.experiment.recipe import load_recipe

        found = load_recipe(name, values)
        yaml = f"# {found.name}: {found.summary}\n{found.to_yaml()}".rstrip()
        typer.echo(found.model_dump_json(indent=2) if as_json else yaml)
        return
    from vaebm.experiment.catalogue import list_recipes

    listed = list_recipes()
    if as_json:
        typer.echo(json.dumps([{"name": one.name, "summary": one.summary} for one in listed], indent=2))
        return
    width = max(len(recipe.name) for recipe in listed)
    for one in listed:
        typer.echo(f"{one.name:<{width}}  {one.summary}")

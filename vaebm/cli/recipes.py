"""`vaebm recipes`: the recipes that come with the package."""

from __future__ import annotations

import json

import typer

from vaebm.cli.words import Json


def recipes(as_json: Json = False) -> None:
    """List the recipes, one line each."""
    from vaebm.experiment.catalogue import list_recipes

    found = list_recipes()
    if as_json:
        typer.echo(json.dumps([{"name": recipe.name, "summary": recipe.summary} for recipe in found], indent=2))
        return
    width = max(len(recipe.name) for recipe in found)
    for recipe in found:
        typer.echo(f"{recipe.name:<{width}}  {recipe.summary}")

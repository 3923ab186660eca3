"""`vaebm compare-samplers`: every sampler on a run's model at the same number of gradients a sample."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from vaebm.cli.failures import writing_to
from vaebm.cli.options import Device, Json, Overrides, Quiet, RunName, name_and_overrides, whole_number
from vaebm.cli.results import COLUMNS_OF_A_FILE


def compare_samplers(
    run: RunName,
    overrides: Overrides = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where samplers.json and samplers.html go; RUN/samplers unless given.",
            show_default=False,
        ),
    ] = None,
    gradients: Annotated[
        int,
        typer.Option(
            metavar="G",
            parser=whole_number("--gradients", 1),
            help="Gradient evaluations to spend on each sample, warm-up included.",
        ),
    ] = 200,
    n: Annotated[
        int | None,
        typer.Option(
            "--n",
            metavar="N",
            parser=whole_number("--n", 64),
            help="Samples of each sampler; what a few minutes allow unless given.",
            show_default=False,
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="Only these samplers; all unless given.", show_default=False),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="S", parser=whole_number("--seed", 0), help="The same seed, the same samples.")
    ] = 0,
    device: Device = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compare all samplers on a run's model at equal cost, and say which one to use.

    Samplers that are finished are kept: after Ctrl-C the same command goes on.
    """
    name, values = name_and_overrides(run, overrides)
    from vaebm.comparison.run import compare_samplers as compare
    from vaebm.experiment.run_directory import Run
    from vaebm.progress import on_terminal
    from vaebm.report.sampler_page import write_samplers_page

    names = None if only is None else [word.strip() for word in only.split(",") if word.strip()]
    with writing_to(Path(name) if out is None else out):
        opened = Run.open(name)
        comparison = compare(
            opened,
            out=out,
            gradients=gradients,
            n=n,
            only=names,
            seed=seed,
            overrides=values,
            device=device,
            progress=on_terminal(quiet),
        )
        page = write_samplers_page(opened, comparison)
    if as_json:
        typer.echo(json.dumps(comparison.rows, indent=2))
        return
    from rich.console import Console

    from vaebm.report.sampler_table import samplers_table

    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else COLUMNS_OF_A_FILE)
    console.print(samplers_table(comparison.rows))
    typer.echo(f"page: {page}")

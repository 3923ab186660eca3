"""`vaebm compare-samplers`: every sampler on a run's model at the same number of gradients a sample."""

import json
from pathlib import Path
from typing import Annotated

import typer

from vaebm.cli.failures import writing_to
from vaebm.cli.options import Device, Json, Overrides, Quiet, RunName, Seed, listed, name_and_overrides, number, option
from vaebm.cli.results import print_table


def compare_samplers(
    run: RunName,
    overrides: Overrides = None,
    out: Annotated[
        Path | None, option("FOLDER", "Where samplers.json and samplers.html go; RUN/samplers unless given.")
    ] = None,
    gradients: Annotated[
        int, number("--gradients", "G", 1, "Gradient evaluations to spend on each sample, warm-up included.", True)
    ] = 200,
    n: Annotated[
        int | None, number("--n", "N", 64, "Samples of each sampler; what a few minutes allow unless given.")
    ] = None,
    only: Annotated[str | None, option("NAME,...", "Only these samplers; all unless given.")] = None,
    seed: Seed = 0,
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

    with writing_to(Path(name) if out is None else out):
        opened = Run.open(name)
        comparison = compare(
            opened,
            out=out,
            gradients=gradients,
            n=n,
            only=listed(only),
            seed=seed,
            overrides=values,
            device=device,
            progress=on_terminal(quiet),
        )
        page = write_samplers_page(opened, comparison)
    if as_json:
        typer.echo(json.dumps(comparison.rows, indent=2))
        return
    from vaebm.report.sampler_table import samplers_table

    print_table(samplers_table(comparison.rows))
    typer.echo(f"page: {page}")

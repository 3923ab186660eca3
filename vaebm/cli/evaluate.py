"""`vaebm evaluate`: measures a run's model, the models it is compared with, and held-out data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from vaebm.cli.failures import writing_to
from vaebm.cli.options import Device, Json, Overrides, Quiet, RunName, name_and_overrides, whole_number
from vaebm.cli.results import show_measurements


class ListsMeasurements(TyperCommand):
    """A command whose help ends with all that can be measured; what knows that is imported for the help alone."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from vaebm.evaluation import all_quantities

        known = "\n".join(f"- {name}: {quantity.phrase}" for name, quantity in all_quantities().items())
        self.epilog = f"Measurements, as far as they apply to the data and the model:\n\n{known}"
        super().format_help(ctx, formatter)


def evaluate(
    run: RunName,
    overrides: Overrides = None,
    only: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="Only these measurements; all unless given.", show_default=False),
    ] = None,
    n: Annotated[
        int | None,
        typer.Option(
            "--n",
            metavar="N",
            parser=whole_number("--n", 2),
            help="Samples to measure; what the recipe says unless given.",
            show_default=False,
        ),
    ] = None,
    device: Device = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure how good the samples are, into RUN/measurements.json; what is measured already is kept."""
    name, values = name_and_overrides(run, overrides)
    from vaebm.experiment.evaluate import evaluate as measure
    from vaebm.experiment.run_directory import Run
    from vaebm.progress import on_terminal

    names = None if only is None else [word.strip() for word in only.split(",") if word.strip()]
    with writing_to(Path(name)):
        measurements = measure(
            Run.open(name), only=names, n=n, overrides=values, device=device, progress=on_terminal(quiet)
        )
    show_measurements(measurements, as_json)

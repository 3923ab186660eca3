"""`vaebm evaluate`: measures a run's model, the models it is compared with, and held-out data."""

from pathlib import Path
from typing import Annotated, Any

from typer.core import TyperCommand

from vaebm.cli.failures import writing_to
from vaebm.cli.options import Device, Json, Overrides, Quiet, RunName, listed, name_and_overrides, number, option
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
    only: Annotated[str | None, option("NAME,...", "Only these measurements; all unless given.")] = None,
    n: Annotated[int | None, number("--n", "N", 2, "Samples to measure; what the recipe says unless given.")] = None,
    device: Device = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure how good the samples are, into RUN/measurements.json; what is measured already is kept."""
    name, values = name_and_overrides(run, overrides)
    from vaebm.experiment.evaluate import evaluate as measure
    from vaebm.experiment.run_directory import Run
    from vaebm.progress import on_terminal

    with writing_to(Path(name)):
        measurements = measure(
            Run.open(name), only=listed(only), n=n, overrides=values, device=device, progress=on_terminal(quiet)
        )
    show_measurements(measurements, as_json)

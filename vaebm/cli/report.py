"""`vaebm report`: a run in one HTML file."""

from pathlib import Path

import typer

from vaebm.cli.failures import writing_to
from vaebm.cli.options import Device, Overrides, Quiet, RunName, data_root_alone


def report(run: RunName, overrides: Overrides = None, device: Device = None, quiet: Quiet = False) -> None:
    """Write a page about a run, with its samples and measurements, into RUN/report.html, and print where it is."""
    name, values = data_root_alone(run, overrides, "a report tells what the run did, by the recipe that it keeps")
    from vaebm.experiment.run_directory import Run
    from vaebm.progress import on_terminal
    from vaebm.report.page import write_report

    opened = Run.open(name)
    opened.with_overrides(values)
    with writing_to(Path(name)):
        written = write_report(opened, device=device, progress=on_terminal(quiet))
    typer.echo(written)

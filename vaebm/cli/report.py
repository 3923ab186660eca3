"""`vaebm report`: a run in one HTML file."""

from pathlib import Path

import typer

from vaebm.cli.failures import writing_to
from vaebm.cli.options import Device, Overrides, Quiet, RunName, name_and_overrides, no_overrides


def report(run: RunName, overrides: Overrides = None, device: Device = None, quiet: Quiet = False) -> None:
    """Write a page about a run, with its samples and measurements, into RUN/report.html, and print where it is."""
    name, values = name_and_overrides(run, overrides)
    others = [value for value in values if not value.startswith("data.root=")]
    no_overrides(name, others, "a report tells what the run did, by the recipe that it keeps")
    from vaebm.experiment.run_directory import Run
    from vaebm.progress import on_terminal
    from vaebm.report.page import write_report

    opened = Run.open(name)
    if values:
        opened.with_overrides(values)
    with writing_to(Path(name)):
        written = write_report(opened, device=device, progress=on_terminal(quiet))
    typer.echo(written)

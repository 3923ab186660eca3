"""`vaebm train`: both stages, then the measurements and the report."""

import os
from pathlib import Path
from typing import Annotated

import typer

from vaebm.cli.failures import writing_to
from vaebm.cli.options import Device, Json, Overrides, Quiet, argument, name_and_overrides, option
from vaebm.cli.results import show_measurements
from vaebm.errors import InputError


def train(
    subject: Annotated[
        str,
        argument(
            "RECIPE|FOLDER|TABLE|RUN",
            "A recipe by name or as a file, a folder of images, a table (.csv, .parquet, .npy, .npz), or a run.",
        ),
    ],
    overrides: Overrides = None,
    out: Annotated[Path | None, option("RUN", "The run to make; runs/NAME unless given.")] = None,
    minutes: Annotated[
        float | None,
        option("M", "Fit size, iterations and measuring to so many minutes; a folder gets 30 unless given."),
    ] = None,
    only_train: Annotated[bool, typer.Option("--only-train", help="Neither measure nor report.")] = False,
    device: Device = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a VAE, then the energy that sharpens it; measure both and write the report.

    Training again into a run resumes it: interrupted with Ctrl-C, it has saved first.
    """
    name, values = name_and_overrides(subject, overrides)
    from vaebm.experiment.train import train as run_training
    from vaebm.progress import on_terminal

    # Of several processes (torchrun, accelerate launch) the first one alone speaks, measures and reports.
    rank = os.environ.get("RANK", "0")
    if not rank.isdecimal():
        raise InputError(f"RANK is {rank!r}, which is no number: unset it, or start several processes with torchrun")
    first = int(rank) == 0
    progress = on_terminal(quiet or not first)
    with writing_to(Path("runs") if out is None else out):
        run = run_training(name, out, overrides=values, minutes=minutes, device=device, progress=progress)
        if not first:
            return
        if only_train:
            typer.echo(run.path)
            return
        from vaebm.experiment.evaluate import evaluate
        from vaebm.report.page import write_report

        measurements = evaluate(run, device=device, progress=progress)
        report = write_report(run, device=device, progress=progress)
    show_measurements(measurements, as_json)
    if not as_json:
        typer.echo(f"report: {report}")

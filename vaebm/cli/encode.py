"""`vaebm encode`: the codes that a run's model gives to somebody's data."""

from pathlib import Path
from typing import Annotated

import typer

from vaebm.cli.failures import writing_to
from vaebm.cli.options import Device, Overrides, Quiet, RunName, data_root_alone, option


def encode(
    run: RunName,
    given: Annotated[
        str,
        option("PATH|SPLIT", "A folder, zip or tar of images, an .npz, or train, validation or test.", "--input"),
    ],
    out: Annotated[Path, option("FILE.npz", "Where codes go, and labels and factors where they are known.")],
    overrides: Overrides = None,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Write posterior means of data, in the order of the input."""
    name, values = data_root_alone(run, overrides, "codes are of the model as it was trained")
    from vaebm.experiment.encode import write_codes
    from vaebm.experiment.run_directory import Run
    from vaebm.progress import on_terminal

    opened = Run.open(name)
    opened.with_overrides(values)
    with writing_to(out):
        written = write_codes(opened, given, out, device=device, progress=on_terminal(quiet))
    typer.echo(written)

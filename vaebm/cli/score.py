"""`vaebm score`: how strange is each of a user's samples to a run's model?"""

from pathlib import Path
from typing import Annotated

import typer

from vaebm.cli.failures import writing_to
from vaebm.cli.options import Device, Overrides, Quiet, RunName, data_root_alone, listed, option


def score(
    run: RunName,
    given: Annotated[
        str,
        option(
            "PATH|NAME",
            "A folder, zip or tar of images, an .npz or .npy of images or points, a table, a data set, or a split of"
            " the run's data: train, validation or test.",
            "--input",
        ),
    ],
    out: Annotated[Path, option("PATH", "FILE.csv or FILE.npz: index, name, p_value, score, and the parts by name.")],
    overrides: Overrides = None,
    reference: Annotated[
        str | None, option("PATH|NAME", "Calibrate on these samples; the run's held-out data unless given.")
    ] = None,
    only: Annotated[str | None, option("NAME,...", "Write these parts alone; all unless given.")] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Score the others where some samples cannot be scored.")
    ] = False,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Score samples: a p-value against data that the model was not fitted to, a score, and what it is made of."""
    name, values = data_root_alone(run, overrides, "a score is of the model as it was trained")
    from vaebm.experiment.run_directory import Run
    from vaebm.experiment.score import write_scores
    from vaebm.progress import on_terminal

    opened = Run.open(name)
    opened.with_overrides(values)
    with writing_to(out):
        written = write_scores(
            opened,
            given,
            out,
            reference=reference,
            only=listed(only),
            skip_bad=skip_bad,
            device=device,
            progress=on_terminal(quiet),
        )
    typer.echo("\n".join([str(written.path), *written.said]))

"""`vaebm score`: how strange is each of a user's samples to a run's model?"""

from pathlib import Path
from typing import Annotated

import typer

from vaebm.cli.failures import writing_to
from vaebm.cli.options import Device, Overrides, Quiet, RunName, data_root_alone, listed, option
from vaebm.errors import InputError


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
    page: Annotated[
        Path | None,
        option("FILE.html", "Also write a page with the strangest and the most ordinary samples, and why they are."),
    ] = None,
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
    if page is not None and page.suffix.lower() != ".html":
        raise InputError(f"--page {page}: a page is written as .html, as in --page {page.with_suffix('.html')}")
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
    lines = [str(written.path), *written.said]
    if page is not None:
        from vaebm.report.score_page import write_scores_page

        page.parent.mkdir(parents=True, exist_ok=True)
        lines.insert(1, str(write_scores_page(written, page, given)))
    typer.echo("\n".join(lines))

"""`vaebm sample`: exactly N samples of a run's model, as arrays, a grid, or single pictures."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from vaebm.cli.failures import writing_to
from vaebm.cli.options import Device, Overrides, Quiet, RunName, Seed, name_and_overrides, number, option


def sample(
    run: RunName,
    n: Annotated[int, number("--n", "N", 1, "How many.")],
    out: Annotated[
        Path,
        option(
            "PATH",
            "FILE.npz for arrays, FILE.png for one grid, or a folder for single PNGs; of a table FILE.csv or .parquet.",
        ),
    ],
    overrides: Overrides = None,
    subject: Annotated[
        str | None,
        option(
            "vaebm|vae|vae_mixture|start",
            "Whose samples: with the energy, without it and z from the prior or from the mixture, or where the"
            " chains begin; the model's own unless given.",
        ),
    ] = None,
    show: Annotated[
        Literal["sample", "mean", "denoised"] | None,
        typer.Option(help="What of a sample is shown; what the recipe says unless given.", show_default=False),
    ] = None,
    seed: Seed = 0,
    gradients: Annotated[
        int | None,
        number(
            "--gradients",
            "G",
            2,
            "Bound on what a sample costs, in gradients of the model's density; the sampler's unless given.",
        ),
    ] = None,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Draw samples from a run's model, and print where they are."""
    name, values = name_and_overrides(run, overrides)
    from vaebm.experiment.run_directory import Run
    from vaebm.experiment.sample import write_samples
    from vaebm.progress import on_terminal

    with writing_to(out):
        written = write_samples(
            Run.open(name),
            n,
            out,
            subject=subject,
            show=show,
            seed=seed,
            gradients=gradients,
            overrides=values,
            device=device,
            progress=on_terminal(quiet),
        )
    typer.echo(written)

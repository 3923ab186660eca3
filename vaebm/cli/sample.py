"""`vaebm sample`: exactly N samples of a run's model, as arrays, a grid, or single pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from vaebm.cli.failures import writing_to
from vaebm.cli.options import Device, Overrides, Quiet, RunName, name_and_overrides, whole_number


def sample(
    run: RunName,
    n: Annotated[
        int, typer.Option("--n", metavar="N", parser=whole_number("--n", 1), help="How many.", show_default=False)
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="PATH",
            help="FILE.npz for arrays, FILE.png for one grid, or a folder for single PNGs.",
            show_default=False,
        ),
    ],
    overrides: Overrides = None,
    subject: Annotated[
        str | None,
        typer.Option(
            metavar="vaebm|vae|vae_mixture|start",
            help="Whose samples: with the energy, without it and z from the prior or from the mixture, or where the"
            " chains begin; the model's own unless given.",
            show_default=False,
        ),
    ] = None,
    show: Annotated[
        Literal["sample", "mean", "denoised"] | None,
        typer.Option(help="What of a sample is shown; what the recipe says unless given.", show_default=False),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="S", parser=whole_number("--seed", 0), help="The same seed, the same samples.")
    ] = 0,
    gradients: Annotated[
        int | None,
        typer.Option(
            metavar="G",
            parser=whole_number("--gradients", 2),
            help="Bound on what a sample costs, in gradients of the model's density; the sampler's unless given.",
            show_default=False,
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

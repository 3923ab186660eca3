"""`vaebm disentangle`: how well the latents of a run's model stand for the factors of its data."""

from pathlib import Path
from typing import Annotated

from vaebm.cli.failures import writing_to
from vaebm.cli.options import Device, Json, Overrides, Quiet, RunName, listed, name_and_overrides, option
from vaebm.cli.results import show_measurements


def disentangle(
    run: RunName,
    overrides: Overrides = None,
    only: Annotated[str | None, option("NAME,...", "Only these scores, such as mig; all unless given.")] = None,
    device: Device = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Score the codes of held-out data against the factors that these were made from, into RUN/measurements.json."""
    name, values = name_and_overrides(run, overrides)
    from vaebm.experiment.disentangle import disentangle as score
    from vaebm.experiment.run_directory import Run
    from vaebm.progress import on_terminal

    with writing_to(Path(name)):
        scores = score(Run.open(name), only=listed(only), overrides=values, device=device, progress=on_terminal(quiet))
    show_measurements(scores, as_json)

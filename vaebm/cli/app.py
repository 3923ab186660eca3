"""The command `vaebm`: its verbs, and the one place where a failure becomes a line and an exit status."""

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from typing import Annotated

import typer

import vaebm
from vaebm.cli.compare_samplers import compare_samplers
from vaebm.cli.data import data
from vaebm.cli.disentangle import disentangle
from vaebm.cli.encode import encode
from vaebm.cli.evaluate import ListsMeasurements, evaluate
from vaebm.cli.failures import explain
from vaebm.cli.inspect import inspect
from vaebm.cli.latents import interpolate, reconstruct, traverse
from vaebm.cli.memory import keep_freed_memory
from vaebm.cli.process import drop_unwritten, reader_left, take_over
from vaebm.cli.recipes import recipes
from vaebm.cli.report import report
from vaebm.cli.sample import sample
from vaebm.cli.score import score
from vaebm.cli.train import train
from vaebm.errors import Preempted
from vaebm.signals import answered_in_time, listening

app = typer.Typer(
    name="vaebm",
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: vaebm recipes, then: vaebm train digits. Exit status: 0 done, 2 wrong input or environment, "
    "3 training diverged, 75 preempted, 130 interrupted. VAEBM_DEBUG=1 shows the traceback of a failure.",
)
VERBS = (train, sample, evaluate, score, report, inspect, recipes, compare_samplers)
OF_CODES = (encode, reconstruct, interpolate, traverse, disentangle)
for verb in (*VERBS, *OF_CODES):
    app.command(cls=ListsMeasurements if verb is evaluate else None)(verb)
app.add_typer(data, name="data")


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"vaebm {vaebm.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def overview(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Variational autoencoders sharpened by an energy: train, sample, measure, explain."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _leave(name: str) -> None:
    """Ends the process from another thread, where its own is inside of a call that does not return."""
    with suppress(OSError):
        os.write(2, f"vaebm: {name} arrived: what was finished is saved, run the same command again\n".encode())
    os._exit(Preempted.exit_status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; `arguments` are those of the process unless given."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:  # the process is the command's own
        take_over()
        keep_freed_memory()
    command = typer.main.get_command(app)
    status = 0
    try:
        late = answered_in_time(_leave) if arguments is None else nullcontext()
        with late, listening(), command.make_context("vaebm", words) as context:
            command.invoke(context)
        sys.stdout.flush()
    except typer.Exit as wanted:
        status = wanted.exit_code
    except (Exception, KeyboardInterrupt, Preempted) as error:  # noqa: BLE001 - every failure is one line; VAEBM_DEBUG shows the rest
        # Whoever read standard output may have seen enough, as `vaebm recipes | head -1` does: results come last.
        if not (isinstance(error, BrokenPipeError) and reader_left(sys.stdout)):
            if os.environ.get("VAEBM_DEBUG", "0") not in ("", "0"):
                traceback.print_exc()
            status, line = explain(error)
            with suppress(OSError, ValueError):  # the status is told even where the line cannot be
                typer.echo(f"vaebm: {line}", err=True)
    drop_unwritten(sys.stdout)
    drop_unwritten(sys.stderr)
    if arguments is None and status == Preempted.exit_status:
        os._exit(status)  # to take the interpreter down takes a second, and whoever sent the signal may not wait
    return status

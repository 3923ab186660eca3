"""The command `vaebm`: its verbs, and the one place where a failure becomes a line and an exit status."""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Annotated

import typer

import vaebm
from vaebm.cli.compare_samplers import compare_samplers
from vaebm.cli.data import data
from vaebm.cli.evaluate import ListsMeasurements, evaluate
from vaebm.cli.failures import explain
from vaebm.cli.inspect import inspect
from vaebm.cli.memory import keep_freed_memory
from vaebm.cli.recipes import recipes
from vaebm.cli.report import report
from vaebm.cli.sample import sample
from vaebm.cli.score import score
from vaebm.cli.train import train
from vaebm.errors import Preempted

app = typer.Typer(
    name="vaebm",
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: vaebm recipes, then: vaebm train digits. Exit status: 0 done, 2 wrong input or environment, "
    "3 training diverged, 75 preempted, 130 interrupted. VAEBM_DEBUG=1 shows the traceback of a failure.",
)
for verb in (train, sample, evaluate, score, report, inspect, recipes, compare_samplers):
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; `arguments` are those of the process unless given."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:  # the process is the command's own
        keep_freed_memory()
    command = typer.main.get_command(app)
    try:
        with _leaving_when_asked(), command.make_context("vaebm", words) as context:
            command.invoke(context)
        sys.stdout.flush()
    except typer.Exit as wanted:
        return wanted.exit_code
    except BrokenPipeError:
        # Whoever read standard output has seen enough, as `vaebm recipes | head -1` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - every failure is one line; VAEBM_DEBUG shows the rest
        if os.environ.get("VAEBM_DEBUG", "0") not in ("", "0"):
            traceback.print_exc()
        status, line = explain(error)
        typer.echo(f"vaebm: {line}", err=True)
        return status
    return 0


@contextmanager
def _leaving_when_asked() -> Iterator[None]:
    """SIGTERM and SIGUSR1, by which schedulers ask for the machine back, end the block as `Preempted`.

    What is written is complete before it gets its name, so a command may end anywhere; training saves its state itself.
    """

    def leave(number: int, _frame: FrameType | None) -> None:
        raise Preempted(
            f"{signal.Signals(number).name} arrived: what was finished is saved, run the same command again"
        )

    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's business
        return
    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""A command works whatever its streams and variables are: closed, full, left by their reader, of another encoding."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from vaebm.cli import main
from vaebm.errors import Preempted
from vaebm.progress import on_terminal
from vaebm.signals import answered_in_time, listening


def shell(command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    command = command.replace("vaebm ", f"{sys.executable} -m vaebm ")
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("streams", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams(streams: str) -> None:
    done = shell(f"vaebm recipes {streams}")
    assert (done.returncode, done.stderr) == (0, "")
    assert shell(f"vaebm inspect qqqqq {streams}").returncode == 2


def test_full_streams() -> None:
    done = shell("vaebm recipes > /dev/full")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert shell("vaebm inspect qqqqq 2> /dev/full").returncode == 2


def test_a_status_survives_a_reader_who_left() -> None:
    assert shell("vaebm inspect qqqqq 2> >(exec true); exit $?").returncode == 2


def test_a_name_that_no_text_can_hold_is_shown_escaped() -> None:
    done = shell("vaebm inspect $'caf\\xe9.yaml'", LC_ALL="C.UTF-8")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "\\udce9.yaml" in done.stderr


def test_empty_and_inherited_variables() -> None:
    notebook = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    program = "from vaebm.cli.process import take_over; take_over(); import os; print('RANK' in os.environ);"
    program += "import matplotlib.pyplot; matplotlib.pyplot.figure(); print('drawn')"
    done = shell(f'{sys.executable} -c "{program}"', RANK="", WORLD_SIZE="", **notebook)
    assert done.stdout.split() == ["False", "drawn"], done.stderr


@pytest.mark.parametrize("place", ["/dev/full", "pipe", "closed"])
def test_progress_that_cannot_be_written_is_dropped(place: str, tmp_path: Path) -> None:
    if place == "pipe":
        reading, writing = os.pipe()
        os.close(reading)
        stream = os.fdopen(writing, "w")
    else:
        stream = Path("/dev/full" if place == "/dev/full" else tmp_path / "file").open("w")  # noqa: SIM115
    if place == "closed":
        stream.close()
    progress = on_terminal(stream=stream) if place != "closed" else None
    if progress is None:
        stream = (tmp_path / "file").open("w")
        progress = on_terminal(stream=stream)
        stream.close()
    with progress.task("work", 3, "steps") as task:
        for _ in range(3):
            progress.say("still here")
            task.advance()


def test_progress_is_escaped_where_the_stream_lacks_a_character(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w", encoding="ascii") as stream:
        on_terminal(stream=stream).say("a caf\udce9 on the \u2192 right")
    assert (tmp_path / "file").read_text() == "a caf\\udce9 on the \\u2192 right\n"


def test_a_rank_that_is_no_number(command: Any, library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "first")
    done = command("train", "digits")
    assert (done.status, len(done.err.splitlines()), library.calls) == (2, 1, [])


def test_a_warning_is_one_line() -> None:
    code = "import warnings; from vaebm.cli.process import take_over; take_over(); warnings.warn('few images')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == "vaebm: few images\n"


def test_a_preempted_process_is_gone_at_once(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what Python does as it ends, which takes a second after PyTorch was imported."""

    class Gone(Exception):
        pass

    def leave(status: int) -> None:
        raise Gone(status)

    library.failure = Preempted("SIGTERM arrived")
    monkeypatch.setattr("sys.argv", ["vaebm", "train", "digits"])
    monkeypatch.setattr("vaebm.cli.app.take_over", lambda: None)
    monkeypatch.setattr("vaebm.cli.app.keep_freed_memory", lambda: None)
    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(Gone, match="75"):
        main()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_process_inside_of_one_long_call_is_ended_in_time(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python hears the signal when the call returns; a thread hears it before."""
    monkeypatch.setattr("vaebm.signals.LATEST", 0.2)
    left: list[tuple[str, float]] = []

    def work() -> None:
        with answered_in_time(lambda name: left.append((name, time.perf_counter()))), listening():
            threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
            hashlib.pbkdf2_hmac("sha512", b"", b"", 1_000_000)

    with pytest.raises(Preempted):
        work()
    ((name, moment),) = left
    assert name == number.name
    assert moment < time.perf_counter()


def test_whoever_is_saving_is_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaebm.signals.LATEST", 0.1)
    left: list[str] = []

    def work() -> None:
        with answered_in_time(left.append), listening(5.0) as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            stop.settle()
            time.sleep(0.4)

    with pytest.raises(Preempted):
        work()
    assert left == []

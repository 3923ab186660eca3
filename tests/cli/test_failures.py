"""Every failure is one line on standard error and the exit status that scripts rely on."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vaebm.cli.failures import explain
from vaebm.errors import Diverged, InputError, Interrupted, Preempted


class OutOfMemoryError(RuntimeError):
    """Named as torch names it."""


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("the data is missing: give data.root"), 2, "the data is missing: give data.root"),
        (InputError("two\n  lines"), 2, "two lines"),
        (Diverged("the gap grew to 1e9"), 3, "the gap grew to 1e9"),
        (Preempted("saved"), 75, "saved"),
        (Interrupted("saved"), 130, "saved"),
        (KeyboardInterrupt(), 130, "interrupted: what was finished is saved, run the same command again"),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/x"),
            2,
            "the disk of /x is full: free some space, then run the same command again",
        ),
        (
            OSError(errno.EROFS, os.strerror(errno.EROFS), "/x"),
            2,
            "/x lies on a read-only disk: choose another place",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/x"),
            2,
            "no permission for /x: change its permissions or choose another place",
        ),
        (FileNotFoundError(errno.ENOENT, "No such file", "/x"), 2, "/x does not exist: check the path"),
        (OSError(errno.EIO, "Input/output error", "/x"), 2, "/x: input/output error"),
        (MemoryError(), 2, "out of memory: use a smaller batch or another --device"),
        (OutOfMemoryError("CUDA"), 2, "out of memory: use a smaller batch or another --device"),
        (
            TypeError("no\nidea"),
            1,
            (
                "a defect of vaebm itself (TypeError: no idea): "
                "please report it with the traceback that VAEBM_DEBUG=1 shows"
            ),
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_each_failure_has_its_line_and_status(
    error: BaseException, status: int, line: str, command: Any, library: Any
) -> None:
    assert explain(error) == (status, line)
    library.failure = error
    done = command("train", "digits", "--quiet")
    assert (done.status, done.out, done.err) == (status, "", f"vaebm: {line}\n")


def test_a_failed_write_names_where_it_was_going(command: Any, library: Any) -> None:
    library.failure = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for words in (["train", "digits", "--out", "there"], ["sample", "r", "--n", "1", "--out", "there"]):
        assert command(*words).err.startswith("vaebm: the disk of there is full: ")
    for verb in ("evaluate", "report"):
        assert command(verb, "there").err.startswith("vaebm: the disk of there is full: ")


def test_what_safetensors_could_not_write_is_said_like_any_other_full_disk(command: Any, library: Any) -> None:
    class SafetensorError(Exception):
        pass

    library.failure = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    done = command("train", "digits", "--out", "there", "--quiet")
    assert done.status == 2
    assert done.err == "vaebm: the disk of there is full: free some space, then run the same command again\n"


def test_the_traceback_is_shown_when_asked_for(command: Any, library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    library.failure = InputError("wrong")
    assert "Traceback" not in command("train", "digits").err
    monkeypatch.setenv("VAEBM_DEBUG", "1")
    done = command("train", "digits")
    assert "Traceback" in done.err
    assert done.err.splitlines()[-1] == "vaebm: wrong"
    assert done.status == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian", "digits"], "no such command 'trian'. Did you mean 'train'? See vaebm --help"),
        (["nothing-like-it"], "no such command 'nothing-like-it'; see vaebm --help"),
        (["train"], "missing argument 'RECIPE|FOLDER|TABLE|RUN'; see vaebm train --help"),
        (["train", "digits", "seed"], "'seed' is one name too many: write overrides as key=value, such as seed=1"),
        (["train", "seed=1"], "only overrides were given (seed=1): name what they apply to as well"),
        (
            ["train", "digits", "--devise", "cpu"],
            "no such option: --devise (Possible options: --device); see vaebm train --help",
        ),
        (["train", "digits", "--device"], "option '--device' requires an argument"),
        (["sample", "r", "--out", "x.png"], "missing option '--n'; see vaebm sample --help"),
        (["sample", "r", "--n", "3"], "missing option '--out'; see vaebm sample --help"),
        (["sample", "r", "--out", "x.png", "--n", "0"], "'0' is not a whole number of at least 1"),
        (["sample", "r", "--out", "x.png", "--n", "-4"], "'-4' is not a whole number of at least 1"),
        (["sample", "r", "--out", "x.png", "--n", "many"], "'many' is not a whole number of at least 1"),
        (["sample", "r", "--out", "x.png", "--n", "1.5"], "'1.5' is not a whole number of at least 1"),
        (["sample", "r", "--out", "x.png", "--n", "3", "--seed", "-1"], "'-1' is not a whole number of at least 0"),
        (
            ["sample", "r", "--out", "x.png", "--n", "3", "--show", "all"],
            "'all' is not one of 'sample', 'mean', 'denoised'",
        ),
        (["evaluate", "r", "--n", "1"], "'1' is not a whole number of at least 2"),
        (["report", "r", "seed=1"], "seed=1 cannot be applied: a report tells what the run did"),
        (["recipes", "digits", "cifar10"], "'cifar10' is one name too many"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_command_line(words: list[str], said: str, command: Any, library: Any) -> None:
    done = command(*words)
    assert done.status == 2
    assert done.out == ""
    assert said in done.err
    assert done.err.startswith("vaebm: ")
    assert len(done.err.splitlines()) == 1
    assert library.calls == []


def test_a_reader_who_has_seen_enough_is_no_failure(tmp_path: Path) -> None:
    program = tmp_path / "many_recipes.py"
    program.write_text(
        "import sys, types; from vaebm.cli import main\n"
        "many = [types.SimpleNamespace(name='r', summary='words') for _ in range(100_000)]\n"
        "sys.modules['vaebm.experiment.catalogue'] = types.SimpleNamespace(list_recipes=lambda: many)\n"
        "sys.exit(main(['recipes']))"
    )
    pipe = f"{sys.executable} {program} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", pipe], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("r  words\n0\n", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_scheduler_that_asks_for_the_machine_gets_75(number: signal.Signals, tmp_path: Path) -> None:
    stand_in = (
        "import sys, types, os, time; from vaebm.cli import main\n"
        f"stop = lambda *a, **k: (os.kill(os.getpid(), {int(number)}), time.sleep(30))\n"
        "sys.modules['vaebm.experiment.catalogue'] = types.SimpleNamespace(list_recipes=stop)\n"
        "sys.exit(main(['recipes']))"
    )
    done = subprocess.run([sys.executable, "-c", stand_in], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 75
    assert done.stderr == f"vaebm: {number.name} arrived: what was finished is saved, run the same command again\n"

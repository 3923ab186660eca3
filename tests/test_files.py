"""Files: whole, of the mode that the umask says, held by one process; paths as people write them."""

from __future__ import annotations

import os
import platform
import pwd
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vaebm.errors import InputError
from vaebm.files import cache_folder, drafted, locked, user_path, write_atomically

HOLDER = """
import sys, time
from pathlib import Path
from vaebm.files import locked
folder = Path(sys.argv[1])
with locked(folder / ".lock", folder):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_a_file_has_the_mode_that_the_umask_says(mask: int, tmp_path: Path) -> None:
    with umask(mask):
        write_atomically(tmp_path / "a", b"content")
        with drafted(tmp_path / "b") as draft:
            draft.unlink()
            os.close(os.open(draft, os.O_CREAT | os.O_WRONLY, 0o600))  # as other libraries make files
    for name in "ab":
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o666 & ~mask


def test_what_could_not_be_written_leaves_nothing(tmp_path: Path) -> None:
    def fail(file: object) -> None:
        raise OSError(28, "full")

    with pytest.raises(OSError, match="full") as caught:
        write_atomically(tmp_path / "a", fail)
    assert caught.value.filename == str(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_lock_names_its_owner_and_survives_its_death(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(InputError) as caught, locked(tmp_path / ".lock", tmp_path):
            pass
        assert f"{tmp_path} is in use by process {holder.pid} on {platform.node()}" in str(caught.value)
        holder.kill()
    assert (tmp_path / ".lock").exists()
    with locked(tmp_path / ".lock", tmp_path), pytest.raises(InputError, match=str(os.getpid())):
        locked(tmp_path / ".lock", tmp_path).__enter__()
    assert list(tmp_path.iterdir()) == []


def test_paths_as_people_write_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert user_path("~/runs/x") == tmp_path / "runs" / "x"
    assert user_path("runs/~x") == Path("runs/~x")
    assert cache_folder() == tmp_path / ".cache" / "vaebm"


def test_no_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(number: int) -> None:
        raise KeyError(number)

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert user_path("runs/x") == Path("runs/x")
    for ask in (cache_folder, lambda: user_path("~/x")):
        with pytest.raises(InputError, match="HOME"):
            ask()

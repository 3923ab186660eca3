"""Downloads, against a server of this process that fails in every way that servers do."""

from __future__ import annotations

import errno
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from vaebm.data.files import download
from vaebm.data.files.download import Published, fetch, obtain
from vaebm.errors import InputError
from vaebm.progress import silent

CONTENT = bytes(range(256)) * 2000
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


class Mirror(BaseHTTPRequestHandler):
    """The first word of the path says how this mirror behaves."""

    asked: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        how, wanted = self.path.strip("/"), self.headers.get("Range")
        self.asked.append((how, wanted))
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and how != "rangeless" else 0
        if how == "absent":
            self.send_error(404)
        elif start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.end_headers()
        else:
            self.answer(how, start)

    def answer(self, how: str, start: int) -> None:
        body = CONTENT[::-1] if how == "other" else CONTENT[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start + (how == 'shifted')}-{len(CONTENT) - 1}/{len(CONTENT)}")
        if how != "unsaid":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = {"cutting": 100_000, "unsaid": 100_000, "dying": 0 if start else 100_000, "silent": 0}
        self.wfile.write(body[: cut.get(how)])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Mirror.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def file(server: str, *ways: str, digest: str | None = DIGEST) -> Published:
    return Published("set.bin", digest, tuple(f"{server}/{way}" for way in ways), "https://page.example/set")


def test_a_whole_file(server: str, tmp_path: Path) -> None:
    path = obtain(file(server, "good"), [tmp_path / "near", tmp_path / "deep" / "cache"], silent())
    assert path == tmp_path / "deep" / "cache" / "set.bin"
    assert path.read_bytes() == CONTENT
    assert not path.with_name("set.bin.part").exists()
    assert obtain(file(server, "good"), [path.parent], silent()) == path
    assert len(Mirror.asked) == 1


def test_a_connection_that_breaks_is_resumed_where_it_broke(server: str, tmp_path: Path) -> None:
    assert fetch(file(server, "cutting"), tmp_path, silent()).read_bytes() == CONTENT
    assert [wanted for _, wanted in Mirror.asked[:3]] == [None, "bytes=100000-", "bytes=200000-"]


def test_an_earlier_download_is_gone_on_with(server: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dying broke off"):
        fetch(file(server, "dying"), tmp_path, silent())
    assert (tmp_path / "set.bin.part").stat().st_size == 100_000
    assert not (tmp_path / "set.bin").exists()
    assert fetch(file(server, "good"), tmp_path, silent()).read_bytes() == CONTENT
    assert Mirror.asked[-1] == ("good", "bytes=100000-")


@pytest.mark.parametrize("way", ["rangeless", "shifted"])
def test_what_cannot_be_resumed_is_begun_again(way: str, server: str, tmp_path: Path) -> None:
    (tmp_path / "set.bin.part").write_bytes(CONTENT[:5000])
    assert fetch(file(server, way), tmp_path, silent()).read_bytes() == CONTENT


def test_a_part_that_is_whole_already(server: str, tmp_path: Path) -> None:
    (tmp_path / "set.bin.part").write_bytes(CONTENT)
    assert fetch(file(server, "good"), tmp_path, silent()).read_bytes() == CONTENT
    (tmp_path / "set.bin").unlink()
    (tmp_path / "set.bin.part").write_bytes(CONTENT + b"more")
    assert fetch(file(server, "good"), tmp_path, silent()).read_bytes() == CONTENT


def test_mirrors_are_asked_in_turn(server: str, tmp_path: Path) -> None:
    published = file(server, "absent", "other", "unsaid", "silent", "good")
    assert fetch(published, tmp_path, silent()).read_bytes() == CONTENT
    assert [way for way, _ in Mirror.asked] == ["absent", "other", "unsaid", "silent", "good"]


def test_when_no_address_answers_the_message_says_what_to_do(server: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        fetch(file(server, "absent", "other"), tmp_path, silent())
    said = str(caught.value)
    assert "\n" not in said
    for word in (
        "absent answered 404",
        "other gave another file (its sha256 is",
        "get set.bin from https://page.example",
    ):
        assert word in said
    assert f"put it at {tmp_path / 'set.bin'}" in said
    assert list(tmp_path.glob("set*")) == []
    with pytest.raises(InputError, match=r"no program can fetch it: get set\.bin"):
        fetch(file(server), tmp_path, silent())
    dead = Published("set.bin", None, ("http://127.0.0.1:9/set.bin", "file:///etc/hostname"), "page")
    with pytest.raises(InputError, match=r"did not answer \(Connection refused\); file:.* is no http address"):
        fetch(dead, tmp_path, silent())


def test_a_damaged_copy_is_named_and_left(server: str, tmp_path: Path) -> None:
    (tmp_path / "set.bin").write_bytes(CONTENT[:-1])
    with pytest.raises(InputError, match=r"set\.bin is damaged or another file \(its sha256 is .*\): delete it"):
        obtain(file(server, "good"), [tmp_path], silent())
    assert (tmp_path / "set.bin").exists()
    assert Mirror.asked == []


def test_without_a_checksum_the_promised_size_counts(server: str, tmp_path: Path) -> None:
    assert fetch(file(server, "good", digest=None), tmp_path, silent()).read_bytes() == CONTENT
    md5 = "md5:" + hashlib.md5(CONTENT).hexdigest()
    assert obtain(file(server, digest=md5), [tmp_path], silent()).read_bytes() == CONTENT


def test_a_full_disk_is_named(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = tmp_path / "set.bin.part"
    real = Path.open

    def opened(path: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        handle = real(path, mode, *rest, **options)
        if path == full and "b" in mode and mode != "rb":
            return Full(handle)
        return handle

    class Full:
        def __init__(self, handle: Any) -> None:
            self.handle = handle

        def write(self, block: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self.handle.close()

    monkeypatch.setattr(download.Path, "open", opened)
    with pytest.raises(OSError, match="No space left") as caught:
        fetch(file(server, "good"), tmp_path, silent())
    assert caught.value.filename == str(full)
    assert not (tmp_path / "set.bin").exists()


def test_a_folder_that_cannot_be_written_to(server: str, tmp_path: Path) -> None:
    (tmp_path / "blocked").touch()
    with pytest.raises(InputError, match=r"set VAEBM_DATA or data\.root to a folder"):
        fetch(file(server, "good"), tmp_path / "blocked" / "below", silent())


def test_processes_that_want_the_same_file_fetch_it_once(server: str, tmp_path: Path) -> None:
    threads = [threading.Thread(target=fetch, args=(file(server, "good"), tmp_path, silent())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "set.bin").read_bytes() == CONTENT
    assert len(Mirror.asked) == 1

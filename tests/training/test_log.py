"""metrics.jsonl: means between lines, cut where the checkpoint was taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vaebm.training.log import MetricsLog


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def test_means_since_the_last_call(path: Path) -> None:
    book = MetricsLog(path, 2, True)
    book.add({"loss": 1.0, "gap": 2.0})
    book.add({"loss": 2.0})
    assert book.means() == {"loss": 1.5, "gap": 2.0}
    book.add({"loss": 5.0})
    assert book.means() == {"loss": 5.0}
    assert book.means() == {}


def test_numbers_that_are_not_finite_are_left_out(path: Path) -> None:
    book = MetricsLog(path, 1, True)
    book.write(iteration=3, loss=float("nan"), gap=float("inf"), note="kept")
    assert rows(path) == [{"iteration": 3, "note": "kept"}]


def test_other_processes_write_nothing(path: Path) -> None:
    book = MetricsLog(path, 1, False)
    book.write(event="stage")
    assert not path.exists()


def test_a_resume_cuts_what_came_after_the_checkpoint(path: Path) -> None:
    book = MetricsLog(path, 3, True)
    book.write(iteration=3, loss=1.0)
    book.add({"loss": 2.0})
    state = json.loads(json.dumps(book.state_dict()))
    book.add({"loss": 7.0})
    book.write(iteration=6, loss=2.0)
    with path.open("a") as file:
        file.write('{"iteration": 9, "lo')  # killed while it wrote

    resumed = MetricsLog(path, 3, True)
    resumed.load_state_dict(state)
    assert rows(path) == [{"iteration": 3, "loss": 1.0}]
    resumed.add({"loss": 4.0})
    assert resumed.means() == {"loss": 3.0}
    resumed.write(iteration=6, loss=3.0)
    assert [row["iteration"] for row in rows(path)] == [3, 6]


def test_a_resume_of_another_process_cuts_nothing(path: Path) -> None:
    path.write_text('{"iteration": 3}\n')
    MetricsLog(path, 3, False).load_state_dict({"length": 0, "sums": {}, "counts": {}})
    assert rows(path) == [{"iteration": 3}]


def test_a_shorter_file_is_left_as_it_is(path: Path) -> None:
    path.write_text('{"iteration": 3}\n')
    MetricsLog(path, 3, True).load_state_dict({"length": 1000, "sums": {}, "counts": {}})
    assert rows(path) == [{"iteration": 3}]
    path.unlink()
    MetricsLog(path, 3, True).load_state_dict({"length": 1000, "sums": {}, "counts": {}})


def test_without_a_checkpoint_the_file_begins_afresh(path: Path) -> None:
    path.write_text('{"event": "stage"}\n')
    book = MetricsLog(path, 3, True)
    book.add({"loss": 1.0})
    book.begin()
    assert path.read_text() == ""
    assert book.means() == {}

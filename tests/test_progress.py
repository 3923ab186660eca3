"""Progress on a terminal moves, elsewhere it is few plain lines, and it costs the loop next to nothing."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator

import pytest

from vaebm import progress as module
from vaebm.progress import Progress, on_terminal, silent


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_a_short_task_leaves_one_line_with_its_rate_and_duration(clock: Clock) -> None:
    stream = io.StringIO()
    with on_terminal(stream=stream).task("vae", 4000, "iterations") as task:
        for _ in range(4000):
            clock.now += 0.001
            task.advance(loss=3.25, energy_gap=0.5)
    assert stream.getvalue() == "vae: 4,000 iterations in 4.0 s, 1,000 iterations/s, loss 3.25, energy gap 0.5\n"


def test_a_long_task_says_every_ten_seconds_how_far_it_is(clock: Clock) -> None:
    stream = io.StringIO()
    with on_terminal(stream=stream).task("vae", 100, "images") as task:
        for _ in range(100):
            clock.now += 0.5
            task.advance()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "vae: 20 of 100 images (20 %), 2 images/s, 40 s left"
    assert lines[1:4] == [f"vae: {n} of 100 images ({n} %), 2 images/s, {(100 - n) // 2} s left" for n in (40, 60, 80)]
    assert lines[4:] == ["vae: 100 images in 50 s, 2 images/s"]


def test_short_nested_tasks_are_silent_among_plain_lines(clock: Clock) -> None:
    stream = io.StringIO()
    progress = on_terminal(stream=stream)
    with progress.task("energy", 30, "iterations") as iterations:
        for _ in range(30):
            with progress.task("chains", 60, "steps") as steps:
                for _ in range(60):
                    clock.now += 0.01
                    steps.advance(acceptance=0.6)
            iterations.advance()
    assert "chains" not in stream.getvalue()
    assert len(stream.getvalue().splitlines()) == 2


def test_a_long_nested_task_is_heard(clock: Clock) -> None:
    stream = io.StringIO()
    progress = on_terminal(stream=stream)
    with progress.task("energy", 1, "iterations"), progress.task("chains", 60, "steps") as steps:
        for _ in range(60):
            clock.now += 0.5
            steps.advance()
    assert "chains: 20 of 60 steps (33 %), 2 steps/s, 20 s left" in stream.getvalue()
    assert "chains: 60 steps in 30 s, 2 steps/s" in stream.getvalue()


def test_what_was_done_before_a_resume_does_not_raise_the_rate(clock: Clock) -> None:
    stream = io.StringIO()
    with on_terminal(stream=stream).task("vae", 1000, "iterations", done=900) as task:
        for _ in range(100):
            clock.now += 0.2
            task.advance()
    assert stream.getvalue().splitlines()[0] == "vae: 950 of 1,000 iterations (95 %), 5 iterations/s, 10 s left"
    assert stream.getvalue().splitlines()[-1] == "vae: 100 iterations in 20 s, 5 iterations/s"


def test_a_task_that_fails_leaves_the_word_to_its_exception() -> None:
    stream = io.StringIO()
    with pytest.raises(ValueError, match="wrong"), on_terminal(stream=stream).task("vae", 10, "images"):
        raise ValueError("wrong")
    assert stream.getvalue() == ""


def test_bars_show_nested_tasks_and_leave_one_sentence(clock: Clock) -> None:
    stream = Terminal()
    progress = on_terminal(stream=stream)
    with progress.task("energy", 2, "iterations") as iterations:
        for _ in range(2):
            with progress.task("chains", 10, "steps") as steps:
                for _ in range(10):
                    clock.now += 0.3
                    steps.advance()
            iterations.advance(loss=0.25)
        progress.say("half [red]way[/red]")
    drawn = stream.getvalue()
    assert "energy" in drawn
    assert "  chains" in drawn
    assert "7/10" in drawn
    assert "half [red]way[/red]" in drawn
    assert drawn.rstrip().endswith("energy: 2 iterations in 6.0 s, 3.0 s each, loss 0.25")
    assert "chains:" not in drawn


def test_sentences_between_tasks_reach_the_terminal() -> None:
    stream = Terminal()
    on_terminal(stream=stream).say("found 12 images")
    assert stream.getvalue() == "found 12 images\n"


@pytest.mark.parametrize("progress", [silent(), on_terminal(quiet=True)])
def test_silence(progress: Progress, capfd: pytest.CaptureFixture[str]) -> None:
    with progress.task("vae", 10, "images") as task:
        task.advance(loss=1.0)
        progress.say("a sentence")
    assert capfd.readouterr() == ("", "")


def test_standard_output_is_left_to_results(capfd: pytest.CaptureFixture[str]) -> None:
    progress = on_terminal()
    with progress.task("vae", 1, "images") as task:
        task.advance()
    progress.say("a sentence")
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines()[1] == "a sentence"


def test_advancing_is_cheap() -> None:
    with on_terminal(stream=io.StringIO()).task("vae", 20_000, "iterations") as task:
        start = time.perf_counter()
        for _ in range(20_000):
            task.advance(loss=1.0)
    # 0.3 microseconds on an idle machine; 20 leave room for a busy one and still cost a fast loop only 2 %.
    assert (time.perf_counter() - start) / 20_000 < 20e-6


def test_words_stand_for_figures_and_are_repeated_once_a_minute(clock: Clock) -> None:
    stream = io.StringIO()
    with on_terminal(stream=stream).task("ratio", 200, "iterations") as task:
        for i in range(200):
            clock.now += 1.0
            task.advance(words=f"gap {i / 100:.1f} nats, {'steady' if i < 125 else 'rising'}", gap=1.0)
    lines = stream.getvalue().splitlines()
    assert [line.split()[1] for line in lines[:-1]] == ["10", "70", "130", "190"]
    assert "gap 0.1 nats, steady" in lines[0]
    assert lines[-1].endswith("gap 2.0 nats, rising")

"""Progress reporting: nested tasks with rate and time left, and messages that stay on screen.

    with progress.task("energy", total=3000, unit="iterations") as iterations:
        for _ in range(3000):
            iterations.advance(loss=loss, gap=gap)
    progress.say("The energy settled: its gap is 0.04.")

Work sees the protocols `Progress` and `Task`; whoever starts it chooses what becomes of them:

- `silent()`: nothing is shown.
- `on_terminal()`: bars on a terminal; in a file or a pipe one plain line every ten seconds at most, and one a minute
  of work that describes itself in words, where they say the same but for their numbers. A finished
  outermost task leaves one sentence with its duration and its rate; among plain lines so does a nested one that took
  longer than ten seconds. After an exception there is none.

Everything goes to standard error: standard output is left to results. What cannot be written there, because whoever
read it has left or a disk is full, is dropped, and the work goes on. `advance` costs a comparison of clocks, and
figures become numbers only when they are shown, so a detached tensor costs no synchronisation with its device.
"""

from __future__ import annotations

import math
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import IO, TYPE_CHECKING, Any, Protocol, SupportsFloat, TextIO, cast

from vaebm.wording import duration

if TYPE_CHECKING:
    import rich.progress

LINE_SECONDS = 10.0  # at least between two plain lines of one task
SAME_SECONDS = 60.0  # at least between two that say the same, but for their numbers
NUMBER = re.compile(r"[-+]?[\d.,]+")
BAR_SECONDS = 0.2  # at least between two drawings of the bars
SHORTEST_TIMED = 0.1  # seconds below which a task's rate says nothing


class Task(Protocol):
    """Work that is under way, counted in some unit."""

    def advance(self, n: int = 1, words: str = "", **figures: SupportsFloat) -> None:
        """Count `n` more units as done; `figures` (a loss, a gap, ...) are shown beside the count, or else `words`."""


class Progress(Protocol):
    """Where work reports to."""

    def task(self, name: str, total: int, unit: str, done: int = 0) -> AbstractContextManager[Task]:
        """A task of `total` units (named in the plural), open until the block ends, nested in the one open around it.

        `done` units were finished before, as after a resume: they count as progress, but not towards the rate.
        """

    def say(self, line: str) -> None:
        """A sentence that stays on the screen."""


def silent() -> Progress:
    """Neither tasks nor sentences."""
    return _Silent()


def on_terminal(quiet: bool = False, stream: TextIO | None = None) -> Progress:
    """Bars on a terminal, plain lines elsewhere, nothing at all if `quiet`; `stream` is standard error unless given."""
    if quiet:
        return _Silent()
    stream = sys.stderr if stream is None else stream
    if stream is None:  # closed by whoever started the process
        return _Silent()
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        return _Bars(stream)
    return _Lines(stream)


class _Silent:
    """Reports to nobody."""

    def task(self, name: str, total: int, unit: str, done: int = 0) -> AbstractContextManager[Task]:
        return nullcontext(self)

    def say(self, line: str) -> None:
        pass

    def advance(self, n: int = 1, words: str = "", **figures: SupportsFloat) -> None:
        pass


class _Stream:
    """A stream whose reader may leave, whose disk may be full: what cannot be written is dropped, and work goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self.lost = stream, False

    def write(self, text: str) -> int:
        if not self.lost:
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                encoding = self._stream.encoding
                self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            except (OSError, ValueError):
                self.lost = True
        return len(text)

    def flush(self) -> None:
        if not self.lost:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self.lost = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _TaskRow:
    """An open task and what a display knows of it; `depth` is 0 for the outermost."""

    def __init__(self, display: _Lines, name: str, total: int, unit: str, done: int, depth: int, due: float) -> None:
        self.display, self.name, self.total, self.unit, self.depth = display, name, total, unit, depth
        self.done, self.done_before = done, done
        self.figures: dict[str, SupportsFloat] = {}
        self.words, self.said, self.said_at = "", "", -math.inf  # in a line last, and when
        self.start = time.perf_counter()
        self.due = self.start + due
        self.shown = False  # in a line
        self.bar: rich.progress.TaskID | None = None

    def advance(self, n: int = 1, words: str = "", **figures: SupportsFloat) -> None:
        self.done += n
        self.words = words
        if figures:
            self.figures.update(figures)
        now = time.perf_counter()
        if now >= self.due:
            self.due = now + self.display.show(self, now)

    def state(self, now: float, beside_bar: bool = False) -> str:
        """'1,200 of 4,000 iterations (30 %), 1,300 iterations/s, 2.2 s left, loss 3.21'; shorter beside a bar."""
        rate = self._rate(now)
        if beside_bar:
            parts = [f"{self.done:,}/{self.total:,}"]
        else:
            parts = [f"{self.done:,} of {self.total:,} {self.unit} ({100 * self.done / max(self.total, 1):.0f} %)"]
        if rate > 0:
            left = max(self.total - self.done, 0) / rate
            parts += [_said(rate, "" if beside_bar else f" {self.unit}"), f"{duration(left)} left"]
        return ("  " if beside_bar else ", ").join([*parts, *self._figures()])

    def summary(self, now: float) -> str:
        """'vae: 4,000 iterations in 3.1 s, 1,290 iterations/s, loss 3.02'."""
        rate, seconds = self._rate(now), now - self.start
        parts = [f"{self.name}: {self.done - self.done_before:,} {self.unit} in {duration(seconds)}"]
        if rate > 0 and seconds >= SHORTEST_TIMED:
            parts.append(_said(rate, f" {self.unit}"))
        return ", ".join([*parts, *self._figures()])

    def _rate(self, now: float) -> float:
        return (self.done - self.done_before) / max(now - self.start, 1e-9)

    def _figures(self) -> list[str]:
        if self.words:
            return [self.words]
        return [f"{name.replace('_', ' ')} {float(value):.3g}" for name, value in self.figures.items()]


class _Lines:
    """Plain lines, for files, pipes and terminals that cannot move the cursor. Open rows are a stack."""

    first_look = (LINE_SECONDS, LINE_SECONDS)
    """Seconds before an outermost and a nested task are first shown: short nested ones never are."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = cast(IO[str], _Stream(stream))
        self.rows: list[_TaskRow] = []

    @contextmanager
    def task(self, name: str, total: int, unit: str, done: int = 0) -> Iterator[Task]:
        depth = len(self.rows)
        row = _TaskRow(self, name, total, unit, done, depth, due=self.first_look[min(depth, 1)])
        self.rows.append(row)
        try:
            yield row
        except BaseException:
            self.close(row)
            raise
        self.close(row)
        if depth == 0 or row.shown:
            self.say(row.summary(time.perf_counter()))

    def say(self, line: str) -> None:
        print(line, file=self.stream, flush=True)

    def show(self, row: _TaskRow, now: float) -> float:
        """Show where the row is, and return the seconds until it is to be shown again."""
        row.shown = True
        said = NUMBER.sub("", row.words)
        repeated = said and said == row.said and now - row.said_at < SAME_SECONDS
        if row.done < row.total and not repeated:  # at its end the summary follows at once
            self.say(f"{row.name}: {row.state(now)}")
            row.said, row.said_at = said, now
        return LINE_SECONDS

    def close(self, row: _TaskRow) -> None:
        """Take a row off the stack, and off the screen."""
        self.rows.remove(row)


class _Bars(_Lines):
    """One bar for each open task, drawn by the work itself: no thread competes with it for the processor."""

    first_look = (0.0, 2 * BAR_SECONDS)

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.bars: rich.progress.Progress | None = None
        self.drawn = 0.0

    def show(self, row: _TaskRow, now: float) -> float:
        if now - self.drawn < BAR_SECONDS:
            return BAR_SECONDS - (now - self.drawn)
        self.bars = self.bars or self._open()
        for open_row in self.rows[: row.depth + 1]:
            if open_row.bar is None:
                indented = "  " * open_row.depth + open_row.name
                open_row.bar = self.bars.add_task(indented, total=max(open_row.total, 1), line="")
            self.bars.update(open_row.bar, completed=open_row.done, line=open_row.state(now, beside_bar=True))
        self.bars.refresh()
        self.drawn = now
        return BAR_SECONDS

    def close(self, row: _TaskRow) -> None:
        super().close(row)
        if self.bars is None:
            return
        if row.bar is not None:
            self.bars.remove_task(row.bar)
        if row.depth == 0:
            self.bars.stop()
            self.bars = None

    def say(self, line: str) -> None:
        if self.bars is None:
            super().say(line)
        else:
            self.bars.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _open(self) -> rich.progress.Progress:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column

        state = Column(no_wrap=True, overflow="ellipsis", ratio=1)
        bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[line]}", markup=False, table_column=state),
            console=Console(file=self.stream),
            auto_refresh=False,
            transient=True,
            expand=True,
        )
        bars.start()
        return bars


def _said(rate: float, unit: str) -> str:
    """'1,300 iterations/s', '2.5 iterations/s', or '15 s each' where that says more."""
    if rate < 1:
        return f"{duration(1 / rate)} each"
    return f"{rate:,.0f}{unit}/s" if rate >= 10 else f"{rate:.2g}{unit}/s"

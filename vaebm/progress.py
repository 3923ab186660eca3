"""How long work says how far it is: tasks that nest, each with its rate and the time left, and sentences that stay.

    with progress.task("energy", total=3000, unit="iterations") as iterations:
        for _ in range(3000):
            with progress.task("chains", total=60, unit="steps") as steps:
                ...
                steps.advance()
            iterations.advance(loss=loss, gap=gap)
    progress.say("The energy settled: its gap is 0.04.")

The work sees only the protocols `Progress` and `Task`. What becomes of them is chosen once, by whoever starts the work:

- `silent()`: nothing is shown.
- `on_terminal()`: bars that move on a terminal. Where the stream is a file or a pipe, plain lines: one every ten
  seconds at most. A finished outermost task leaves one sentence with its duration and its rate; a nested one leaves
  such a sentence only among plain lines, and only if it took longer than ten seconds. A task that an exception ends
  leaves none: the exception says what happened.

Everything goes to standard error, so that standard output is left to results. `advance` costs a comparison of clocks
until the next look is due, and figures are turned into numbers only then: handing in a detached tensor costs no
synchronisation with its device.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol, SupportsFloat, TextIO

if TYPE_CHECKING:
    import rich.progress

LINE_SECONDS = 10.0
"""The shortest time between two plain lines of one task."""

BAR_SECONDS = 0.2
"""The shortest time between two drawings of the bars."""

SHORTEST_TIMED = 0.1
"""Seconds below which a task's rate says nothing."""


class Task(Protocol):
    """Work that is under way, counted in some unit."""

    def advance(self, n: int = 1, **figures: SupportsFloat) -> None:
        """Count `n` more units as done; `figures` (a loss, a gap, ...) are shown beside the count."""


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
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        return _Bars(stream)
    return _Lines(stream)


class _Silent:
    """Reports to nobody."""

    def task(self, name: str, total: int, unit: str, done: int = 0) -> AbstractContextManager[Task]:
        return nullcontext(self)

    def say(self, line: str) -> None:
        pass

    def advance(self, n: int = 1, **figures: SupportsFloat) -> None:
        pass


class _TaskRow:
    """An open task and what a display knows of it; `depth` is 0 for the outermost."""

    def __init__(self, display: _Display, name: str, total: int, unit: str, done: int, depth: int, due: float) -> None:
        self.display, self.name, self.total, self.unit, self.depth = display, name, total, unit, depth
        self.done, self.done_before = done, done
        self.figures: dict[str, SupportsFloat] = {}
        self.start = time.perf_counter()
        self.due = self.start + due
        self.shown = False
        self.bar: rich.progress.TaskID | None = None

    def advance(self, n: int = 1, **figures: SupportsFloat) -> None:
        self.done += n
        if figures:
            self.figures.update(figures)
        now = time.perf_counter()
        if now >= self.due:
            self.due = now + self.display.show(self, now)

    def rate(self, now: float) -> float:
        """Units a second since the task was opened here."""
        return (self.done - self.done_before) / max(now - self.start, 1e-9)

    def state(self, now: float) -> str:
        """'1,200 of 4,000 iterations (30 %), 1,300 iterations/s, 2.2 s left, loss 3.21'."""
        parts = [f"{self.done:,} of {self.total:,} {self.unit} ({100 * self.done / max(self.total, 1):.0f} %)"]
        rate = self.rate(now)
        if rate > 0:
            parts += [_rate(rate, f" {self.unit}"), f"{self._left(rate)} left"]
        return ", ".join([*parts, *self._figures()])

    def state_beside_bar(self, now: float) -> str:
        """'1,200/4,000  1,300/s  2.2 s left  loss 3.21', so that it fits beside a bar."""
        parts = [f"{self.done:,}/{self.total:,}"]
        rate = self.rate(now)
        if rate > 0:
            parts += [_rate(rate, ""), f"{self._left(rate)} left"]
        return "  ".join([*parts, *self._figures()])

    def summary(self, now: float) -> str:
        """'vae: 4,000 iterations in 3.1 s, 1,290 iterations/s, loss 3.02'."""
        parts = [f"{self.name}: {self.done - self.done_before:,} {self.unit} in {_duration(now - self.start)}"]
        rate = self.rate(now)
        if rate > 0 and now - self.start >= SHORTEST_TIMED:
            parts.append(_rate(rate, f" {self.unit}"))
        return ", ".join([*parts, *self._figures()])

    def _left(self, rate: float) -> str:
        return _duration(max(self.total - self.done, 0) / rate)

    def _figures(self) -> list[str]:
        return [f"{name.replace('_', ' ')} {float(value):.3g}" for name, value in self.figures.items()]


class _Display:
    """The nesting that both displays share: a stack of open rows."""

    first_look = (0.0, 0.0)
    """Seconds before an outermost and a nested task are first shown: short nested ones never are."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.rows: list[_TaskRow] = []

    @contextmanager
    def task(self, name: str, total: int, unit: str, done: int = 0) -> Iterator[Task]:
        depth = len(self.rows)
        row = _TaskRow(self, name, total, unit, done, depth, due=self.first_look[min(depth, 1)])
        self.rows.append(row)
        finished = False
        try:
            yield row
            finished = True
        finally:
            self.rows.remove(row)
            self.close(row)
            if finished and self.leaves_summary(row):
                self.say(row.summary(time.perf_counter()))

    def say(self, line: str) -> None:
        print(line, file=self.stream, flush=True)

    def show(self, row: _TaskRow, now: float) -> float:
        """Show where the row is, and return the seconds until it is to be shown again."""
        raise NotImplementedError

    def close(self, row: _TaskRow) -> None:
        """The row has left the stack, at its end or through an exception: take it off the screen."""

    def leaves_summary(self, row: _TaskRow) -> bool:
        """Whether the finished row is worth a sentence."""
        return row.depth == 0


class _Lines(_Display):
    """Plain lines, for files, pipes and terminals that cannot move the cursor."""

    first_look = (LINE_SECONDS, LINE_SECONDS)

    def show(self, row: _TaskRow, now: float) -> float:
        row.shown = True
        if row.done < row.total:  # at its end the summary follows at once
            self.say(f"{row.name}: {row.state(now)}")
        return LINE_SECONDS

    def leaves_summary(self, row: _TaskRow) -> bool:
        return row.depth == 0 or row.shown


class _Bars(_Display):
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
            self.bars.update(open_row.bar, completed=open_row.done, line=open_row.state_beside_bar(now))
        self.bars.refresh()
        self.drawn = now
        return BAR_SECONDS

    def close(self, row: _TaskRow) -> None:
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


def _rate(rate: float, unit: str) -> str:
    """'1,300 iterations/s', '2.5 iterations/s', or '15 s each' where that says more."""
    if rate < 1:
        return f"{_duration(1 / rate)} each"
    return f"{rate:,.0f}{unit}/s" if rate >= 10 else f"{rate:.2g}{unit}/s"


def _duration(seconds: float) -> str:
    """'3.1 s', '42 s', '4 min 10 s', '2 h 05 min'."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"

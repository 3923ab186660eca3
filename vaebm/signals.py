"""Signals that ask a process to stop, heard wherever it is.

    SIGTERM, SIGUSR1, SIGHUP    a scheduler or a closing terminal wants the process gone: `Preempted`
    SIGINT                      Ctrl-C: `Interrupted`; a second one ends the process at once

Work that can stop in good order looks at `Stop.reason` between two steps. Where it does not within the grace, the
exception is raised at whatever the process does, and again every second, since a finaliser or a callback may lose one.
That is safe anywhere, because nothing is ever half-written under its own name. Signals that the process was started
to ignore (nohup) stay ignored.

Python hears nothing while it is inside of one call of a library, and a backward pass over large images takes seconds.
So a thread of the command line hears `PREEMPTING`, too, and ends a process that has not answered in time.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from vaebm.errors import Diverged, InputError, Interrupted, Preempted

GRACE = 1.0  # seconds in which a training step may end
AGAIN = 1.0  # seconds between two exceptions
LATEST = 1.6  # seconds after which a process is ended whatever it does, unless it is saving
PREEMPTING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
HEARD = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class Stop:
    """Which signal has come, if any.

    Args:
        grace: seconds that work has to stop in good order; whoever owns it sets it to 0 while that cannot be.
    """

    reason: type[Preempted] | type[Interrupted] | None = None
    _name = ""
    _alarm: object = None
    settled = False

    def __init__(self, grace: float) -> None:
        self.grace = grace

    def note(self, number: int, _frame: FrameType | None) -> None:
        """The handler of a signal."""
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        if self.settled:
            return
        if self.reason is None:
            self._alarm = signal.signal(signal.SIGALRM, self._leave)
        self.reason = Interrupted if number == signal.SIGINT else Preempted
        self._name = signal.Signals(number).name
        signal.setitimer(signal.ITIMER_REAL, self.grace or AGAIN, AGAIN)
        if not self.grace:
            self._leave()

    def settle(self) -> None:
        """Nothing is raised any more: whoever works is stopping in good order."""
        if self.reason is not None:
            self.settled = True
            signal.setitimer(signal.ITIMER_REAL, 0)

    def close(self) -> None:
        """Gives the alarm back."""
        self.settle()
        if self.reason is not None:
            signal.signal(signal.SIGALRM, self._alarm)  # type: ignore[arg-type]

    def error(self) -> Preempted | Interrupted:
        """What is to be raised for the signal that came."""
        assert self.reason is not None
        return self.reason(f"{self._name} arrived: what was finished is saved, run the same command again")

    def _leave(self, *_: object) -> None:
        raise self.error()


_STOPS: list[Stop] = []  # of the blocks that are open


@contextmanager
def answered_in_time(leave: Callable[[str], object]) -> Iterator[None]:
    """Within, `leave` is called with a signal's name where the process has not answered it in `LATEST` seconds."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    over = threading.Event()

    def watch() -> None:
        while number := os.read(reading, 1):
            late = number[0] in PREEMPTING and signal.getsignal(number[0]) is not signal.SIG_IGN
            if late and not over.wait(LATEST) and not any(stop.settled for stop in _STOPS):
                leave(signal.Signals(number[0]).name)
        os.close(reading)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        os.close(writing)


@contextmanager
def listening(grace: float = 0.0) -> Iterator[Stop]:
    """Within, signals are heard; `grace` is the time in seconds that work has to stop in good order.

    Raises:
        Preempted, Interrupted: a signal came, at the latest when the block ends, and in place of what a library made of
            such an exception.
    """
    stop = Stop(grace)
    _STOPS.append(stop)
    try:
        with _handled(stop):
            yield stop
    finally:
        _STOPS.remove(stop)


@contextmanager
def _handled(stop: Stop) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # whoever owns the main thread handles signals
        return
    heard = [number for number in HEARD if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop.note) for number in heard}
    try:
        yield
        if stop.reason is not None:
            stop.settle()
            raise stop.error()
    except (InputError, Diverged, OSError):
        raise
    except Exception as error:
        if stop.reason is None:
            raise
        raise stop.error() from error
    finally:
        stop.close()
        for number, handler in before.items():
            signal.signal(number, handler)

"""Signals are heard wherever the process is, within the grace that work has to stop in good order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from vaebm import signals
from vaebm.errors import Diverged, InputError, Interrupted, Preempted
from vaebm.signals import HEARD, Stop, listening


@pytest.fixture(autouse=True)
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Handlers are as they were after every test, and time is short within."""
    monkeypatch.setattr(signals, "AGAIN", 0.02)
    before = [signal.getsignal(number) for number in (*HEARD, signal.SIGALRM)]
    yield
    assert [signal.getsignal(number) for number in (*HEARD, signal.SIGALRM)] == before


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def send_and_work(number: signal.Signals) -> None:
    send(number)
    time.sleep(5)


@pytest.mark.parametrize("number", HEARD)
def test_without_grace_it_is_raised_at_once(number: signal.Signals) -> None:
    with pytest.raises(Interrupted if number == signal.SIGINT else Preempted, match=number.name), listening():
        send_and_work(number)


def test_work_may_stop_in_good_order() -> None:
    done: list[int] = []

    def work(stop: Stop) -> None:
        send(signal.SIGUSR1)
        assert stop.reason is Preempted
        stop.settle()
        time.sleep(0.2)
        send(signal.SIGTERM)
        time.sleep(0.2)
        done.append(1)

    with pytest.raises(Preempted), listening(grace=0.05) as stop:
        work(stop)
    assert done == [1]


def test_work_that_does_not_look_is_left_after_the_grace() -> None:
    started = time.perf_counter()
    with pytest.raises(Preempted), listening(grace=0.05):
        send_and_work(signal.SIGTERM)
    assert 0.04 < time.perf_counter() - started < 2


def test_an_exception_that_is_lost_comes_again() -> None:
    lost = 0

    def lose_three() -> None:
        nonlocal lost
        for _ in range(3):
            try:
                send_and_work(signal.SIGTERM)
            except Preempted:
                lost += 1
        time.sleep(5)

    with pytest.raises(Preempted), listening():
        lose_three()
    assert lost == 3


def test_code_that_catches_every_exception_does_not_catch_it() -> None:
    def decode() -> None:
        try:
            send_and_work(signal.SIGTERM)
        except Exception:  # noqa: BLE001 - what readers of images do
            pytest.fail("caught")

    with pytest.raises(Preempted), listening():
        decode()


def test_what_a_library_makes_of_it_is_still_the_signal() -> None:
    def fail(failure: Exception) -> None:
        send(signal.SIGTERM)
        raise failure

    with pytest.raises(Preempted), listening(grace=9):
        fail(RuntimeError("an operation was cancelled"))
    for failure in (InputError("wrong"), Diverged("far"), OSError(28, "full")):
        with pytest.raises(type(failure)), listening(grace=9):
            fail(failure)


def test_another_thread_leaves_signals_alone() -> None:
    def work() -> None:
        with listening():
            assert signal.getsignal(signal.SIGTERM) == before

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_what_the_process_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with listening():
            send(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_ctrl_c_ends_the_process_at_once() -> None:
    program = (
        "import ctypes, time; from vaebm.signals import listening\n"
        "with listening(grace=60):\n"
        "    print('ready', flush=True)\n"
        "    while True: ctypes.CDLL(None).sleep(30)\n"  # a call that Python cannot interrupt
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == -signal.SIGINT

"""How the software fails: one class per exit status, each message one line that says what is wrong and what to do.

| exception | exit status | meaning |
| --- | --- | --- |
| `InputError` | 2 | wrong input or environment: nothing was changed |
| `Diverged` | 3 | training was given up; the best model is saved |
| `Preempted` | 75 | SIGTERM, SIGUSR1 or SIGHUP arrived; all is saved, run the same command again |
| `Interrupted` | 130 | Ctrl-C; all is saved |
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from vaebm.wording import did_you_mean

Step = Literal["learning_rate", "step_size"]
"""A step that training takes: of the optimizer, or of the sampler."""


class InputError(ValueError):
    """Wrong input or environment, said in one line that also says what to do."""

    exit_status = 2


class Diverged(RuntimeError):
    """Training left the region where its estimates mean anything; the last good model is kept.

    Args:
        message: where, what and why.
        step: the step that is most likely too long; None where the cause is another.
    """

    exit_status = 3

    def __init__(self, message: str, step: Step | None = "learning_rate") -> None:
        super().__init__(message)
        self.step = step


class Preempted(BaseException):
    """The machine asked for the process back; everything is saved. Like Ctrl-C, it is no `Exception` to be caught."""

    exit_status = 75


class Interrupted(KeyboardInterrupt):
    """The user pressed Ctrl-C; everything is saved."""

    exit_status = 130


def check_choice(what: str, given: object, choices: Iterable[str]) -> None:
    """Passes where `given` is one of the choices.

    Raises:
        InputError: it is none; the message names them.
    """
    choices = list(choices)
    if given not in choices:
        raise InputError(
            f"{what} is {given!r}: {did_you_mean(str(given), choices)}"
            if isinstance(given, str)
            else f"{what} is {given!r}: it is one of {', '.join(choices)}"
        )

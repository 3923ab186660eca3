"""What command lines have in common: names, `key=value` overrides, and the options that mean the same everywhere."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from vaebm.errors import InputError


def argument(metavar: str, text: str) -> Any:
    """A word of the command line, by its place."""
    return typer.Argument(metavar=metavar, help=text, show_default=False)


def option(metavar: str, text: str, *flags: str) -> Any:
    """An option whose help says what holds unless it is given."""
    return typer.Option(*flags, metavar=metavar, help=text, show_default=False)


def number(flag: str, metavar: str, at_least: int, text: str, show_default: bool = False) -> Any:
    """An option that is a whole number."""
    parser = whole_number(flag, at_least)
    return typer.Option(flag, metavar=metavar, parser=parser, help=text, show_default=show_default)


def whole_number(option: str, at_least: int) -> Callable[[str], int]:
    """A parser for the value of `option` that says what it wants."""

    def parse(text: str) -> int:
        number = int(text) if re.fullmatch(r"[+-]?\d+", str(text)) else None
        if number is None or number < at_least:
            raise typer.BadParameter(f"{text!r} is not a whole number of at least {at_least}", param_hint=f"'{option}'")
        return number

    return parse


RunName = Annotated[str, argument("RUN", "A run: the folder made by training.")]

Overrides = Annotated[
    list[str] | None,
    argument("KEY=VALUE", "Values of the recipe, by their path in it: seed=1 energy_stage.learning_rate=1e-4"),
]

Device = Annotated[str | None, option("NAME", "Such as cpu or cuda:1; the best one there is unless given.")]

Seed = Annotated[int, number("--seed", "S", 0, "The same seed, the same samples.", show_default=True)]

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on standard error.")]

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def name_and_overrides(first: str, rest: Sequence[str] | None) -> tuple[str, list[str]]:
    """The one name among the words of a command, and its overrides; a name with an equals sign must exist as a path.

    >>> name_and_overrides("seed=1", ["digits", "sampler.kind=mala"])
    ('digits', ['seed=1', 'sampler.kind=mala'])
    """
    words = [first, *(rest or [])]
    names = [word for word in words if "=" not in word] or [word for word in words if Path(word).exists()]
    if not names:
        raise InputError(f"only overrides were given ({' '.join(words)}): name what they apply to as well")
    name, *others = names
    if others:
        raise InputError(f"'{others[0]}' is one name too many: write overrides as key=value, such as seed=1")
    words.remove(name)
    return name, words


def no_overrides(first: str, rest: Sequence[str] | None, reason: str) -> str:
    """The name, for commands to which overrides do not apply."""
    name, overrides = name_and_overrides(first, rest)
    if overrides:
        raise InputError(f"{overrides[0]} cannot be applied: {reason}")
    return name


def data_root_alone(first: str, rest: Sequence[str] | None, reason: str) -> tuple[str, list[str]]:
    """The name, and where the data lie now, for commands to which other overrides do not apply."""
    name, overrides = name_and_overrides(first, rest)
    no_overrides(name, [override for override in overrides if not override.startswith("data.root=")], reason)
    return name, overrides


def listed(names: str | None) -> list[str] | None:
    """The words between the commas of an option; None where it was not given."""
    return None if names is None else [word.strip() for word in names.split(",") if word.strip()]

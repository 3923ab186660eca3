"""Wording: counts, durations and near misses, said the same way everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def counted(count: int, noun: str) -> str:
    """A count with its noun in the right number.

    >>> counted(1, "weight"), counted(1200, "image"), counted(1_200_000, "class")
    ('1 weight', '1,200 images', '1,200,000 classes')
    """
    ending = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{ending}"


def duration(seconds: float) -> str:
    """A time in its natural unit.

    >>> [duration(s) for s in (3.14, 42, 250, 7500, 400_000)]
    ['3.1 s', '42 s', '4 min', '2.1 h', '5 days']
    """
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.1f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 72 * 3600 else f"{seconds / 86400:,.0f} days"


def enumerated(words: Sequence[str], first: int = 3) -> str:
    """The first words, and how many more there are.

    >>> enumerated(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    rest = len(words) - first
    return ", ".join(words[:first]) + (f" and {rest:,} more" if rest > 0 else "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The second half of a message about a name that does not exist.

    >>> did_you_mean("hmx", ["hmc", "mala"])
    "did you mean 'hmc'?"
    >>> did_you_mean("zebra", ["hmc", "mala"])
    'there are hmc, mala'
    """
    known = list(known)
    near = get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"

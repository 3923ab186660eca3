"""A data set by the name that recipes call it by."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from vaebm.data.splits import DataSettings
from vaebm.errors import InputError

USERS_OWN = "folder"


def settings_by_name(name: str, kinds: Mapping[str, type[DataSettings]]) -> DataSettings:
    """The settings of a set, all at their defaults.

    Raises:
        InputError: there is no such set.
    """
    if name in kinds and name != USERS_OWN:
        return kinds[name].model_validate({})
    names = sorted(set(kinds) - {USERS_OWN})
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
    raise InputError(f"there is no data set or path {name!r}: {hint}")

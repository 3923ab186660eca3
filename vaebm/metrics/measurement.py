"""A measurement: a number that carries what it takes to read it.

    value ± stderr, of `n` samples of `subject`, under `settings`

`stderr` is the standard error of `value` over the randomness that the metric's docstring names (0 where there is none).
Two measurements are compared by `difference`. Where both are of the same real data, their errors go together, and the
error of their difference is less than that of either. So a measurement keeps how much each of `BLOCKS` equal parts of
these data moves it (its influence, a mean of 0 over all), beside the error that it does not share:

    stderr(a - b)^2 = own_a^2 + own_b^2 + var(influence_a - influence_b) / BLOCKS

As JSON it is one flat object, so that tables, notebooks and other projects read it without this library:

    {"name": "frechet_distance", "subject": "vaebm", "value": 24.1, "stderr": 0.8, "n": 10000, "settings": {...}}
"""

import json
import math
import operator
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from vaebm.errors import InputError

# As they stand in JSON.
KEYS: Mapping[str, Any] = {"name": str, "subject": str, "value": float, "stderr": float, "n": int, "settings": dict}
BLOCKS = 20  # of the real data, whose influence a measurement keeps


@dataclass(frozen=True)
class Measurement:
    """One measured number; those of numpy and torch become plain ones.

    Raises:
        InputError: a number that is not finite, or settings that JSON cannot hold.
    """

    name: str  # what was measured, such as "frechet_distance"
    value: float  # finite
    stderr: float  # its standard error, finite, at least 0
    n: int  # how many samples it is of
    settings: dict[str, Any] = field(default_factory=dict)  # the protocol: features and their hash, split, seed, ...
    subject: str = ""  # whose samples: "vaebm", "vae", "held_out", ...

    def __post_init__(self) -> None:
        for name, plain in (("value", float), ("stderr", float), ("n", operator.index), ("settings", _plain)):
            object.__setattr__(self, name, plain(getattr(self, name)))
        if not (math.isfinite(self.value) and math.isfinite(self.stderr) and self.stderr >= 0):
            raise InputError(
                f"{self.name} came out as {self.value} ± {self.stderr}, which is no measurement: "
                "check that the samples are finite and differ from each other"
            )
        try:
            json.dumps(self.settings, allow_nan=False)
        except (TypeError, ValueError) as reason:
            raise InputError(
                f"the settings of {self.name} do not fit into JSON ({reason}): give finite numbers, strings, lists"
            ) from None

    def with_subject(self, subject: str) -> "Measurement":
        """The same number, said of `subject`."""
        return replace(self, subject=subject)

    def with_settings(self, **settings: Any) -> "Measurement":
        """The same number with more of its protocol; a setting named again is replaced."""
        return replace(self, settings=self.settings | settings)

    def to_json(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in KEYS} | {"settings": dict(self.settings)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Measurement":
        """Reads such an object; further keys (a results file adds recipe, seed, hardware, ...) are left aside.

        Raises:
            InputError: a key is missing or has a value of another type.
        """
        try:
            return cls(**{key: plain(record[key]) for key, plain in KEYS.items()})
        except KeyError as missing:
            raise InputError(
                f"a measurement lacks {missing}: it is damaged, or no measurement; measure again"
            ) from None
        except (TypeError, ValueError) as damage:
            if isinstance(damage, InputError):
                raise
            raise InputError("a measurement holds a value of a wrong type: it is damaged; measure again") from None

    @classmethod
    def mean_of(cls, draws: "Sequence[Measurement]") -> "Measurement":
        """The mean of one measurement of several draws of equal n, its standard error from their spread.

        One draw alone is returned as it is. Settings that differ from draw to draw are left out.
        """
        first, values = draws[0], [draw.value for draw in draws]
        if len(draws) == 1:
            return first
        spread = statistics.stdev(values)
        same = first.settings.items()
        settings = {key: value for key, value in same if all(draw.settings.get(key) == value for draw in draws)}
        settings |= {"draws": len(draws), "spread": spread, "stderr_over": "draws"}
        stderr = spread / math.sqrt(len(draws))
        return replace(first, value=statistics.fmean(values), stderr=stderr, settings=settings)

    def sharing(self, influence: torch.Tensor, own_stderr: float) -> "Measurement":
        """The same number with the influence (n,) of each of the real data on it, in their order.

        `own_stderr` is the error that has nothing to do with them.
        """
        if len(influence) < BLOCKS:
            return self
        parts = [float(part.mean()) for part in influence.tensor_split(BLOCKS)]
        return self.with_settings(influence_of_data=parts, own_stderr=own_stderr)

    def __str__(self) -> str:
        return f"{self.name} {self.value:.4g} ± {self.stderr:.2g} (n = {self.n:,})"


def difference(ours: Measurement, theirs: Measurement) -> tuple[float, float]:
    """How much larger ours is, and the standard error of that: paired where both are of the same real data."""
    influences = [m.settings.get("influence_of_data") for m in (ours, theirs)]
    same = all(ours.settings.get(key) == theirs.settings.get(key) for key in ("split", "reference_n", "features"))
    if influences[0] is None or influences[1] is None or not same:
        return ours.value - theirs.value, math.hypot(ours.stderr, theirs.stderr)
    shared = statistics.stdev(a - b for a, b in zip(*influences, strict=True)) / math.sqrt(len(influences[0]))
    own = (m.settings["own_stderr"] for m in (ours, theirs))
    return ours.value - theirs.value, math.hypot(*own, shared)


def _plain(value: Any) -> Any:
    """Numbers and arrays of numpy and torch as Python's own, as they come back from JSON."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value.tolist() if isinstance(value, np.generic | np.ndarray | torch.Tensor) else value

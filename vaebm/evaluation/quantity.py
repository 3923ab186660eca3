"""A quantity: what people call a measured number, its unit, which way is better, and how it is written.

A number is written with as many digits as its standard error makes worth reading, by the Particle Data Group's rule:
two of the error's where they are at most 35, else one (12.43 ± 0.14, 19.9 ± 0.8).
"""

import math
from dataclasses import dataclass
from typing import Literal

from vaebm.metrics.measurement import Measurement

MAX_DECIMALS = 4
NO_BREAK = "\u00a0"  # a space at which no line ends


@dataclass(frozen=True)
class Quantity:
    """One measured quantity.

    Args:
        name: in measurements.json.
        title: at the start of a row.
        phrase: in a sentence, with its article.
        unit: after the number; "" where it has none.
        better: which way; "held_out" where closer to held-out data is; None where there is none.
        factor: from the stored number to the shown one.
        whole: whether it counts something.
    """

    name: str
    title: str
    phrase: str
    unit: str = ""
    better: Literal["lower", "higher", "held_out"] | None = None
    factor: float = 1.0
    whole: bool = False

    @property
    def arrow(self) -> str:
        """↓ where lower is better, ↑ where higher is."""
        return {"lower": "↓", "higher": "↑"}.get(self.better or "", "")

    def said(self, measured: Measurement) -> str:
        """Number, error and unit, as in a sentence."""
        value, stderr = written(measured.value * self.factor, measured.stderr * self.factor, 0 if self.whole else None)
        words = [value, *(["±", stderr] if stderr else []), *([self.unit] if self.unit else [])]
        return NO_BREAK.join(words)


def decimals(stderr: float) -> int | None:
    """Digits after the point that a standard error leaves; None where it is too small to say."""
    if stderr < 0.5 * 10.0**-MAX_DECIMALS:
        return None
    exponent = math.floor(math.log10(stderr))
    return min(MAX_DECIMALS, max(0, -exponent + (stderr / 10.0**exponent < 3.55)))


def written(value: float, stderr: float, digits: int | None = None) -> tuple[str, str]:
    """Number and standard error, the latter "" where it rounds to nothing; `digits` after the point, if given.

    >>> written(19.93, 0.81), written(-0.06748, 0.0097), written(25.0, 0.1, 0), written(23.934, 0.0)
    (('19.9', '0.8'), ('−0.067', '0.010'), ('25', ''), ('23.9', ''))
    """
    digits = decimals(stderr) if digits is None else digits
    if digits is None:
        return _minus(f"{value:,.0f}" if value == round(value) else f"{value:.3g}"), ""
    error = f"{stderr:.{digits}f}"
    return _minus(f"{value:,.{digits}f}"), error if float(error) else ""


def _minus(number: str) -> str:
    return number.replace("-", "−")

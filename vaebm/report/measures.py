"""Measures: what people call a measured quantity, its unit, which way is better, and how its numbers are written.

A number is written with as many digits as its standard error makes worth reading, by the Particle Data Group's
rule: two of the error's where they are at most 35, else one (12.43 ± 0.14, 19.9 ± 0.8).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from vaebm.metrics.measurement import Measurement

MAX_DECIMALS = 4
NO_BREAK = "\u00a0"  # a space at which no line ends


@dataclass(frozen=True)
class Measure:
    """One measured quantity.

    Args:
        title: at the start of a row.
        phrase: in a sentence, with its article.
        unit: after the number; "" where it has none.
        better: which way; None where neither is.
        factor: from the stored number to the shown one.
        whole: whether it counts something.
        of_samples: whether it looks at samples as they are shown.
    """

    title: str
    phrase: str
    unit: str = ""
    better: Literal["lower", "higher"] | None = None
    factor: float = 1.0
    whole: bool = False
    of_samples: bool = True

    @property
    def arrow(self) -> str:
        """↓ where lower is better, ↑ where higher is."""
        return {"lower": "↓", "higher": "↑", None: ""}[self.better]

    def said(self, measured: Measurement) -> str:
        """Number, error and unit, as in a sentence."""
        value, stderr = written(measured.value * self.factor, measured.stderr * self.factor, 0 if self.whole else None)
        words = [value, *(["±", stderr] if stderr else []), *([self.unit] if self.unit else [])]
        return NO_BREAK.join(words)


MEASURES = {
    "frechet_distance": Measure("Fréchet distance", "the Fréchet distance to the training data", better="lower"),
    "kernel_distance": Measure("kernel distance", "the kernel distance to the training data", better="lower"),
    "precision": Measure("precision", "the share of samples among the data", "%", "higher", 100.0),
    "recall": Measure("recall", "the share of the data among samples", "%", "higher", 100.0),
    "density": Measure("density", "the density of the data about samples", better="higher"),
    "coverage": Measure("coverage", "the share of the data with samples nearby", "%", "higher", 100.0),
    "pixels_between_ends": Measure(
        "pixels between ends", "the share of pixels between black and white", "%", factor=100.0
    ),
    "class_gap": Measure("class gap", "the largest difference of class shares from the data's", "%", "lower", 100.0),
    "log_likelihood": Measure(
        "log-likelihood", "the log-likelihood of held-out points", "nats", "higher", of_samples=False
    ),
    "log_z": Measure("log Z", "the log-normaliser of the energy", "nats", of_samples=False),
    "modes_covered": Measure("modes covered", "the number of modes covered", better="higher", whole=True),
    "within_three_sigma": Measure("within 3 σ of a mode", "the share within 3 σ of a mode", "%", "higher", 100.0),
    "mode_kl": Measure("KL of mode shares", "the KL divergence of mode shares", "nats", "lower"),
    "elbo": Measure("ELBO", "the ELBO of held-out data", "nats", "higher", of_samples=False),
    "seconds_per_thousand": Measure("time for 1,000 samples", "the time to draw 1,000 samples", "s", "lower"),
}


def measure(name: str) -> Measure:
    """What is known of a measurement's name; an unknown one is called by its own words."""
    words = name.replace("_", " ")
    return MEASURES.get(name) or Measure(words, f"the {words}")


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

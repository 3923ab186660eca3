"""The table of samplers: the colour of each on every chart, and its numbers as they are written.

Colours are Okabe and Ito's and shades of them; chains with an accept step are blue and green, those without warm,
the rest purple and grey.
"""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from vaebm.evaluation.metric import quantity as quantity_of
from vaebm.evaluation.quantity import written

Row = Mapping[str, Any]

COLOURS = {
    "recipe": "#1f2937",
    "langevin": "#e69f00",
    "underdamped": "#d55e00",
    "mala": "#56b4e9",
    "hmc": "#0072b2",
    "mclmc": "#b8860b",
    "adjusted_mclmc": "#009e73",
    "tempering": "#117733",
    "block_gibbs": "#882255",
    "importance": "#cc79a7",
    "smc": "#7b3294",
}


@dataclass(frozen=True)
class Column:
    """A column of quality: the measurement, its title, its heading in a narrow column, which way is better."""

    name: str
    title: str
    heading: str
    better: str
    percent: bool = False

    def cell(self, row: Row) -> tuple[str, str]:
        """Number and standard error."""
        factor = 100.0 if self.percent else 1.0
        value = row["quality"][self.name] * factor
        if self.name in ("modes_covered", "mode_chi_square"):
            return f"{value:.{0 if self.name == 'modes_covered' else 1}f}", ""
        if self.name == "mode_chi_square_p":
            return (f"{value:.2g}" if value >= 1e-4 else "< 0.0001"), ""
        return written(value, row["quality_stderr"][self.name] * factor)


COLUMNS = (
    Column("frechet_distance", "Fréchet distance", "Fréchet\ndistance", "↓"),
    Column("kernel_distance", "kernel distance", "kernel\ndistance", "↓"),
    Column("model_kl", "KL from the mode probabilities, nats", "KL,\nnats", "↓"),
    Column("energy_shift", "mean energy less the model's, nats", "energy\noff by", "→ 0"),
    Column("modes_covered", "modes covered", "\nmodes", "↑"),
    Column("within_three_sigma", "within 3 σ, %", "within\n3 σ, %", "↑", percent=True),
    Column("mode_chi_square_p", "p of the proportions", "propor-\ntions p", "↑"),
)


def colour(sampler: str) -> str:
    """Of its marks."""
    return COLOURS.get(sampler, "#6b7280")


def columns_of(rows: Sequence[Row]) -> list[Column]:
    """Those that the rows have."""
    return [column for column in COLUMNS if all(column.name in row["quality"] for row in rows)]


def axis_title(name: str) -> str:
    """What a measurement is called on an axis."""
    return next((quantity.title for quantity in COLUMNS if quantity.name == name), quantity_of(name).title)


def short(value: float | None, digits: int = 3) -> str:
    """A number without an error, to so many digits; a dash where there is none.

    >>> short(0.00971, 2), short(359.2, 2), short(1.0), short(None)
    ('0.0097', '359', '1.00', '–')
    """
    if value is None:
        return "–"
    if value == 0 or not 1e-6 < abs(value) < 1e6:
        return f"{value:.2g}"
    after = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:,.{min(max(after, 0), 6)}f}".replace("-", "−")


def advised(rows: Sequence[Row]) -> Row | None:
    """The row with the advice."""
    return next((row for row in rows if "advice" in row), None)


def command(row: Row, run: str) -> str:
    """The command that draws with a sampler; "" where no recipe can say it."""
    words = row["settings"]["overrides"]
    if not words and row["sampler"] != "recipe":
        return ""
    return shlex.join(["vaebm", "sample", run, "--n", "1000", "--out", "samples.npz", *words])


def samplers_table(rows: Sequence[Row]) -> Table:
    """The table for a terminal, with the advice below it."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, caption_justify="left", caption_style="")
    table.add_column("", no_wrap=True)
    shown = [column for column in columns_of(rows) if column.name != "kernel_distance"]
    for heading in (*(f"{column.heading} {column.better}" for column in shown), *HEADINGS):
        table.add_column(heading, justify="right", vertical="bottom", no_wrap=True)
    chosen = advised(rows)
    for row in rows:
        cells = [" ± ".join(part for part in column.cell(row) if part) for column in shown]
        table.add_row(row["sampler"], *cells, *numbers(row), style="bold" if row is chosen else "")
    if chosen is not None:
        table.caption = Text(chosen["advice"], style="bold")
    return table


NUMBERS = ("gradients", "acceptance", "ESS per 1,000 gradients", "ESS per second", "R‑hat", "R‑hat of the starts")
HEADINGS = ("gradi-\nents", "accept-\nance", "ESS per\n1,000 g", "ESS\nper s", "\nR-hat", "R-hat of\nstarts")


def numbers(row: Row) -> list[str]:
    """What the table says beside the quality."""
    per_gradient = row["ess_per_gradient"]
    return [
        f"{row['gradients']:,}",
        short(row["acceptance"], 2),
        short(None if per_gradient is None else 1000 * per_gradient, 2),
        short(row["ess_per_second"], 2),
        short(row["rhat"]),
        short(row["rhat_between_starts"]),
    ]

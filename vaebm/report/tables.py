"""The table of measurements: one row a measure and protocol, one column a subject, the floor first.

    value     of the subject, in the row's unit
    ±stderr   below it; a difference of less than about two of them is none

It fits 80 columns of a terminal. Below it stand the verdict in words and the protocols.
`measurement_rows` is the same table as data, for the page.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from vaebm.evaluation.metric import is_shown, quantity
from vaebm.evaluation.quantity import Quantity, decimals, written
from vaebm.metrics.measurement import Measurement
from vaebm.report.subjects import FLOORS, SHOWN, in_order, subject
from vaebm.report.verdict import verdict
from vaebm.wording import counted

NARROWEST = 72  # columns, so that sentences below a small table are not broken into a ribbon
LEGEND = "↓ lower is better, ↑ higher is better; ± one standard error; the best of the models is bold."
NO_MODELS = (*FLOORS, "reconstruction")
DETAIL_OF_SHOW = {"sample": "with pixel noise", "mean": "means", "scaled": "best noise"}


@dataclass(frozen=True)
class TableRow:
    """Measurements of one name by one protocol."""

    measure: Quantity  # what was measured
    cells: dict[str, tuple[str, str]]  # by subject, each the number and its standard error as they are written
    measurements: dict[str, Measurement]  # by subject, as they were stored
    shown: str = ""  # how samples are shown, where another row has the same shown otherwise; else ""

    @property
    def title(self) -> str:
        """What was measured, and which way is better: 'Fréchet distance ↓'."""
        return f"{self.measure.title} {self.measure.arrow}".strip()

    @property
    def detail(self) -> str:
        """Unit, features, and what tells the row from its likes: 'classifier features, means'."""
        features = {str(m.settings["features"]) for m in self.measurements.values() if "features" in m.settings}
        labels = {
            f"{m.settings['labels']} labels a class" for m in self.measurements.values() if "labels" in m.settings
        }
        words = [self.measure.unit, *(f"{name} features" for name in sorted(features)), *sorted(labels), self.shown]
        return ", ".join(filter(None, words))

    @property
    def best(self) -> str | None:
        """Of the models in the row, the one with the best number; None where there is nothing to choose."""
        models = {key: m.value for key, m in self.measurements.items() if key not in NO_MODELS}
        if self.measure.better not in ("lower", "higher") or len(set(models.values())) < 2:
            return None
        return (min if self.measure.better == "lower" else max)(models, key=lambda key: models[key])

    @property
    def protocol(self) -> str:
        """How the numbers came about, in words."""
        return "; ".join([*_settings_text(self), *_sizes(self.measurements)])


def measurement_rows(measurements: Sequence[Measurement]) -> list[TableRow]:
    """Rows in the order of measuring; measurements that differ in features, labels or what is shown are apart."""
    groups: dict[tuple[str, Any, Any], list[Measurement]] = {}
    for measured in measurements:
        key = (measured.name, measured.settings.get("features"), measured.settings.get("labels"))
        groups.setdefault(key, []).append(measured)
    rows = []
    for (name, _, _), group in groups.items():
        what = quantity(name)
        shows = list(dict.fromkeys(m.settings["show"] for m in group if "show" in m.settings)) or [None]
        for show in shows:
            chosen = {m.subject: m for m in group if m.settings.get("show", show) == show}
            shown = DETAIL_OF_SHOW.get(show, show) if len(shows) > 1 else ""
            rows.append(TableRow(what, _cells(what, chosen), chosen, shown))
    return rows


def _cells(what: Quantity, chosen: dict[str, Measurement]) -> dict[str, tuple[str, str]]:
    """Numbers as they are written, with equally many digits in all of a row."""
    found = [digits for m in chosen.values() if (digits := decimals(m.stderr * what.factor)) is not None]
    digits = 0 if what.whole else max(found, default=None)
    return {key: written(m.value * what.factor, m.stderr * what.factor, digits) for key, m in chosen.items()}


def columns(rows: Sequence[TableRow]) -> list[str]:
    """Subjects that have a number in any of the rows, in order."""
    return in_order({key for row in rows for key in row.cells})


def measurements_table(measurements: Sequence[Measurement]) -> Table:
    """The table for a terminal, at least 80 columns wide."""
    rows = measurement_rows(measurements)
    keys = columns(rows)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False, caption_justify="left", caption_style="")
    table.min_width = NARROWEST
    table.add_column("", ratio=1)
    for key in keys:
        table.add_column(subject(key).heading, justify="right", vertical="bottom", no_wrap=True)
    for row in rows:
        cells = []
        for key in keys:
            value, stderr = row.cells.get(key, ("–", ""))
            style = "bold" if key == row.best else ""
            cells.append(Text.assemble((value, style), "\n", (f"±{stderr}" if stderr else "", "dim")))
        table.add_row(Text.assemble(row.title, "\n", (row.detail, "dim")), *cells)
    notes = [LEGEND, *(f"{titles}: {protocol}." for titles, protocol in protocols(rows))] if rows else []
    table.caption = Text.assemble((verdict(measurements).sentence, "bold"), *((f"\n{note}", "dim") for note in notes))
    return table


def protocols(rows: Sequence[TableRow]) -> list[tuple[str, str]]:
    """How the numbers came about: the titles of all the rows of one protocol, and that in words."""
    titles: dict[str, list[str]] = {}
    for row in rows:
        titles.setdefault(row.protocol, []).append(row.measure.title)
    return [(", ".join(dict.fromkeys(named)), protocol) for protocol, named in titles.items()]


def _settings_text(row: TableRow) -> list[str]:
    """The settings of a row, as far as people want to read them."""
    settings = [m.settings for m in row.measurements.values()]
    words = []
    if sizes := {s["reference_n"] for s in settings if "reference_n" in s}:
        split = "test" if any(s.get("split") == "test" for s in settings) else "training"
        words.append(f"against {max(sizes):,} images of the {split} split")
    if any(s.get("method") == "quadrature" for s in settings):
        error = max(float(s.get("error", 0.0)) for s in settings)
        words.append("exact, by quadrature" + (f" with an error below {error:.1g} nats" if error else ""))
    shows = {s["show"] for s in settings if "show" in s}
    if shows and is_shown(row.measure.name):
        words.append(f"shown {SHOWN.get(min(shows), min(shows))}")
    scales = {key: m.settings["noise_scale"] for key, m in row.measurements.items() if "noise_scale" in m.settings}
    if scales:
        words.append(", ".join(f"{subject(key).label} {scales[key]:.2g}" for key in in_order(set(scales))))
    if worst := {key: m.settings["worst"] for key, m in row.measurements.items() if "worst" in m.settings}:
        words += [_worst_columns(key, worst[key]) for key in in_order(set(worst) - {*NO_MODELS})[-1:]]
    if devices := {s["device"] for s in settings if "device" in s}:
        words.append(f"on {', '.join(sorted(devices))}")
        if threads := {s["threads"] for s in settings if "threads" in s and s["device"] == "cpu"}:
            words[-1] += f" with {counted(max(threads), 'thread')}"
    if seeds := {s["seed"] for s in settings if "seed" in s}:
        words.append(f"seed {min(seeds)}")
    return words


def _worst_columns(key: str, worst: Sequence[tuple[str, float, float]]) -> str:
    """Columns that a test tells apart best, of one subject."""
    listed = [f"{name} {distance:.3f} (p {p_value:.2g})" for name, distance, p_value in worst]
    return f"worst of {subject(key).label}: {', '.join(listed)}"


def _sizes(measurements: dict[str, Measurement]) -> list[str]:
    """n, and the number of draws, for all subjects at once where they agree."""
    said: dict[str, list[str]] = {}
    for key, m in measurements.items():
        draws = int(m.settings.get("draws", 1)) if m.settings.get("stderr_over") == "draws" else 1
        said.setdefault(f"n = {m.n:,}" + (f", mean of {draws} draws" if draws > 1 else ""), []).append(key)
    if len(said) == 1:
        return list(said)
    return [f"{words} ({', '.join(subject(key).label for key in in_order(set(keys)))})" for words, keys in said.items()]

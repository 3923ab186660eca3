"""Rows of tables: columns, correlations and tails of samples beside those of held-out rows."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaebm.metrics.two_samples import column_tests, rank_correlations
from vaebm.report.figures import columns as figures
from vaebm.report.report_data import ReportData
from vaebm.report.section import Figure, Row, Section
from vaebm.report.sections.samples import refusals
from vaebm.report.subjects import FLOORS, subject, with_energy
from vaebm.wording import counted, enumerated

MOST_COLUMNS, MOST_CORRELATED = 12, 16
Table = Mapping[str, NDArray[Any]]


def columns_section(report: ReportData) -> Section | None:
    """Columns that tests tell apart best; None for other data."""
    columns = report.data.columns
    if columns is None:
        return None
    own, title = with_energy(report.subjects), "What the models make of noise"
    tables = {
        key: columns.decode(x.numpy())
        for key in (*FLOORS, "vae_mixture", own.key)
        if key in report.subjects and (x := report.samples(key)) is not None
    }
    floor = next((key for key in FLOORS if key in tables), None)
    if floor is None or own.key not in tables:
        return Section("samples", title, refusals(report))
    tests = column_tests(tables[own.key], tables[floor])
    passed = sum(test.passes for test in tests)
    worst = [f"{test.name} ({test.distance:.3f}, p {test.p_value:.2g})" for test in tests]
    said = (
        f"{report.origin}. Of {counted(len(tests), 'column')} of {own.name}, {passed} pass a test against held-out rows"
        " at 1 %: Kolmogorov and Smirnov's for numbers, chi-square for categories. Those that fit worst, with the"
        f" distance of the two laws, from 0 to 1, and the p-value: {enumerated(worst)}."
    )
    sentences = [said, *refusals(report)]
    names = [test.name for test in tests][:MOST_COLUMNS]
    rows = [Row([Figure(figures.legend(list(tables)), "These are the colours of all pictures below.")], 300, 560)]
    rows.append(Row([_column(name, tables) for name in names], 260, 380, _shared(len(tests))))
    rows += [row for row in (_correlations(tables, floor, own.key), _tail(tables, floor)) if row is not None]
    return Section("samples", title, sentences, rows)


def _shared(count: int) -> str:
    few = f" The {MOST_COLUMNS} that fit worst are shown." if count > MOST_COLUMNS else ""
    return f"The lines and bars of samples should lie on those of held-out rows, up to chance.{few}"


def _column(name: str, tables: Mapping[str, Table]) -> Figure:
    columns = {key: table[name] for key, table in tables.items()}
    numbers = all(values.dtype.kind == "f" for values in columns.values())
    if not numbers:
        return Figure(figures.column_of_names(name, columns), "Shares of categories.")
    gone = {key: float(np.isnan(values).mean()) for key, values in columns.items()}
    missing = ", ".join(f"{share:.1%} of {subject(key).name}" for key, share in gone.items())
    said = f"Missing: {missing}." if any(gone.values()) else "Shares of rows."
    return Figure(figures.column_of_numbers(name, columns), said)


def _correlations(tables: Mapping[str, Table], floor: str, own: str) -> Row | None:
    names = [name for name, values in tables[floor].items() if values.dtype.kind == "f"][:MOST_CORRELATED]
    if len(names) < 2:
        return None
    first, second = (rank_correlations({name: tables[key][name] for name in names}) for key in (floor, own))
    gap = np.abs(first - second)
    i, j = np.unravel_index(int(np.nanargmax(gap)), gap.shape)
    caption = (
        "Rank correlations of columns of numbers. On the right is the difference of the two, which is largest for"
        f" {names[i]} with {names[j]}: {gap[i, j]:.3f}."
    )
    pictures = [
        Figure(figures.correlations(names, title, matrix), words, title)
        for title, matrix, words in (
            (subject(floor).label, first, "As it should be."),
            (subject(own).label, second, "Of samples."),
            ("difference", first - second, "White where there is none."),
        )
    ]
    return Row(pictures, 260, 420, caption)


def _tail(tables: Mapping[str, Table], floor: str) -> Row | None:
    """Of the column that reaches farthest beyond its quartiles."""
    reach = {}
    for name, values in tables[floor].items():
        if values.dtype.kind == "f":
            low, middle, high, far = np.quantile(values[~np.isnan(values)], [0.25, 0.5, 0.75, 0.99])
            reach[name] = (far - middle) / (high - low) if high > low else 0.0
    if not reach:
        return None
    name = max(reach, key=lambda name: reach[name])
    caption = (
        f"{name} has the heaviest upper tail of all columns: its 99 % quantile lies {reach[name]:.1f} times the"
        " distance of the quartiles above the median. Each dot is a quantile, and the last ones are of a handful of"
        " rows. Above the dotted line samples reach too far, and below it not far enough."
    )
    picture = figures.tail(name, {key: table[name] for key, table in tables.items()})
    return Row([Figure(picture, caption, "The heaviest tail")], 300, 620)

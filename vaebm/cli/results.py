"""Measurements on standard output: a table for a person, JSON for a program."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from vaebm.metrics.measurement import Measurement

COLUMNS_OF_A_FILE = 160
"""The width of a table that goes to a file or a pipe."""


def print_table(table: Table) -> None:
    """Print a table as wide as the terminal."""
    from rich.console import Console

    Console(file=sys.stdout, width=None if sys.stdout.isatty() else COLUMNS_OF_A_FILE).print(table)


def show_measurements(measurements: Sequence[Measurement], as_json: bool) -> None:
    """Print the measurements as `measurements.json` holds them, or as a table."""
    if as_json:
        typer.echo(json.dumps([measurement.to_json() for measurement in measurements], indent=2))
        return
    from vaebm.report.tables import measurements_table

    print_table(measurements_table(measurements))
